"""Export: files that agree with torch, run without this project, and are refused otherwise."""

import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache as once
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from finished import clips_with_sound, finished_run, read
from media import contents
from test_imports import lean_site
from torch.nn import functional

import model
from cache.files import sha256_file
from cache.ravdess import EMOTIONS, FULL_AV_ORIGIN, actors_of
from cache.reader import Cache
from cache.schema import FIELDS
from evaluate.export.cli import main
from evaluate.export.graph import compare, random_fields, resize_bytes, resize_weights
from evaluate.measures import interval_over_actors
from train import record


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return clips_with_sound(tmp_path_factory.mktemp("export") / "cache")


@pytest.fixture(scope="module")
def exported(cache, tmp_path_factory):
    """Exports a network by name, checked on the cache: its checkpoint and the file, made once."""
    origin = {"dataset": FULL_AV_ORIGIN["dataset"], "config": {}, "schema_version": 2}
    origin["fingerprint"] = Cache(cache).manifest["fingerprint"]

    @once
    def export(name):
        folder = tmp_path_factory.mktemp(name)
        checkpoint = finished_run(folder, cache, name, cache=origin) / record.CHECKPOINT
        assert call(checkpoint, folder / "new" / "model.onnx", "--cache", cache) == 0
        return checkpoint, folder / "new" / "model.onnx"

    return export


def call(checkpoint, out, *more):
    return main([*map(str, ("--checkpoint", checkpoint, "--out", out, *more))])


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def changed(checkpoint, folder, epoch=2, weights=None, **settings):
    """A copy of a checkpoint in `folder`, with other weights or other settings of its run."""
    old = record.load_checkpoint(checkpoint)
    config, weights = replace(old.config, **settings), old.weights if weights is None else weights
    state = {"weights": weights, "statistics": old.statistics, "training": {}}
    record.save_checkpoint(folder, config, epoch=epoch, **state)
    return folder / record.CHECKPOINT


# The others compute parts of these: one encoder of two, a mean of what "multiplication" multiplies,
# or CFN-SR without a step.
LARGEST = set(model.NAMES) - {"video_resnext50", "averaging", "cfn_sr_no_residual"}
LARGEST -= {"cfn_sr_no_cross_modal", "cfn_sr_no_self_attention"}


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_networks_of_every_kind_export_and_agree_with_torch_on_cached_clips(name, cache, exported):
    checkpoint, out = exported(name)
    trained, session = record.load_checkpoint(checkpoint).network(), session_of(out)
    shapes = {each.name: each.shape for each in session.get_inputs()}
    assert shapes == {name: ["batch", *FIELDS[name].shape] for name in trained.fields}
    for clip in Cache(cache).clips[::3]:
        fields = read(Cache(cache), clip, trained.fields)
        (got,) = session.run(["probabilities"], {key: x.numpy() for key, x in fields.items()})
        assert np.abs(got - trained.probabilities(fields).numpy()).max() <= 1e-4


@pytest.mark.parametrize(("before", "after"), [(224, 56), (300, 100)])
def test_bytes_are_resized_to_the_values_of_torch(before, after):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, before, before), np.uint8)
    pictures[0], pictures[1] = 255, 0
    pictures = torch.from_numpy(pictures)
    expected = functional.interpolate(pictures, (after, after), mode="bilinear", antialias=True)
    got = resize_bytes(pictures.float(), resize_weights(before, after))
    assert torch.equal(got, expected.float())


def test_the_example_in_the_card_runs_without_this_project(exported, tmp_path):
    """In an interpreter that sees onnxruntime and numpy, and no package of ours."""
    _, out = exported("cfn_sr")
    site = lean_site(tmp_path, {"onnxruntime", "numpy"})
    (lines,) = re.findall(r"```python\n(.*?)```", out.with_suffix(".md").read_text(), re.S)
    script = (
        f"import sys; sys.path[:0] = [{str(site)!r}]\n{lines}\n"
        "from importlib.util import find_spec\n"
        "assert not any(map(find_spec, ('cache', 'model', 'preprocess', 'evaluate', 'torch')))\n"
    )
    command = [sys._base_executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    shown = dict(line.split() for line in done.stdout.splitlines())
    assert tuple(shown) == EMOTIONS
    assert sum(map(float, shown.values())) == pytest.approx(1, abs=0.005)


def test_an_export_is_one_file_that_names_its_source(exported, cache):
    checkpoint, out = exported("cfn_sr")
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.md", "model.onnx"]
    about = session_of(out).get_modelmeta().custom_metadata_map
    expected = {
        **{"model": "cfn_sr", "preset": "tiny", "attention": "mean", "split": "paper", "fold": "0"},
        **{"seed": "0", "recipe": "paper", "epochs": "2", "test_actors": "1,2,3,4"},
        "emotions": ",".join(EMOTIONS),
        "dataset": FULL_AV_ORIGIN["dataset"],
        "checkpoint_sha256": sha256_file(checkpoint),
        "cache_fingerprint": Cache(cache).manifest["fingerprint"],
        "use": "for research; not for decisions about people",
    }
    assert "CC BY-NC-SA 4.0" in about.pop("licence")
    assert about == expected
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert ".py" not in out.read_bytes().decode("latin-1")


def test_the_card_has_the_last_epoch_its_interval_and_the_limits(exported):
    checkpoint, out = exported("cfn_sr")
    predictions, card = record.read_run(checkpoint.parent).predictions, out.with_suffix(".md")
    right = (predictions.labels == predictions.predicted).astype(float)
    actors = np.array([clip.actor for clip in predictions.clips])
    low, high = interval_over_actors(right, np.ones(8), actors)
    for text in (
        f"Accuracy: **{100 * right.mean():.2f} %** at the last epoch on 8 clips of 4",
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %",
        *("Best on test: 100.00 % at epoch 1", "on clips of the fold's test actors"),
        *("24 professional actors", "CC BY-NC-SA 4.0", "not for decisions about people"),
    ):
        assert text in card.read_text()


def test_the_same_checkpoint_gives_the_same_bytes(exported, cache, capsys):
    checkpoint, out = exported("audio_mfcc_cnn")
    before = contents(out.parent)
    assert call(checkpoint, out, "--cache", cache) == 0
    assert "(unchanged)" in capsys.readouterr().out
    assert contents(out.parent) == before


def test_a_network_that_disagrees_with_torch_is_not_written(exported, tmp_path, capsys):
    """Its logits are Inf, so that no difference can be computed."""
    checkpoint, _ = exported("audio_mfcc_cnn")
    weights = record.load_checkpoint(checkpoint).weights
    huge = {name: torch.full_like(x, 3e38) for name, x in weights.items() if "fc1" in name}
    checkpoint, out = changed(checkpoint, tmp_path, weights=weights | huge), tmp_path / "x.onnx"
    out.write_text("what was there")
    assert call(checkpoint, out) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"differ by nan in probabilities, .* expected 0\.0001 at most", error)
    assert out.read_text() == "what was there"
    assert sorted(tmp_path.iterdir()) == [checkpoint, out]


