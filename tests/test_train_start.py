"""Weights to start from: recorded, loaded, and refused where they would leak."""

import json
import re

import pytest
import torch
from networks import tiny

import model
from cache.ravdess import actors_of
from train.cli import main
from train.start import read_start

TEST_ACTORS = (1, 2, 3, 4)  # of fold 0


def train(cache, runs, name, *extra, fold=0, epochs=1):
    return main(
        [
            *("--cache", str(cache), "--runs", str(runs), "--fold", str(fold), "--model", name),
            *("--preset", "tiny", "--epochs", str(epochs), "--device", "cpu"),
            *map(str, extra),
        ]
    )


@pytest.fixture(scope="module")
def unimodal_runs(fold_cache, tmp_path_factory):
    """One epoch of both unimodal networks on folds 0 and 1 of a cache of noise."""
    runs = tmp_path_factory.mktemp("runs")
    for name in ("video_resnext50", "audio_mfcc_cnn"):
        for fold in (0, 1):
            assert train(fold_cache, runs, name, fold=fold) == 0
    return runs


def last(runs, name, fold=0):
    return runs / name / f"fold_{fold}" / "last.pt"


def starts(runs, fold=0):
    return (
        *("--init-video", last(runs, "video_resnext50", fold)),
        *("--init-audio", last(runs, "audio_mfcc_cnn", fold)),
    )


def test_fusion_starts_from_the_unimodal_runs_of_its_fold(
    fold_cache, unimodal_runs, tmp_path, capsys, monkeypatch
):
    built = {}
    original = model.build

    def remember(*arguments):
        built["net"] = original(*arguments)
        return built["net"]

    monkeypatch.setattr(model, "build", remember)
    # A step of nothing leaves the weights as they were loaded.
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    assert train(fold_cache, tmp_path, "cfn_sr", *starts(unimodal_runs)) == 0
    for part, name in (("video", "video_resnext50"), ("audio", "audio_mfcc_cnn")):
        run = torch.load(last(unimodal_runs, name), weights_only=True)["model"]
        for key, parameter in getattr(built["net"], part).named_parameters():
            assert torch.equal(parameter, run[f"{part}.{key}"])
    printed = capsys.readouterr()
    assert "video encoder: 102 tensors loaded; its classifier" in printed.out
    assert "is not known" not in printed.err
    record = json.loads((tmp_path / "cfn_sr/fold_0/config.json").read_text())["init"]
    assert set(record) == {"video", "audio"}
    assert record["video"]["run"] == {
        "model": "video_resnext50",
        "split": "paper",
        "fold": 0,
        "epochs": 1,
        "preset": "tiny",
        "recipe": "paper",
        "seed": 0,
        "init": {},
    }
    assert len(record["video"]["sha256"]) == 64


def test_weights_that_have_seen_the_test_actors_are_refused(
    fold_cache, unimodal_runs, tmp_path, capsys
):
    assert train(fold_cache, tmp_path, "cfn_sr", *starts(unimodal_runs, fold=1)) == 2
    error = capsys.readouterr().err
    assert "was trained on actors [1, 2, 3, 4], whom this fold tests" in error
    assert not (tmp_path / "cfn_sr").exists()


def test_a_public_file_is_used_with_a_warning(fold_cache, tmp_path, capsys):
    public = {k.removeprefix("audio."): t for k, t in tiny("audio_mfcc_cnn").state_dict().items()}
    torch.save({"state_dict": public}, tmp_path / "public.pth")
    status = train(fold_cache, tmp_path, "audio_mfcc_cnn", "--init-audio", tmp_path / "public.pth")
    assert status == 0
    assert "which actors its weights were trained on is not known" in capsys.readouterr().err
    config = json.loads((tmp_path / "audio_mfcc_cnn/fold_0/config.json").read_text())
    assert config["init"]["audio"]["run"] is None


def test_public_weights_stay_unknown_through_a_run_of_ours(fold_cache, tmp_path, capsys):
    public = {k.removeprefix("audio."): t for k, t in tiny("audio_mfcc_cnn").state_dict().items()}
    torch.save(public, tmp_path / "public.pth")
    given = ("--init-audio", tmp_path / "public.pth")
    assert train(fold_cache, tmp_path / "one", "audio_mfcc_cnn", *given) == 0
    capsys.readouterr()
    given = ("--init-audio", last(tmp_path / "one", "audio_mfcc_cnn"))
    assert train(fold_cache, tmp_path / "two", "cfn_sr", *given) == 0
    assert "which actors its weights were trained on is not known" in capsys.readouterr().err
    config = json.loads((tmp_path / "two/cfn_sr/fold_0/config.json").read_text())
    assert config["init"]["audio"]["run"]["init"]["audio"]["run"] is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"epoch": 0}, "0 of 1 epochs are done. Finish that run first"),
        ({"checkpoint_version": 1}, "a checkpoint of version 1, expected 3"),
        ({"checkpoint_version": "new"}, "a checkpoint of version 'new'"),
        ({"train_actors": []}, "its train_actors are not those of its split and fold"),
        ({"train_actors": [str(n) for n in range(1, 25)]}, "are not those of its split"),
        ({"fold": 1}, "its train_actors are not those of its split and fold"),
        ({"fold": "0"}, "fold is '0', expected int"),
        ({"epochs": torch.tensor(1)}, "epochs is tensor"),
        ({"init": 3}, "init is 3, expected dict"),
        ({"split": "random"}, "split is 'random'"),
    ],
)
def test_a_run_that_is_not_what_it_says_is_refused(changes, problem, unimodal_runs, tmp_path):
    state = torch.load(last(unimodal_runs, "audio_mfcc_cnn"), weights_only=True)
    for name, value in changes.items():
        (state if name in state else state["config"])[name] = value
    torch.save(state, tmp_path / "changed.pt")
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_start(tmp_path / "changed.pt", "audio", TEST_ACTORS)


