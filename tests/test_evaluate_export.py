"""Export: files that say what torch says, stand alone, and are refused where they would not."""

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from finished import clips_with_sound, finished_run, read
from test_imports import lean_site
from torch.nn import functional

import evaluate.export.cli
import model
from cache.files import sha256_file
from cache.ravdess import EMOTIONS
from cache.reader import Cache
from cache.schema import FIELDS
from evaluate.export.agreement import Agreement, compare, random_batches
from evaluate.export.cli import DisagreementError, export, main
from evaluate.export.graph import Standalone, resize_bytes, resize_weights
from model.checkpoint import load_trained


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return clips_with_sound(tmp_path_factory.mktemp("export") / "cache")


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """A finished run of cfn_sr on RAVDESS, as far as it says itself."""
    origin = {"dataset": "RAVDESS speech", "schema_version": 2}
    origin["fingerprint"] = Cache(cache).manifest["fingerprint"]
    return finished_run(tmp_path_factory.mktemp("runs"), cache, cache=origin)


@pytest.fixture(scope="module")
def exported(run, cache, tmp_path_factory):
    """The file of that run, checked on the cache."""
    out = tmp_path_factory.mktemp("exported") / "new" / "model.onnx"
    assert call(run / "last.pt", out, cache) == 0
    return out


def call(checkpoint, out, cache=None):
    more = [] if cache is None else ["--cache", str(cache)]
    return main(["--checkpoint", str(checkpoint), "--out", str(out), *more])


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def changed(run, folder, **entries):
    """A copy of a run's checkpoint with other entries; settings of `config` are replaced alone."""
    state = torch.load(run / "last.pt", weights_only=True)
    entries["config"] = state["config"] | entries.get("config", {})
    torch.save(state | entries, folder / "last.pt")
    return folder / "last.pt"


@pytest.mark.parametrize("name", model.NAMES)
def test_every_network_exports_and_says_of_cached_clips_what_torch_says(name, cache, tmp_path):
    run = finished_run(tmp_path, cache, name)
    out = tmp_path / "model.onnx"
    assert call(run / "last.pt", out) == 0
    session = session_of(out)
    assert tuple(each.name for each in session.get_inputs()) == model.inputs(name)
    for each in session.get_inputs():
        assert each.shape == ["batch", *FIELDS[each.name].shape]
    opened, trained = Cache(cache), load_trained(run / "last.pt")
    for clip in opened.clips[::3]:
        fields = read(opened, name, clip)
        (got,) = session.run(["probabilities"], {key: x.numpy() for key, x in fields.items()})
        assert np.abs(got - trained.probabilities(fields).numpy()).max() <= 1e-4


def test_a_run_tested_in_bfloat16_is_exported_and_checked_in_float32(run, tmp_path):
    checkpoint = changed(run, tmp_path, config={"precision": "bfloat16"})
    out = tmp_path / "model.onnx"
    assert call(checkpoint, out) == 0
    assert "tested in bfloat16, this file computes in float32" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize(("before", "after"), [(224, 56), (224, 112), (224, 100), (300, 56)])
def test_bytes_are_resized_to_the_values_that_torch_gives(before, after):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, before, before), np.uint8)
    pictures[0], pictures[1] = 255, 0
    pictures = torch.from_numpy(pictures)
    expected = functional.interpolate(pictures, (after, after), mode="bilinear", antialias=True)
    got = resize_bytes(pictures.float(), resize_weights(before, after))
    assert torch.equal(got, expected.float())


def test_the_card_s_lines_run_without_this_project(exported, tmp_path):
    """In an interpreter that sees onnxruntime and numpy, and no package of ours."""
    (tmp_path / "site").mkdir()
    site = lean_site(tmp_path / "site", {"onnxruntime", "numpy"})
    (lines,) = re.findall(r"```python\n(.*?)```", exported.with_suffix(".md").read_text(), re.S)
    assert len(lines.strip().splitlines()) <= 11
    script = (
        f"import sys; sys.path[:0] = [{str(site)!r}]\n{lines}\n"
        "from importlib.util import find_spec\n"
        "ours = ('cache', 'model', 'preprocess', 'train', 'evaluate', 'torch')\n"
        "assert not any(map(find_spec, ours)) and not set(ours) & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys._base_executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        cwd=exported.parent,
    )
    assert done.returncode == 0, done.stderr
    shown = dict(line.split() for line in done.stdout.splitlines())
    assert tuple(shown) == EMOTIONS
    assert sum(map(float, shown.values())) == pytest.approx(1, abs=0.005)


def test_the_file_is_one_and_names_its_source(exported, run, cache):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["model.md", "model.onnx"]
    about = session_of(exported).get_modelmeta().custom_metadata_map
    assert about["emotions"] == ",".join(EMOTIONS)
    assert about["checkpoint_sha256"] == sha256_file(run / "last.pt")
    assert about["cache_fingerprint"] == Cache(cache).manifest["fingerprint"]
    said = [about[name] for name in ("model", "preset", "split", "fold", "test_actors")]
    assert said == ["cfn_sr", "tiny", "paper", "0", "1,2,3,4"]
    assert "CC BY-NC-SA 4.0" in about["licence"]
    file = onnx.load(exported)
    onnx.checker.check_model(file, full_check=True)
    assert not any(node.metadata_props for node in file.graph.node)
    assert ".py" not in exported.read_bytes().decode("latin-1")


