"""The files of a run: read as written, and every contradiction and damage is named in one line."""

import json
import math
import re
import resource
from pathlib import Path

import pytest
import torch
from training import AUDIO, make_config

import model
from cache.ravdess import actors_of, expected_clips
from train.record import (
    EpochMetrics,
    RunConfig,
    RunError,
    UnfinishedRunError,
    load_checkpoint,
    read_config,
    read_run,
    save_checkpoint,
    write_config,
    write_metrics,
    write_predictions,
)

CLIPS = sorted(clip for actor in (1, 2, 3, 4) for clip in expected_clips(actor)[:8:4])


@pytest.fixture
def folder(tmp_path) -> Path:
    """A finished run of two epochs, in which 6 of 8 clips are right; it was never trained."""
    config = make_config()
    path = tmp_path / config.folder
    path.mkdir(parents=True)
    write_config(path, config)
    others = {"learning_rate": 0.001, "clips_per_second": 40.0, "seconds": 30.0}
    losses = {"train_loss": 2.0, "train_accuracy": 0.2, "test_loss": 2.0}
    accuracies = ((1, 0.875), (2, 0.75))
    write_metrics(
        path, [EpochMetrics(epoch=n, test_accuracy=a, **losses, **others) for n, a in accuracies]
    )
    probabilities = torch.full((8, 8), 0.05)
    for row, clip in enumerate(CLIPS):
        probabilities[row, clip.label if row > 1 else (clip.label + 1) % 8] = 0.65
    write_predictions(path, CLIPS, probabilities)
    torch.manual_seed(0)
    weights = model.build(AUDIO, "tiny").state_dict()
    save_checkpoint(path, config, epoch=2, weights=weights, statistics={}, training={})
    return path


def test_a_run_is_read_as_it_was_written(folder):
    run = read_run(folder)
    assert (run.name, run.model, run.fold) == ("audio_mfcc_cnn/fold_0", AUDIO, 0)
    assert run.config == make_config()
    assert [each.test_accuracy for each in run.metrics] == [0.875, 0.75]
    assert list(run.predictions.clips) == CLIPS
    assert run.predictions.labels.tolist() == [clip.label for clip in CLIPS]
    assert run.predictions.probabilities.max(axis=1).tolist() == [0.65] * 8
    assert (run.predictions.probabilities.argmax(axis=1) == run.predictions.predicted).all()
    assert run.predictions.accuracy == 0.75


# Configuration. --------------------------------------------------------------------------------

CACHE = make_config().cache
START = {"file": "last.pt", "sha256": "00", "run": None}
STARTED = {
    **{"model": "video_resnext50", "preset": "tiny", "split": "paper", "fold": 0},
    **{"validation": False, "epochs": 1, "recipe": "paper", "seed": 0, "init": {}},
}


ODD = {"dataset": "\x1b[2J", "fingerprint": "ab"}


def chain(length):
    """What `init` records of a run that started from a run that started from ..."""
    init = {"video": START}
    for _ in range(length):
        init = {"video": START | {"run": STARTED | {"init": init}}}
    return init


def test_a_config_is_read_as_it_was_written():
    config = make_config(init=chain(3), learning_rate=1, seed=2**63 - 1, fold=0)
    assert config.settings.learning_rate == 1.0
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_actors_of_all_runs_of_a_chain_were_seen():
    started = {"video": START | {"run": STARTED | {"fold": 1}}, "audio": START}
    config = make_config(init=started)
    assert config.seen_actors == set(config.train_actors) | {1, 2, 3, 4}