def test_the_comparison_sees_shifted_logits_and_changed_probabilities(exported):
    """A constant on all logits leaves the probabilities; statistics of MFCCs change both."""
    checkpoint, out = exported("cfn_sr")
    trained = record.load_checkpoint(checkpoint).network()
    fields = random_fields(trained.fields)
    assert max(compare(out, trained, fields)) < 1e-4
    prepare = replace(trained.prepare, mfcc_std=2 * trained.prepare.mfcc_std)
    assert compare(out, replace(trained, prepare=prepare), fields)[0] > 1e-3
    trained.net.head.bias.data += 100.0
    probabilities, logits = compare(out, trained, fields)
    assert probabilities < 1e-4 < 0.5 < logits < 2


def test_a_checkpoint_that_is_no_result_is_refused(exported, tmp_path, capsys):
    trained, tested = actors_of("paper", 0, validate=True)
    validation = {"validation": True, "train_actors": trained, "test_actors": tested}
    for changes, match in (
        ({"epoch": 1}, "1 of 2 epochs are done"),
        (validation, "from a run with --validate"),
        ({"fold": 1}, "train_actors are"),
        ({"weights": {}}, "incomplete or damaged checkpoint"),
    ):
        checkpoint = changed(exported("cfn_sr")[0], tmp_path, **changes)
        assert call(checkpoint, tmp_path / "model.onnx") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert match in line
        assert list(tmp_path.iterdir()) == [checkpoint]


def test_wrong_files_and_caches_are_refused_before_any_work(exported, cache, tmp_path, capsys):
    (tmp_path / "code.pt").write_bytes(pickle.dumps(SimpleNamespace()))
    checkpoint, out = exported("cfn_sr")[0], tmp_path / "model.onnx"
    origin = record.load_checkpoint(checkpoint).config.cache | {"fingerprint": "0" * 64}
    other = changed(checkpoint, tmp_path, cache=origin)
    actor_5 = clips_with_sound(tmp_path / "cache", actors=(5,))
    for arguments, match in (
        ((tmp_path / "missing.pt", out), "no such file"),
        ((tmp_path / "code.pt", out), "contains code"),
        ((checkpoint, tmp_path / "model.pt"), "ends in .onnx"),
        ((checkpoint, tmp_path / "code.pt" / "model.onnx"), "cannot write to"),
        ((checkpoint, out, "--cache", tmp_path), "no manifest.json"),
        ((other, out, "--cache", cache), "has other settings than the cache of the run"),
        ((checkpoint, out, "--cache", actor_5), "no clip of the test actors (1, 2, 3, 4)"),
    ):
        assert call(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert match in line
    assert not out.exists()


@pytest.mark.parametrize("files", [(), (record.CONFIG, record.METRICS, record.PREDICTIONS)])
def test_without_the_files_of_its_run_a_card_has_no_accuracy(exported, files, tmp_path, capsys):
    checkpoint, _ = exported("audio_mfcc_cnn")
    folder = tmp_path / "audio_mfcc_cnn" / "fold_0"
    folder.mkdir(parents=True)
    for name in files:
        shutil.copy(checkpoint.with_name(name), folder)
    unknown = {"audio": {"file": "weights.pt", "sha256": "0" * 64, "run": None}}
    checkpoint = changed(checkpoint, folder, seed=1, precision="bfloat16", init=unknown)
    assert call(checkpoint, tmp_path / "model.onnx") == 0
    warning = capsys.readouterr().err
    assert ("are from different runs" if files else "config.json is missing") in warning
    card = (tmp_path / "model.md").read_text()
    assert "Accuracy: " not in card
    for text in ("it may have seen the test actors", "tested in bfloat16", "on random inputs"):
        assert text in card