def test_the_card_has_the_last_epoch_its_interval_and_the_limits(exported, run):
    card = exported.with_suffix(".md").read_text()
    evaluated = evaluate.export.cli.result_beside(run / "last.pt", load_trained(run / "last.pt"))[0]
    low, high = evaluated.interval
    assert f"Accuracy: **{100 * evaluated.accuracy:.2f} %** at the last epoch on 8 clips" in card
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f} %" in card
    assert "Best on test: 100.00 % at epoch 1" in card
    for said in ("24 professional actors", "CC BY-NC-SA 4.0", "not for decisions about people"):
        assert said in card
    assert "on clips of the fold's test actors" in card


def test_the_same_checkpoint_gives_the_same_bytes(exported, run, cache, capsys):
    before = exported.read_bytes(), exported.with_suffix(".md").read_bytes()
    assert call(run / "last.pt", exported, cache) == 0
    assert "(unchanged)" in capsys.readouterr().out
    assert (exported.read_bytes(), exported.with_suffix(".md").read_bytes()) == before


def test_a_file_that_disagrees_takes_no_place(run, tmp_path):
    trained = load_trained(run / "last.pt")
    other = load_trained(run / "last.pt")
    other.net.head.bias.data[0] += 1e-3
    out = tmp_path / "model.onnx"
    out.write_text("what was there")
    with pytest.raises(
        DisagreementError, match=r"differ by .* in logits, expected at most 0\.0001"
    ):
        export(Standalone(other).eval(), trained, out, random_batches("cfn_sr"), {})
    assert out.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [out]


def test_a_disagreement_is_one_line_and_status_1(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate.export.cli, "compare", lambda *_: Agreement(4, 0.0, float("nan")))
    assert call(run / "last.pt", tmp_path / "model.onnx") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_measures_probabilities_and_logits_apart(run, exported):
    """A constant on all logits leaves the probabilities; statistics of MFCCs change both."""
    trained, batches = load_trained(run / "last.pt"), random_batches("cfn_sr")
    assert compare(exported, trained, batches).holds
    trained.net.head.bias.data += 100.0
    shifted = compare(exported, trained, batches)
    assert shifted.probabilities < 1e-4 < 0.5 < shifted.logits < 2
    prepare = replace(trained.prepare, mfcc_std=2 * trained.prepare.mfcc_std)
    trained = replace(load_trained(run / "last.pt"), prepare=prepare)
    assert compare(exported, trained, batches).probabilities > 1e-3


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"epoch": 1}, "is of epoch 1, its run has 2"),
        ({"config": {"validation": True}}, "is of a run with --validate"),
        ({"config": {"fold": 1}}, "test_actors has"),
        ({"config": {"cache": "none"}}, "cache.dataset is missing"),
        ({"config": {"recipe": "a\nb"}}, "recipe is 'a"),
        ({"model": {}}, "not a whole checkpoint"),
    ],
)
def test_a_checkpoint_that_is_no_result_is_refused(run, entries, match, tmp_path, capsys):
    checkpoint = changed(run, tmp_path, **entries)
    assert call(checkpoint, tmp_path / "model.onnx") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert match in line
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_file_that_holds_code_or_nothing_is_refused(tmp_path, capsys):
    checkpoint = tmp_path / "last.pt"
    for content in (pickle.dumps(SimpleNamespace()), b"", b"\x00" * 100):
        checkpoint.write_bytes(content)
        assert call(checkpoint, tmp_path / "model.onnx") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    checkpoint.unlink()
    assert call(checkpoint, tmp_path / "model.onnx") == 2
    assert "last.pt: no such file" in capsys.readouterr().err


def test_a_place_that_is_none_is_refused_before_any_work(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    for out, match in (
        (tmp_path / "model.pt", "ends in .onnx"),
        (tmp_path / "file" / "model.onnx", "cannot be a folder"),
    ):
        assert call(run / "last.pt", out) == 2
        assert match in capsys.readouterr().err


def test_only_the_test_clips_of_the_run_s_own_cache_are_checked_on(
    run, fold_cache, tmp_path, capsys
):
    assert call(run / "last.pt", tmp_path / "model.onnx", fold_cache) == 2
    assert "Name the cache of its run" in capsys.readouterr().err
    other = clips_with_sound(tmp_path / "cache", actors=(5,))
    assert call(run / "last.pt", tmp_path / "model.onnx", other) == 2
    assert "no clip of the test actors [1, 2, 3, 4]" in capsys.readouterr().err


def test_a_checkpoint_away_from_its_run_has_no_accuracy_in_its_card(run, tmp_path, capsys):
    checkpoint = changed(run, tmp_path, config={"init": {"video": {"file": "x", "run": None}}})
    assert call(checkpoint, tmp_path / "model.onnx") == 0
    assert "no accuracy goes into the card" in capsys.readouterr().err
    card = (tmp_path / "model.md").read_text()
    assert "Not known here" in card
    assert "Accuracy: " not in card
    assert "it may have seen the" in card


def test_a_run_that_is_another_s_gives_no_accuracy(run, tmp_path):
    for name in ("config.json", "metrics.jsonl", "predictions.csv"):
        folder = tmp_path / "cfn_sr" / "fold_0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((run / name).read_bytes())
    for config in ({"seed": 1}, {"more": torch.zeros(1)}):
        checkpoint = changed(run, folder, config=config)
        result, why_not = evaluate.export.cli.result_beside(checkpoint, load_trained(checkpoint))
        assert result is None
        assert "its config.json differs" in why_not