def test_weights_of_unknown_actors_stay_unknown_through_a_chain_of_runs():
    known = START | {"run": STARTED}
    assert make_config(init=chain(2)).starts_from_unknown
    assert not make_config(init={"audio": known, "video": known}).starts_from_unknown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected 1 or more"),
        ({"epochs": True}, "epochs is True, expected int"),
        ({"learning_rate": None}, "learning_rate is None, expected float"),
        ({"ema": math.inf}, "ema is inf, expected float"),
        ({"preset": "a\n\x1b[2J"}, r"preset is 'a\n\x1b[2J', expected printable text"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"train_clips": 0}, "train_clips is 0, expected 1 or more"),
        ({"split": "random"}, "split is 'random', expected one of paper, luna5"),
        ({"fold": 6}, "fold is 6, expected 0..5"),
        ({"fold": 1}, "train_actors are [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,"),
        ({"train_actors": list(range(4, 25))}, "train_actors are [4, 5, 6,"),
        ({"test_actors": [2, 1, 3, 4]}, "test_actors are [2, 1, 3, 4], expected [1, 2, 3, 4]"),
        ({"versions": {"torch": 2}}, "versions is {'torch': 2}, expected dict"),
        ({"cache": {}}, "cache is {}, expected dataset, config, fingerprint, schema_version"),
        ({"cache": CACHE | {"dataset": "a\x1b[2J"}}, "cache.dataset is not printable text"),
        ({"cache": CACHE | {"fingerprint": "ab"}}, "cache.fingerprint is not a SHA-256"),
        ({"cache": CACHE | {"contents": "ab"}}, "cache.contents is not a SHA-256"),
        ({"test_actors": []}, "test_actors are [], expected [1, 2, 3, 4]"),
        ({"momentum": 0.9}, "momentum: missing or unknown, so another version wrote this run"),
        ({"init": {"face": START}}, "init is {'face': {"),
        ({"init": {"video": {}}}, "init has {}, expected file, sha256 and run"),
        (
            {"init": {"video": START | {"run": {}}}},
            "epochs, fold, init, model, preset: missing or unknown",
        ),
        (
            {"init": {"video": START | {"run": STARTED | {"epochs": "many"}}}},
            "epochs is 'many', expected int",
        ),
        (
            {"init": {"video": START | {"run": STARTED | {"changed": {"momentum": 1}}}}},
            "momentum: missing or unknown",
        ),
        (
            {"init": {"video": START | {"run": STARTED | {"cache": {"dataset": "noise"}}}}},
            "init has {'dataset': 'noise'}, expected dataset and fingerprint",
        ),
        (
            {"init": {"video": START | {"run": STARTED | {"cache": ODD}}}},
            r"init has {'dataset': '\x1b[2J', 'fingerprint': 'ab'}, expected printable text",
        ),
        (
            {"init": {"video": START | {"run": STARTED | {"fold": 9}}}},
            "init: fold is 9, expected 0..5",
        ),
        ({"init": chain(10)}, "init is {'video': {"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(RunError, match=re.escape(message)) as refused:
        make_config(**changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"seed": 1}, ["seed"]),
        ({"ema": 0.5, "recipe": "modern"}, ["ema", "recipe"]),
        ({"cache": CACHE | {"config": {"a": 1}}}, ["cache.config.a"]),
        ({"init": {"video": START}}, ["init.video"]),
        ({"device": "cuda", "versions": {"torch": "3"}, "command": ["train.py", "--resume"]}, []),
        ({"cache": CACHE | {"contents": "1f" * 32}}, ["cache.contents"]),
        ({"cache": CACHE}, []),  # an earlier run, which did not record the contents
    ],
)
def test_differences_of_two_runs_are_named_by_their_path(changes, paths):
    full = {"cache": CACHE | {"contents": "0f" * 32}}
    lines = make_config(**full).differences(make_config(**full | changes))
    assert [line.split(":")[0] for line in lines] == paths


def test_what_earlier_runs_did_not_record_of_a_start_is_no_difference():
    added = {"changed": {"ema": 0.9}, "cache": {"dataset": "noise", "fingerprint": "ab"}}
    before, after = (
        make_config(init={"video": START | {"run": STARTED | more}}) for more in ({}, added)
    )
    assert not before.differences(after) + after.differences(before)
    faster = make_config(init={"video": START | {"run": STARTED | added | {"changed": {}}}})
    assert faster.differences(after) == ["init.video.run.changed.ema: None and 0.9"]


