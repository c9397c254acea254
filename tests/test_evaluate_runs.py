"""Reading runs: a good run is read as written, and each kind of damage is named."""

import json
import re
from dataclasses import replace as replace_field
from pathlib import Path

import numpy as np
import pytest

from cache import ravdess
from cache.ravdess import EMOTIONS, expected_clips
from evaluate.runs.find import disagreements, read_runs
from evaluate.runs.run import DamagedRunError, UnfinishedRunError, read_run


def write_run(runs: Path, model: str = "cfn_sr", fold: int = 0, **settings) -> Path:
    """A finished run of two epochs with three of four clips right after the last."""
    clips = [clip for a in ravdess.test_actors("paper", fold) for clip in expected_clips(a)]
    config = {
        **{"model": model, "preset": "tiny", "split": "paper", "fold": fold, "recipe": "paper"},
        **{"epochs": 2, "batch_size": 16, "learning_rate": 0.001, "seed": 0, "parameters": 1000},
        "train_actors": ravdess.actors_of("paper", fold)[0],
        "test_actors": ravdess.test_actors("paper", fold),
        **{"train_clips": 1200, "test_clips": len(clips), "device": "cpu"},
        "cache": {"dataset": "RAVDESS speech", "fingerprint": "0f" * 32, "schema_version": 1},
        "versions": {"torch": "2.15.0"},
        **settings,
    }
    epochs = [
        {"epoch": epoch, "train_loss": 2.0, "train_accuracy": 0.2, "test_loss": 2.0}
        | {"test_accuracy": accuracy, "clips_per_second": 40.0, "seconds": 30.0}
        for epoch, accuracy in ((1, 0.8), (2, 0.75))
    ]
    rows = [",".join(["clip_id", "label", "predicted", *(f"p_{name}" for name in EMOTIONS)])]
    for index, clip in enumerate(clips):
        predicted = clip.label if index % 4 else (clip.label + 1) % 8
        shares = ["0.65" if label == predicted else "0.05" for label in range(8)]
        rows.append(",".join([clip.clip_id, str(clip.label), str(predicted), *shares]))
    folder = runs / model / f"fold_{fold}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in epochs))
    (folder / "predictions.csv").write_text("\n".join(rows) + "\n")
    return folder


