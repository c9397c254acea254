"""Settings side by side: figures recomputed from predictions.csv, and what is left out named."""

import csv
import math
import shutil
import statistics
from pathlib import Path

import pytest
from fake_runs import make_run, start, write

from evaluate.compare.cli import main

FOLDS, SEEDS = range(3), range(3)
FASTER = {"learning_rate": 2e-3, "mixup": 0.2}


def right(fold: int, seed: int, more: int = 0) -> int:
    """The number of right clips of 240: another one in each run."""
    return 130 + 17 * fold + (7 * seed * (fold + 1)) % 11 + more


@pytest.fixture
def runs(tmp_path) -> Path:
    """Eighteen validation runs: two settings, three folds, three seeds."""
    for fold in FOLDS:
        for seed in SEEDS:
            common = {"validation": True, "seed": seed, "device": f"machine {seed}"}
            write(tmp_path / "base" / f"seed_{seed}", make_run(fold, right(fold, seed), **common))
            faster = make_run(fold, right(fold, seed, 5 * fold - seed), **FASTER, **common)
            write(tmp_path / "faster" / f"seed_{seed}", faster)
    return tmp_path


def compare(*arguments: object, status: int = 0) -> None:
    assert main(list(map(str, arguments))) == status


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "compare.csv").open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened, strict=True))


def predictions(runs: Path, seed: int, fold: int) -> list[tuple[str, str]]:
    """True and predicted class of each clip of a run."""
    path = runs / f"seed_{seed}" / "cfn_sr" / f"validation_{fold}" / "predictions.csv"
    with path.open(newline="", encoding="utf-8") as opened:
        return [(row["label"], row["predicted"]) for row in csv.DictReader(opened)]


def accuracy(tested: list[tuple[str, str]]) -> float:
    return sum(label == predicted for label, predicted in tested) / len(tested)


def recall(tested: list[tuple[str, str]]) -> float:
    """The mean recall over the eight emotions."""
    return statistics.mean(
        accuracy([each for each in tested if each[0] == str(label)]) for label in range(8)
    )