def test_a_start_differs_by_its_content_and_not_by_its_name():
    config = make_config(init={"video": START})
    assert not config.differences(make_config(init={"video": START | {"file": "moved.pt"}}))
    (line,) = config.differences(make_config(init={"video": START | {"sha256": "11"}}))
    assert line == "init.video.sha256: '00' and '11'"


# Runs. -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config.json", "{", "", "config.json: not JSON"),
        ("config.json", '"seed": 0', '"seed": -1', "config.json: seed is -1, expected 0 or more"),
        ("config.json", '"audio_mfcc_cnn"', '"erann"', "config.json belongs to erann/fold_0"),
        ("config.json", '"epochs": 2', '"epochs": 1', "has 2 epochs, config.json says 1"),
        ("config.json", '"test_clips": 8', '"test_clips": 9', "has 8 clips, config.json says 9"),
        ("metrics.jsonl", "{", "", "metrics.jsonl, line 1: not JSON"),
        ("metrics.jsonl", '"epoch": 2', '"epoch": 3', "line 2: epoch is 3, expected 2"),
        ("metrics.jsonl", "0.875", "80", "line 1: test_accuracy is 80.0, expected 0..1"),
        ("metrics.jsonl", "0.875", "NaN", "line 1: test_accuracy is nan, expected float"),
        ("metrics.jsonl", '"test_loss"', '"loss"', r"line 1: loss, test_loss: missing or unknown"),
        ("metrics.jsonl", "0.75", "0.76", "accuracy of 0.750000, the last line of metrics.jsonl"),
        ("predictions.csv", "p_calm", "calm", "the columns are not clip_id, label, predicted"),
        ("predictions.csv", "0.65", "0.65,0", "line 2: 12 columns, expected 11"),
        ("predictions.csv", CLIPS[0].clip_id, "actor_1", "'actor_1' is not a RAVDESS name"),
        ("predictions.csv", CLIPS[0].clip_id, "01-01-01-01-01-01-05", "not one of the test clips"),
        ("predictions.csv", CLIPS[1].clip_id, CLIPS[0].clip_id, "line 3: .* appears twice"),
        ("predictions.csv", "-01-01,0", "-01-01,2", "label is '2', .* has label 0"),
        ("predictions.csv", "-01-01,0,1", "-01-01,0,8", "predicted is '8', expected 0..7"),
        ("predictions.csv", "-01-01,0,1", "-01-01,0,2", "2, which is not the most probable class"),
        ("predictions.csv", "0.650000", "0.70", "probabilities sum to 1.0500, expected 1"),
        ("predictions.csv", "0.650000", "nan", "a probability is outside 0..1"),
        ("predictions.csv", "0.650000", "9" * 200_000, "predictions.csv: not CSV"),
    ],
)
def test_a_changed_file_of_a_run_is_refused(file, old, new, message, folder):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RunError, match=message) as refused:
        read_run(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: config.json is missing"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json is not UTF-8 text"),
        (lambda f: (f / "predictions.csv").write_bytes(b"\xff"), "predictions.csv is not UTF-8"),
    ],
)
def test_a_missing_or_binary_file_is_named(change, message, folder):
    change(folder)
    with pytest.raises(RunError, match=message):
        read_run(folder)


@pytest.mark.parametrize("name", ["fold_00", "fold_1", "validation_0"])
def test_a_run_is_only_read_from_its_own_folder(name, folder):
    with pytest.raises(
        RunError, match=f"belongs to audio_mfcc_cnn/fold_0, but the folder is {name}"
    ):
        read_config(folder.rename(folder.with_name(name)))


def test_a_run_without_predictions_or_with_fewer_epochs_is_unfinished(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(lines[0])
    with pytest.raises(UnfinishedRunError, match="1 of 2 epochs are done"):
        read_run(folder)
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "predictions.csv").unlink()
    with pytest.raises(UnfinishedRunError, match="2 of 2 epochs are done"):
        read_run(folder)