def replace(path: Path, old: str, new: str) -> None:
    """Change the first `old` in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_good_run_is_read_as_written(tmp_path):
    run = read_run(write_run(tmp_path, fold=1))
    assert (run.name, run.model, run.fold) == ("cfn_sr/fold_1", "cfn_sr", 1)
    assert len(run.clip_ids) == len(run.labels) == 240
    assert [line["test_accuracy"] for line in run.epochs] == [0.8, 0.75]
    assert np.mean(run.labels == run.predicted) == 0.75
    assert run.probabilities.shape == (240, 8)
    np.testing.assert_array_equal(run.probabilities.argmax(axis=1), run.predicted)
    np.testing.assert_allclose(run.probabilities.max(axis=1), 0.65)


def test_runs_are_grouped_by_model_and_sorted_by_fold(tmp_path):
    for model, fold in (("video", 0), ("cfn_sr", 3), ("cfn_sr", 0), ("cfn_sr", 1)):
        write_run(tmp_path, model, fold)
    models, left_out = read_runs(tmp_path)
    assert left_out == []
    assert {model: [run.fold for run in runs] for model, runs in models.items()} == {
        "cfn_sr": [0, 1, 3],
        "video": [0],
    }


def test_folds_of_one_recipe_with_another_setting_are_not_averaged(tmp_path):
    for fold, mixup in enumerate((0.2, 0.4)):
        write_run(tmp_path, "msaf", fold, mixup=mixup, device=f"gpu {fold}")
    models, left_out = read_runs(tmp_path)
    assert models == {}
    assert "mixup is 0.2 and 0.4, so they must not be averaged" in left_out[0].problems[0]


def test_settings_of_odd_names_are_compared_and_named_in_print(tmp_path):
    for fold in range(2):
        write_run(tmp_path, fold=fold, **{"epochs.x": fold, "\ud800": fold})
    _, (left_out,) = read_runs(tmp_path)
    assert "epochs.x is 0 and 1" in left_out.problems[0]
    assert r"'\ud800' is 0 and 1" in left_out.problems[1]


def test_folds_that_started_from_different_weights_are_not_averaged(tmp_path):
    run = {"model": "audio_mfcc_cnn", "split": "paper", "fold": 0, "epochs": 70}
    for fold in range(2):  # each from the run of its own fold: the same start
        init = {"audio": {"file": "last.pt", "sha256": str(fold) * 64, "run": run | {"fold": fold}}}
        write_run(tmp_path, "msaf", fold, init=init)
        write_run(tmp_path, "mmtm", fold, init=init if fold else {})
    models, left_out = read_runs(tmp_path)
    assert list(models) == ["msaf"]
    assert left_out[0].problems == (
        "mmtm/fold_0 and mmtm/fold_1: they started from random weights and from "
        "audio: audio_mfcc_cnn, 70 epochs, so they must not be averaged. Train one again",
    )


@pytest.mark.parametrize(
    "init",
    [
        [],
        {"face": {"run": None}},
        {"video": 3},
        {"video": {}},
        {"video": {"run": {"model": 3, "epochs": 1}}},
        {"video": {"run": {"model": "a", "epochs": "many"}}},
        {"video": {"run": {"model": "a", "epochs": 1, "init": {"video": 3}}}},
    ],
)
def test_a_start_of_another_form_is_damage(init, tmp_path):
    with pytest.raises(DamagedRunError, match=r"config\.json: init is .* expected the weights"):
        read_run(write_run(tmp_path, init=init))


def test_a_diverged_run_is_a_result_too(tmp_path):
    folder = write_run(tmp_path)
    replace(folder / "metrics.jsonl", '"test_loss": 2.0', '"test_loss": NaN')
    assert np.isnan(read_run(folder).epochs[0]["test_loss"])


def test_a_run_without_predictions_is_unfinished_even_in_the_middle_of_a_line(tmp_path):
    folder = write_run(tmp_path)
    (folder / "predictions.csv").unlink()
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "train_lo')
    with pytest.raises(UnfinishedRunError, match=r"not there yet, 1 of 2 epochs"):
        read_run(folder)


def test_a_run_with_fewer_epochs_than_planned_is_unfinished(tmp_path):
    with pytest.raises(UnfinishedRunError, match="2 of 70 epochs are done"):
        read_run(write_run(tmp_path, epochs=70))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epochs": 1}, "2 epochs, config.json says 1"),
        ({"epochs": True}, "epochs is True, expected a whole number above 0"),
        ({"preset": "tiny\n"}, r"preset is 'tiny\\n', expected text"),
        ({"preset": "\ud800"}, "preset is .* expected text"),
        ({"learning_rate": None}, "learning_rate is None, expected a number"),
        ({"cache": None}, "cache.dataset is missing"),
        (
            {"cache": {"dataset": "RAVDESS", "fingerprint": "ab", "schema_version": 1}},
            "cache.fingerprint is 'ab', expected 64 hexadecimal digits",
        ),
        ({"versions": {"torch": 2}}, "versions is .* expected names with their versions"),
        ({"split": "random"}, "split is 'random', expected one of paper, luna5"),
        ({"train_actors": [4, 5, 6]}, r"test actors \[4\] are in train_actors too"),
        ({"test_actors": [1, 2, 3, 9]}, r"test_actors has \[9\], fold 0 .* tests \[1, 2, 3, 4\]"),
        ({"test_actors": [1, 2], "train_actors": [3, 5]}, r"train_actors has \[3\], .* holds out"),
        ({"test_actors": [2, 1]}, r"test_actors is \[2, 1\], expected rising numbers"),
        ({"test_actors": [1, 2, 3]}, r"is of actor 4, config.json tests actors \[1, 2, 3\]"),
        ({"test_clips": 239}, "240 clips, config.json says 239"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, match):
    with pytest.raises(DamagedRunError, match=match):
        read_run(write_run(tmp_path, **settings))


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        ("config.json", "{", "", "config.json is not JSON"),
        ("config.json", '"cfn_sr"', '"video"', "model is 'video', the folder says 'cfn_sr'"),
        ("config.json", '"fold": 0', '"fold": 1', "fold is 1, the folder says 0"),
        ("metrics.jsonl", "{", "", "metrics.jsonl line 1 is not JSON"),
        ("metrics.jsonl", '{"epoch": 1', '[] {"epoch": 1', "metrics.jsonl line 1 is not JSON"),
        ("metrics.jsonl", '"epoch": 2', '"epoch": 3', "line 2: epoch is 3, expected 2"),
        ("metrics.jsonl", "0.8", "80", "test_accuracy is 80, expected a fraction"),
        ("metrics.jsonl", '"test_loss"', '"loss"', "test_loss is None, expected a number"),
        ("metrics.jsonl", "0.75", "0.76", "accuracy of 0.750000, the last line .* says 0.760000"),
        ("predictions.csv", "p_calm", "calm", "the header is .* expected clip_id,label"),
        ("predictions.csv", "0.65", "0.65,0", "12 columns, expected 11"),
        ("predictions.csv", "01-01-01-01-01-01-01", "actor_1", "'actor_1' is not a RAVDESS name"),
        ("predictions.csv", "-01-01-01,0", "-01-01-01,2", r"label is '2', expected 0 \(neutral\)"),
        ("predictions.csv", "-01-01-01,0,1", "-01-01-01,0,8", "predicted is '8', expected 0..7"),
        ("predictions.csv", "-01-01-01,0,1", "-01-01-01,0,2", "the most probable class is 1"),
        ("predictions.csv", "0.65", "0.70", "probabilities sum to 1.0500, expected 1"),
        ("predictions.csv", "0.65", "nan", "expected each in 0..1"),
        ("predictions.csv", "0.65", "much", "expected numbers"),
        ("predictions.csv", "0.65", '"0.65', "is not CSV"),
    ],
)
def test_damage_to_a_file_is_named(tmp_path, file, old, new, match):
    folder = write_run(tmp_path)
    replace(folder / file, old, new)
    with pytest.raises(DamagedRunError, match=match):
        read_run(folder)


def test_a_clip_listed_twice_is_named(tmp_path):
    file = write_run(tmp_path) / "predictions.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[1]]))
    with pytest.raises(DamagedRunError, match="line 241: clip 01-01-01-01-01-01-01 is there twice"):
        read_run(file.parent)


def test_a_missing_or_binary_file_is_named_without_its_absolute_path(tmp_path):
    folder = write_run(tmp_path)
    (folder / "metrics.jsonl").unlink()
    (folder / "predictions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedRunError, match=r"(?s)metrics.jsonl is missing.*UTF-8") as caught:
        read_run(folder)
    assert str(tmp_path) not in str(caught.value)


def test_all_problems_of_a_run_are_collected_and_long_lists_are_cut(tmp_path):
    folder = write_run(tmp_path, test_actors=[1])
    replace(folder / "metrics.jsonl", '"epoch": 2', '"epoch": 3')
    with pytest.raises(DamagedRunError, match="expected 2") as caught:
        read_run(folder)
    assert len(caught.value.problems) == 1 + 5 + 1
    assert caught.value.problems[-1] == "predictions.csv: 175 more like these"


@pytest.mark.parametrize("name", ["CFN-SR", "<script>", "a b"])
def test_only_plain_model_names_are_read(tmp_path, name):
    folder = write_run(tmp_path)
    folder.parent.rename(tmp_path / name)
    models, (left_out,) = read_runs(tmp_path)
    assert models == {}
    assert left_out.state == "damaged"
    assert "expected [a-z0-9_]+/fold_<k>" in left_out.problems[0]


def test_a_second_spelling_of_a_fold_is_not_read(tmp_path):
    folder = write_run(tmp_path)
    folder.rename(folder.with_name("fold_00"))
    with pytest.raises(DamagedRunError, match="the folder is cfn_sr/fold_00, expected"):
        read_run(folder.with_name("fold_00"))


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"seed": 7}, "seed is 0 and 7"),
        ({"preset": "paper"}, "preset is 'tiny' and 'paper'"),
        ({"batch_size": 8}, "batch_size is 16 and 8"),
        ({"learning_rate": 0.1}, "learning_rate is 0.001 and 0.1"),
        ({"recipe": "modern"}, "recipe is 'paper' and 'modern'"),
        (
            {"cache": {"dataset": "RAVDESS speech", "fingerprint": "a" * 64, "schema_version": 1}},
            "cache.fingerprint is '0f0f.*' and 'aaaa",
        ),
    ],
)
def test_runs_with_different_settings_are_not_averaged(tmp_path, setting, found):
    first = read_run(write_run(tmp_path, fold=0))
    second = read_run(write_run(tmp_path, fold=2, **setting))
    (problem,) = disagreements([first, second])
    assert re.match(f"cfn_sr/fold_0 and cfn_sr/fold_2: {found}", problem)


def test_a_model_whose_runs_disagree_is_left_out_whole_and_others_stay(tmp_path):
    write_run(tmp_path, fold=0)
    write_run(tmp_path, fold=1, seed=1)
    write_run(tmp_path, "video")
    models, (left_out,) = read_runs(tmp_path)
    assert list(models) == ["video"]
    assert (left_out.name, left_out.state) == ("cfn_sr", "not averaged")


def test_a_clip_tested_in_two_folds_is_named(tmp_path):
    run = read_run(write_run(tmp_path))
    again = replace_field(run, fold=1)
    (problem,) = disagreements([run, again])
    assert "cfn_sr/fold_0 and cfn_sr/fold_1: clip 01-01-01-01-01-01-01 is tested in both" in problem


def test_a_model_without_a_headline_fold_has_no_result(tmp_path):
    (problem,) = disagreements([read_run(write_run(tmp_path, fold=5))])
    assert "cfn_sr/fold_5: none of the folds 0..4" in problem


def test_a_missing_or_empty_runs_folder_is_wrong_use(tmp_path):
    with pytest.raises(ValueError, match="which is not a folder"):
        read_runs(tmp_path / "nowhere")
    (tmp_path / "cfn_sr").mkdir()
    with pytest.raises(ValueError, match="holds no run: expected folders"):
        read_runs(tmp_path)


def test_a_fold_outside_the_headline_that_differs_is_left_out_alone(tmp_path):
    write_run(tmp_path, fold=0)
    write_run(tmp_path, fold=1)
    write_run(tmp_path, fold=5, seed=7)
    models, left_out = read_runs(tmp_path)
    assert [run.fold for run in models["cfn_sr"]] == [0, 1]
    assert [each.name for each in left_out] == ["cfn_sr/fold_5"]
    assert "seed is 0 and 7" in left_out[0].problems[0]


def test_a_fold_outside_the_headline_that_agrees_is_kept(tmp_path):
    for fold in (0, 5):
        write_run(tmp_path, fold=fold)
    models, left_out = read_runs(tmp_path)
    assert [run.fold for run in models["cfn_sr"]] == [0, 5]
    assert not left_out