@pytest.mark.parametrize("actor", range(1, 25))
def test_no_actor_leaks(actor, unimodal_runs):
    """The run of fold 0 has seen all but actors 1..4."""
    path = last(unimodal_runs, "audio_mfcc_cnn")
    if actor in TEST_ACTORS:
        read_start(path, "audio", (actor,))
        return
    with pytest.raises(ValueError, match=rf"was trained on actors \[{actor}\]"):
        read_start(path, "audio", (actor,))


def test_another_start_is_another_run(fold_cache, unimodal_runs, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "averaging", *starts(unimodal_runs)) == 0
    assert train(fold_cache, tmp_path, "averaging", *starts(unimodal_runs)) == 0  # nothing to do
    assert train(fold_cache, tmp_path, "averaging") == 2
    assert "holds a run with other settings (init.audio was {" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "part", "problem"),
    [
        ("audio_mfcc_cnn", "video", "the network has no video encoder to load it into"),
        ("cfn_sr", "audio", "does not fit the audio encoder"),
    ],
)
def test_weights_that_do_not_fit_leave_no_run(
    name, part, problem, fold_cache, unimodal_runs, tmp_path, capsys
):
    weights = last(unimodal_runs, "video_resnext50")  # of the other part for cfn_sr
    assert train(fold_cache, tmp_path, name, f"--init-{part}", weights) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / name / "fold_0").exists()


def test_a_missing_file_is_wrong_use(fold_cache, tmp_path, capsys):
    assert train(fold_cache, tmp_path, "cfn_sr", "--init-video", tmp_path / "none.pth") == 2
    assert "--init-video is" in capsys.readouterr().err


def test_a_spoiled_run_is_refused_by_name(unimodal_runs, tmp_path):
    state = torch.load(last(unimodal_runs, "audio_mfcc_cnn"), weights_only=True)
    for key, value in (("config", {}), ("model", 3), ("config", 3)):
        torch.save({**state, key: value}, tmp_path / "spoiled.pt")
        with pytest.raises(ValueError, match=r"spoiled\.pt: not a whole checkpoint"):
            read_start(tmp_path / "spoiled.pt", "audio", TEST_ACTORS)


@pytest.mark.parametrize("content", [b"junk", b"hello", b"", "cut", "spoiled"])
def test_a_damaged_run_to_start_from_says_which_folder_to_remove(
    content, fold_cache, unimodal_runs, tmp_path, capsys
):
    run = tmp_path / "audio_mfcc_cnn" / "fold_0"
    run.mkdir(parents=True)
    whole = last(unimodal_runs, "audio_mfcc_cnn")
    (run / "config.json").write_bytes((whole.parent / "config.json").read_bytes())
    if content == "spoiled":
        torch.save({**torch.load(whole, weights_only=True), "config": {}}, run / "last.pt")
    else:
        cut = whole.read_bytes()[:9_000]
        (run / "last.pt").write_bytes(cut if content == "cut" else content)
    assert train(fold_cache, tmp_path, "cfn_sr", "--init-audio", run / "last.pt") == 2
    *warned, error = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in warned)
    assert error.startswith(f"error: {run / 'last.pt'}: ")
    assert error.endswith(f". Remove {run} to train that run again")
    (run / "last.pt").unlink()
    assert train(fold_cache, tmp_path, "cfn_sr", "--init-audio", run / "last.pt") == 2
    assert f"a file of weights. Remove {run} to train that run" in capsys.readouterr().err


def test_a_damaged_file_of_others_is_theirs_to_remove(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "public.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"public\.pth: damaged \([^.]*\)$"):
        read_start(tmp_path / "public.pth", "audio", TEST_ACTORS)


def test_a_validation_run_has_seen_neither_its_own_test_actors_nor_those_of_its_fold(
    unimodal_runs, tmp_path
):
    state = torch.load(last(unimodal_runs, "audio_mfcc_cnn"), weights_only=True)
    trained, held_out = actors_of("paper", 4, validate=True)
    state["config"] |= {"fold": 4, "validation": True, "train_actors": list(trained)}
    torch.save(state, tmp_path / "validation.pt")
    for unseen in (held_out, actors_of("paper", 4)[1]):
        start = read_start(tmp_path / "validation.pt", "audio", unseen)
        assert start.record["run"]["fold"] == 4
    with pytest.raises(ValueError, match=rf"was trained on actors \[{trained[0]}\]"):
        read_start(tmp_path / "validation.pt", "audio", trained[:1])
    state["config"]["validation"] = False
    torch.save(state, tmp_path / "validation.pt")
    with pytest.raises(ValueError, match="train_actors are not those of its split and fold"):
        read_start(tmp_path / "validation.pt", "audio", held_out)


def test_erann_is_trained_on_waveforms_and_says_so_where_there_are_none(
    fold_cache, tmp_path, capsys
):
    assert train(fold_cache, tmp_path, "erann") == 2
    error = capsys.readouterr().err
    assert "holds no waveform, which erann looks at. Build the cache with --waveform" in error
