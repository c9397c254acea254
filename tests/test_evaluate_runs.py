"""Which runs are found, which may be averaged, and which are left out, with the reason."""

import os
import re

import pytest
from fake_runs import make_run, origin, start, write

from evaluate.runs import read_runs, start_in_words


def test_runs_are_grouped_by_model_in_the_order_of_the_tables_and_sorted_by_fold(tmp_path):
    for model, fold in (("x", 0), ("cfn_sr", 3), ("cfn_sr", 0), ("msaf", 1), ("a", 5), ("a", 1)):
        write(tmp_path, make_run(fold, 180, model=model))
    models, left_out = read_runs(tmp_path)
    assert left_out == []
    assert [(model, [run.fold for run in runs]) for model, runs in models.items()] == [
        *(("msaf", [1]), ("cfn_sr", [0, 3]), ("a", [1, 5]), ("x", [0]))
    ]
    assert models["cfn_sr"][1].predictions.accuracy == 0.75


def test_unfinished_and_damaged_runs_are_left_out_with_the_reason_without_absolute_paths(tmp_path):
    (write(tmp_path, make_run(0, 180)) / "predictions.csv").unlink()
    (write(tmp_path, make_run(1, 180)) / "metrics.jsonl").write_text("oops\n")
    (write(tmp_path, make_run(2, 180)) / "config.json").unlink()
    write(tmp_path, make_run(3, 180))
    config = write(tmp_path, make_run(4, 180)) / "config.json"
    config.unlink()
    config.mkdir()
    models, left_out = read_runs(tmp_path)
    assert [run.fold for run in models["cfn_sr"]] == [3]
    states = [(each.name[-1], each.state) for each in left_out]
    assert states == [("0", "unfinished"), ("1", "damaged"), ("2", "damaged"), ("4", "damaged")]
    unreadable = f"config.json cannot be read: {os.strerror(21)}"
    expected = ("70 of 70 epochs", "line 1: not JSON", "missing", unreadable)
    for each, words in zip(left_out, expected, strict=True):
        assert words in each.problems[0]
        assert str(tmp_path) not in each.problems[0]


@pytest.mark.parametrize("name", ["<script>", "cfn\nsr"])
def test_a_run_in_a_folder_of_another_name_is_left_out_and_named_in_print(name, tmp_path):
    write(tmp_path, make_run(0, 180)).parent.rename(tmp_path / name)
    models, (left_out,) = read_runs(tmp_path)
    assert models == {}
    assert left_out.state == "damaged"
    assert left_out.name == ("'cfn\\nsr/fold_0'" if "\n" in name else f"{name}/fold_0")


def test_a_model_has_a_plain_name(tmp_path):
    folder = write(tmp_path, make_run(0, 180)).parent
    config = folder.rename(tmp_path / "a b") / "fold_0" / "config.json"
    config.write_text(config.read_text().replace("cfn_sr", "a b"))
    _, (left_out,) = read_runs(tmp_path)
    assert "model is 'a b', expected letters, digits and _" in left_out.problems[0]


STARTED = "'video: video_resnext50, 70 epochs; audio: audio_mfcc_cnn, 70 epochs"
FASTER = {"video": start({"model": "video_resnext50"})}
FASTER["audio"] = start({"changed": {"epochs": 70, "learning_rate": 0.01}})


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"seed": 7}, "seed is 0 and 7"),
        ({"preset": "tiny"}, "preset is 'paper' and 'tiny'"),
        ({"parameters": 7}, "parameters is 26301417 and 7"),
        ({"batch_size": 8}, "batch size is 16 and 8"),
        ({"learning_rate": 0.1}, r"learning rate is 0\.001 and 0\.1"),
        ({"precision": "bfloat16"}, "precision is 'float32' and 'bfloat16'"),
        ({"mixup": 0.4, "device": "gpu 1"}, r"mixup is 0\.0 and 0\.4"),
        ({"recipe": "modern", "versions": {"torch": "3"}}, "recipe is 'paper' and 'modern'"),
        ({"cache": origin("other")}, "dataset is 'RAVDESS speech, full .*' and 'other'"),
        ({"cache": origin(fingerprint="a" * 64)}, "cache fingerprint is '0f0f.*' and 'aaaa.*'"),
        ({"init": {}}, f"starting weights is {STARTED}' and 'random weights'"),
        ({"init": FASTER}, rf"starting weights is {STARTED}' and {STARTED}, learning rate 0\.01'"),
    ],
)
def test_folds_with_another_setting_are_not_averaged(setting, found, tmp_path):
    write(tmp_path, make_run(0, 180), make_run(2, 180, **setting), make_run(0, 180, model="x"))
    models, (left_out,) = read_runs(tmp_path)
    assert list(models) == ["x"]
    assert (left_out.name, left_out.state) == ("cfn_sr", "not averaged")
    expected = f"cfn_sr/fold_0 and cfn_sr/fold_2: {found}, so they must not be averaged. Keep .*"
    assert re.fullmatch(expected, *left_out.problems)


def test_folds_that_started_from_the_run_of_their_own_fold_are_averaged(tmp_path):
    for fold in range(2):
        init = {"audio": start({"fold": fold}) | {"sha256": str(fold) * 64}}
        write(tmp_path, make_run(fold, 180, init=init))
    models, left_out = read_runs(tmp_path)
    assert (len(models["cfn_sr"]), left_out) == (2, [])


def test_a_fold_outside_the_headline_is_kept_if_it_agrees_and_else_left_out_by_itself(tmp_path):
    write(tmp_path, make_run(0, 180), make_run(1, 180), make_run(5, 180))
    models, left_out = read_runs(tmp_path)
    assert ([run.fold for run in models["cfn_sr"]], left_out) == ([0, 1, 5], [])
    write(tmp_path / "other", make_run(0, 180), make_run(1, 180), make_run(5, 180, seed=7))
    models, (left_out,) = read_runs(tmp_path / "other")
    assert [run.fold for run in models["cfn_sr"]] == [0, 1]
    assert (left_out.name, left_out.state) == ("cfn_sr/fold_5", "not comparable")
    assert "seed is 0 and 7" in left_out.problems[0]

    write(tmp_path / "only", make_run(5, 180))  # no result
    _, (left_out,) = read_runs(tmp_path / "only")
    assert "cfn_sr/fold_5: none of the folds 0..4" in left_out.problems[0]


def test_starting_weights_are_described_with_where_they_come_from():
    def words(**init):
        return start_in_words(make_run(0, init=init).config)

    assert words(audio=start({"epochs": 3}), video=start()) == (
        "video: a file of unknown actors; audio: audio_mfcc_cnn, 3 epochs"
    )
    assert words(audio=start({"init": {"audio": start()}})) == (
        "audio: audio_mfcc_cnn, 70 epochs, itself from a file of unknown actors"
    )
    assert words(audio=start({"validation": True, "preset": "tiny"})) == (
        "audio: audio_mfcc_cnn, 70 epochs of a validation run of preset tiny"
    )
    # Where features come from is said if it is not the cache of the run.
    own = {name: origin()[name] for name in ("dataset", "fingerprint")}
    for theirs, remark in (
        (own, ""),
        (own | {"fingerprint": "ab" * 32}, ", on features with fingerprint abababababab"),
        (own | {"dataset": "drawings"}, ", on drawings"),
    ):
        assert words(audio=start({"cache": theirs})) == f"audio: audio_mfcc_cnn, 70 epochs{remark}"
