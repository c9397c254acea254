"""Settings side by side: figures recomputed from predictions.csv, and what is left out named."""

import math
import shutil
import statistics
from pathlib import Path

import pytest
from fake_runs import make_run, rows_of, start, write

from evaluate.compare.cli import main

FOLDS, SEEDS = range(3), range(3)
KEYS = [(seed, fold) for seed in SEEDS for fold in FOLDS]


@pytest.fixture
def runs(tmp_path) -> Path:
    """Eighteen validation runs: two settings, three folds, three seeds."""
    for seed, fold in KEYS:
        common = {"validation": True, "seed": seed, "device": f"machine {seed}"}
        right = 130 + 17 * fold + (7 * seed * (fold + 1)) % 11
        write(tmp_path / "base" / f"seed_{seed}", make_run(fold, right, **common))
        faster = {"learning_rate": 2e-3, "mixup": 0.2}
        other = make_run(fold, right + 5 * fold - seed, **faster, **common)
        write(tmp_path / "faster" / f"seed_{seed}", other)
    return tmp_path


def compare(*folders: Path, status: int = 0, test: bool = False) -> list[dict[str, str]]:
    """The rows of compare.csv, in the folder `out` beside the first folder."""
    out = folders[0].parent / "out"
    more = ["--test"] if test else []
    assert main([*map(str, folders), "--out", str(out), *more]) == status
    return rows_of(out / "compare.csv") if out.exists() else []


def predictions(runs: Path, seed: int, fold: int) -> list[tuple[str, str]]:
    """True and predicted class of each clip of a run."""
    path = runs / f"seed_{seed}" / "cfn_sr" / f"validation_{fold}" / "predictions.csv"
    return [(row["label"], row["predicted"]) for row in rows_of(path)]


def accuracy(tested: list[tuple[str, str]]) -> float:
    return statistics.mean(label == predicted for label, predicted in tested)


def recall(tested: list[tuple[str, str]]) -> float:
    """The mean recall over the eight emotions."""
    return statistics.mean(accuracy([each for each in tested if each[0] == k]) for k in "01234567")


def test_the_figures_are_those_of_the_predictions_written_out(runs, capsys):
    rows = compare(runs / "faster", runs / "base")
    names = ("faster", "base")
    found = {name: {key: predictions(runs / name, *key) for key in KEYS} for name in names}
    for row, (name, tested) in zip(rows, found.items(), strict=True):
        own = [statistics.mean(accuracy(tested[seed, fold]) for fold in FOLDS) for seed in SEEDS]
        uar = [recall([each for fold in FOLDS for each in tested[seed, fold]]) for seed in SEEDS]
        expected = {"accuracy": statistics.mean(own), "uar": statistics.mean(uar)}
        expected["standard_error"] = statistics.stdev(own) / math.sqrt(3)
        for column, value in expected.items():
            assert float(row[column]) == pytest.approx(value, abs=1e-6), column
        assert [float(each) for each in row["per_seed"].split()] == pytest.approx(own, abs=1e-6)
        assert (row["folds"], row["seeds"], row["runs"]) == ("0 1 2", "0 1 2", "9")
        assert row["folders"] == str(runs / name)
    first, second = rows
    assert (first["learning rate"], first["mixup"]) == ("0.002", "0.2")  # of the first folder
    assert (second["learning rate"], second["mixup"]) == ("0.001", "0.0")
    assert not {"epochs", "seed", "device", "parameters"} & set(first)
    apart = [accuracy(found["base"][key]) - accuracy(found["faster"][key]) for key in KEYS]
    error = statistics.stdev(apart) / math.sqrt(9)
    assert first["difference"] == first["difference_standard_error"] == first["pairs"] == ""
    assert float(second["difference"]) == pytest.approx(statistics.mean(apart), abs=1e-6)
    assert float(second["difference_standard_error"]) == pytest.approx(error, abs=1e-6)

    printed = capsys.readouterr()
    assert (printed.err, printed.out) == ("", (runs / "out" / "compare.md").read_text())
    assert f"| {100 * statistics.mean(apart):+.2f} | {100 * error:.2f} | 9 |" in printed.out
    assert (runs / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((runs / "out").iterdir())) == 3