def test_the_figures_are_those_of_the_predictions_written_out(runs, tmp_path, capsys):
    compare(runs / "faster", runs / "base", "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    keys = [(seed, fold) for seed in SEEDS for fold in FOLDS]
    found = {
        name: {key: predictions(runs / name, *key) for key in keys} for name in ("faster", "base")
    }
    for row, (name, tested) in zip(rows, found.items(), strict=True):
        own = [statistics.mean(accuracy(tested[seed, fold]) for fold in FOLDS) for seed in SEEDS]
        assert float(row["accuracy"]) == pytest.approx(statistics.mean(own), abs=1e-6)
        error = statistics.stdev(own) / math.sqrt(3)
        assert float(row["standard_error"]) == pytest.approx(error, abs=1e-6)
        assert [float(each) for each in row["per_seed"].split()] == pytest.approx(own, abs=1e-6)
        uar = [recall([each for fold in FOLDS for each in tested[seed, fold]]) for seed in SEEDS]
        assert float(row["uar"]) == pytest.approx(statistics.mean(uar), abs=1e-6)
        assert (row["folds"], row["seeds"], row["runs"]) == ("0 1 2", "0 1 2", "9")
        assert row["folders"] == str(runs / name)
    first, second = rows
    assert (first["learning rate"], first["mixup"]) == ("0.002", "0.2")  # of the first folder
    assert (second["learning rate"], second["mixup"]) == ("0.001", "0.0")
    assert not {"epochs", "seed", "device", "parameters"} & set(
        first
    )  # the same in both, or no setting
    apart = [accuracy(found["base"][key]) - accuracy(found["faster"][key]) for key in keys]
    assert first["difference"] == first["difference_standard_error"] == ""
    assert float(second["difference"]) == pytest.approx(statistics.mean(apart), abs=1e-6)
    error = statistics.stdev(apart) / math.sqrt(9)
    assert float(second["difference_standard_error"]) == pytest.approx(error, abs=1e-6)
    assert second["pairs"] == "9"

    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (tmp_path / "out" / "compare.md").read_text()
    line = (
        f"| {100 * float(second['accuracy']):.2f} | {100 * float(second['standard_error']):.2f} |"
    )
    assert line in printed.out
    assert f"| {100 * statistics.mean(apart):+.2f} | {100 * error:.2f} | 9 |" in printed.out
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_missing_runs_and_folds_are_named_and_only_pairs_are_compared(runs, tmp_path, capsys):
    (runs / "faster" / "seed_2" / "cfn_sr" / "validation_1" / "predictions.csv").unlink()
    shutil.rmtree(runs / "base" / "seed_0")
    compare(runs / "base", runs / "faster", "--out", tmp_path / "out", status=1)
    printed = capsys.readouterr()
    for text in (printed.err, printed.out.replace("\\", "")):
        assert "seed_2/cfn_sr/validation_1 is left out: 3 of 3 epochs are done. Finish" in text
    assert "Row 2: 8 runs, expected 9: not every seed has all of the folds 0 1 2" in printed.out
    assert "Row 2: its 8 runs and the 6 of row 1 make only 5 pairs" in printed.out
    first, second = rows_of(tmp_path / "out")
    assert (first["runs"], second["runs"], second["pairs"]) == ("6", "8", "5")
    assert (first["standard_error"] != "", second["standard_error"]) == (True, "")
    apart = [(5 * fold - seed) / 240 for fold, seed in ((0, 1), (1, 1), (2, 1), (0, 2), (2, 2))]
    assert float(second["difference"]) == pytest.approx(statistics.mean(apart), abs=1e-6)


def test_pairs_have_the_same_clips(runs, tmp_path, capsys):
    other = make_run(0, 150, validation=True, split="luna5")
    write(tmp_path / "luna5", other)
    compare(runs / "base", tmp_path / "luna5", "--out", tmp_path / "out")
    assert "make only 0 pairs" in capsys.readouterr().out
    row = rows_of(tmp_path / "out")[1]
    assert (row["split"], row["pairs"], row["difference"]) == ("luna5", "0", "")


def test_a_run_is_read_once_and_its_twin_is_left_out_with_a_line(runs, tmp_path, capsys):
    compare(runs / "base", runs, "--out", tmp_path / "out")
    assert [row["runs"] for row in rows_of(tmp_path / "out")] == ["9", "9"]
    write(tmp_path / "again", make_run(1, right(1, 2) + 9, validation=True, seed=2))
    assert capsys.readouterr().err == ""
    compare(runs / "base", tmp_path / "again", status=1)
    assert "again/cfn_sr/validation_1 is left out: it has the settings, fold and seed of" in (
        error := capsys.readouterr().err
    )
    assert "and other predictions. Keep one of the two" in error


def test_models_starts_and_caches_are_settings_but_folds_of_starts_are_not(tmp_path, capsys):
    for fold in range(2):
        common = {"validation": True}
        own = {"audio": start({"fold": fold, "recipe": "modern"}) | {"sha256": str(fold) * 64}}
        runs = (
            make_run(fold, 150, **common),
            make_run(fold, 150, model="msaf", parameters=25_940_724, **common),
        )
        write(tmp_path / "plain", *runs)
        write(tmp_path / "chained", make_run(fold, 160, init=own, **common))
        write(tmp_path / "public", make_run(fold, 160, init={"audio": start()}, **common))
    compare(
        tmp_path / "chained", tmp_path / "plain", tmp_path / "public", "--out", tmp_path / "out"
    )
    rows = rows_of(tmp_path / "out")
    assert [(row["model"], row["starting weights"], row["runs"]) for row in rows] == [
        ("cfn_sr", "audio: audio_mfcc_cnn, 70 epochs of modern", "2"),
        ("cfn_sr", "random weights", "2"),
        ("msaf", "random weights", "2"),
        ("cfn_sr", "audio: a file of unknown actors", "2"),
    ]
    assert (
        "| 3 | msaf | 25940724 | random weights | 0 1 | 0 | 2 | 62.50 |  |"
        in capsys.readouterr().out
    )


def test_test_runs_are_only_read_on_request_and_it_is_said_loudly(runs, tmp_path, capsys):
    write(tmp_path / "tested", *(make_run(fold, 150) for fold in range(2)))
    compare(tmp_path / "tested", status=2)
    assert "contains no runs, expected <model>/validation_<k>" in capsys.readouterr().err
    compare(tmp_path / "tested", "--test", "--out", tmp_path / "out")
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "These runs were tested on the TEST actors." in text
    assert "Settings compared on TEST actors" in printed.out
    compare(runs / "base", "--test", status=2)
    assert "contains no runs, expected <model>/fold_<k>" in capsys.readouterr().err


def test_without_a_usable_run_there_is_no_table(tmp_path, capsys):
    (write(tmp_path, make_run(0, 150, validation=True)) / "metrics.jsonl").write_text("oops")
    compare(tmp_path, "--out", tmp_path / "out", status=1)
    assert "error: no run is usable" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