def test_a_validation_run_is_checked_by_its_own_actors():
    trained, held_out = actors_of("paper", 0, validate=True)
    actors = {"train_actors": list(trained), "test_actors": list(held_out)}
    assert make_config(validation=True, **actors).folder == Path(AUDIO, "validation_0")
    with pytest.raises(RunError, match="test_actors are"):
        make_config(**actors)


# Checkpoints. ----------------------------------------------------------------------------------


class Dangerous:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_and_files_of_anything_else_are_refused(tmp_path, capsys):
    torch.save({"checkpoint_version": 4, "model": Dangerous()}, tmp_path / "last.pt")
    with pytest.raises(RunError, match=r"last\.pt: contains print, .* can run code"):
        load_checkpoint(tmp_path / "last.pt")
    assert "executed" not in capsys.readouterr().out
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(RunError, match=r"other\.pt: not a checkpoint of this program"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"hello", "cut"])
def test_a_damaged_checkpoint_is_refused(content, folder):
    path = folder / "last.pt"
    path.write_bytes(path.read_bytes()[:9_000] if content == "cut" else content)
    with pytest.raises(RunError, match=r"last\.pt: .*damaged"):
        load_checkpoint(path)


MEAN, STD = torch.zeros(13, 1), torch.ones(13, 1)
NOT_WHOLE = "incomplete or damaged checkpoint ("


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("checkpoint_version", 3, "checkpoint version 3, expected 5. Train that run again"),
        ("checkpoint_version", torch.ones(40), "checkpoint version tensor([1., 1."),
        ("extra", 1, "incomplete or damaged checkpoint"),
        ("epoch", 0, "epoch is 0, expected 1..2"),
        ("epoch", 1.0, "epoch is 1.0, expected 1..2"),
        ("config", 3, "last.pt: 3, expected a JSON object"),
        ("config model", "vgg", NOT_WHOLE + "model is 'vgg', expected one of video_resnext50"),
        ("config preset", "huge", NOT_WHOLE + "preset is 'huge', expected one of paper, tiny"),
        ("config preset", "paper", NOT_WHOLE + "Error(s) in loading state_dict"),
        ("config precision", "float16", NOT_WHOLE + "precision is 'float16', expected one of"),
        ("model", {}, NOT_WHOLE + "Error(s) in loading state_dict"),
        ("model fc1.weight", torch.Tensor.double, "(fc1.weight is torch.float64, expected torch."),
        ("model audio.conv3.bias", lambda t: t * torch.nan, "conv3.bias contains NaN"),
        ("model audio.bn1.running_var", torch.Tensor.neg, "running_var contains negative"),
        ("inputs", {"mfcc_mean": MEAN}, "statistics are ['mfcc_mean'], expected mfcc_mean/std"),
        ("inputs", {"mfcc_mean": MEAN[:9], "mfcc_std": STD}, "mfcc_mean is not (13, 1) finite"),
        ("inputs", {"mfcc_mean": MEAN, "mfcc_std": MEAN}, "mfcc_std is 0 or below"),
        ("inputs", {"mfcc_mean": MEAN.to_sparse(), "mfcc_std": STD}, NOT_WHOLE),
    ],
)
def test_what_is_not_a_whole_checkpoint_is_refused(place, value, message, folder):
    path = folder / "last.pt"
    state = torch.load(path, weights_only=True)
    *outer, key = place.split()
    holder = state[outer[0]] if outer else state
    holder[key] = value(holder[key]) if callable(value) else value
    torch.save(state, path)
    with pytest.raises(RunError, match=re.escape(message)) as refused:
        load_checkpoint(path).network()
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(folder):
    checkpoint = load_checkpoint(folder / "last.pt")
    before = (folder / "last.pt").read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"last\.pt cannot be written: "):
            save_checkpoint(
                *(folder, checkpoint.config),
                epoch=1,
                weights=checkpoint.weights,
                statistics={},
                training={},
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (folder / "last.pt").read_bytes() == before
    assert not list(folder.glob(".*"))