def test_missing_runs_and_folds_are_named_and_only_pairs_are_compared(runs, capsys):
    (runs / "faster" / "seed_2" / "cfn_sr" / "validation_1" / "predictions.csv").unlink()
    shutil.rmtree(runs / "base" / "seed_0")
    first, second = compare(runs / "base", runs / "faster", status=1)
    printed = capsys.readouterr()
    for text in (printed.err, printed.out.replace("\\", "")):
        assert "seed_2/cfn_sr/validation_1 is excluded: 70 of 70 epochs are done. Finish" in text
    assert "Row 2: 8 runs, expected 9: not every seed has all of the folds 0 1 2" in printed.out
    assert "Row 2: its 8 runs and the 6 of row 1 make only 5 pairs" in printed.out
    assert (first["runs"], second["runs"], second["pairs"]) == ("6", "8", "5")
    assert (first["standard_error"] != "", second["standard_error"]) == (True, "")
    apart = [(5 * fold - seed) / 240 for seed, fold in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 2))]
    assert float(second["difference"]) == pytest.approx(statistics.mean(apart), abs=1e-6)


def test_pairs_have_the_same_clips(runs, capsys):
    luna5 = make_run(0, 150, validation=True, split="luna5", epochs=16)
    write(runs / "luna5", luna5)
    _, row = compare(runs / "base", runs / "luna5")
    printed = capsys.readouterr().out
    assert "make only 0 pairs" in printed
    assert "Row 2: trained 16 of 70 epochs: not the full result." in printed
    assert (row["split"], row["pairs"], row["difference"]) == ("luna5", "0", "")


def test_a_run_is_read_once_and_its_twin_is_left_out_with_a_line(runs, capsys):
    assert [row["runs"] for row in compare(runs / "base", runs)] == ["9", "9"]
    assert capsys.readouterr().err == ""
    write(runs / "again", make_run(1, 99, validation=True, seed=2))
    compare(runs / "base", runs / "again", status=1)
    error = capsys.readouterr().err
    assert "again/cfn_sr/validation_1 is excluded: it has the settings, fold and seed of" in error
    assert "and other predictions. Keep one of the two" in error


def test_models_and_starting_weights_are_settings_but_the_folds_of_these_are_not(tmp_path):
    for fold in range(2):
        own = {"audio": start({"fold": fold, "recipe": "modern"}) | {"sha256": str(fold) * 64}}
        for name, settings in (
            *(("a", {"init": own}), ("b", {"init": {}}), ("c", {"init": {"audio": start()}})),
            ("b", {"init": {}, "model": "msaf", "parameters": 7}),
        ):
            write(tmp_path / name, make_run(fold, 150, validation=True, **settings))
    rows = compare(*(tmp_path / name for name in "abc"))
    assert [(row["model"], row["starting weights"], row["runs"]) for row in rows] == [
        ("cfn_sr", "audio: audio_mfcc_cnn, 70 epochs of recipe modern", "2"),
        ("cfn_sr", "random weights", "2"),
        ("msaf", "random weights", "2"),
        ("cfn_sr", "audio: a file of unknown actors", "2"),
    ]


def test_a_setting_may_have_the_name_of_a_kind_of_run(tmp_path, capsys):
    write(tmp_path / "validation_lr", make_run(0, 150, validation=True))
    assert [row["runs"] for row in compare(tmp_path)] == ["1"]
    assert capsys.readouterr().err == ""


def test_test_runs_are_only_read_on_request_and_it_is_said_loudly(runs, capsys):
    write(runs / "tested", *(make_run(fold, 150) for fold in range(2)))
    compare(runs / "nowhere", status=2)
    assert "nowhere' is not a folder, expected <model>/validation_<k>" in capsys.readouterr().err
    compare(runs / "tested", status=2)
    assert "contains no runs, expected <model>/validation_<k>" in capsys.readouterr().err
    compare(runs / "base", test=True, status=2)
    assert "contains no runs, expected <model>/fold_<k>" in capsys.readouterr().err
    compare(runs / "tested", test=True)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "These runs were tested on the TEST actors." in text


def test_without_a_usable_run_there_is_no_table(tmp_path, capsys):
    run = write(tmp_path / "runs", make_run(0, 150, validation=True))
    (run / "metrics.jsonl").write_text("oops")
    assert compare(tmp_path / "runs", status=1) == []
    assert "error: no run is usable" in capsys.readouterr().err
