"""From drawn clips to the report, through the command lines alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def call(*arguments, status=0):
    """Run a command of the project as a user does."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("end_to_end")
    return {name: base / name for name in ("raw", "cache", "runs", "report")}


def test_drawn_clips_become_a_report(folders):
    raw, cache, runs, report = folders.values()
    call("-m", "preprocess.sample", "--out", raw, "--actors", 8, "--clips-per-actor", 1)
    call("-m", "preprocess", "--raw", raw, "--cache", cache)
    for fold in (0, 1):
        trained = call(
            *("train.py", "--cache", cache, "--runs", runs, "--fold", fold),
            *("--preset", "tiny", "--epochs", 2, "--batch-size", 4, "--device", "cpu"),
        )
        assert "warning: " in trained.stderr  # sixteen actors are missing
    shown = call("-m", "evaluate", "--runs", runs, "--out", report, "--cache", cache)
    assert "2 of 5 folds" in shown.stdout
    assert "says nothing about people" in shown.stdout
    summary = json.loads((report / "summary.json").read_text())["models"]["cfn_sr"]
    assert summary["folds"] == [0, 1]
    lasts = [
        json.loads(
            (runs / "cfn_sr" / f"fold_{fold}" / "metrics.jsonl").read_text().splitlines()[-1]
        )
        for fold in (0, 1)
    ]
    expected = [last["test_accuracy"] for last in lasts]
    assert summary["accuracy_last"]["per_fold"] == pytest.approx(expected, abs=1e-6)
    assert summary["accuracy_last"]["mean"] == pytest.approx(sum(expected) / 2, abs=1e-6)
    page = (report / "report.html").read_text()
    assert "synthetic sample" in page
    right = sum(summary["confusion"][label][label] for label in range(8))
    assert page.count("<img ") == 8 - right  # a face for each mistake


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "preprocess"),
        ("-m", "preprocess.sample"),
        ("-m", "cache"),
        ("-m", "model"),
        ("train.py",),
        *(
            ("-m", f"benchmarks.{name}")
            for name in ("bench_train", "bench_stream", "bench_features", "bench_predict")
        ),
        ("-m", "benchmarks.bench_boxes"),
        ("-m", "benchmarks.fuzz_shards"),
        ("-m", "evaluate"),
        ("-m", "evaluate.export"),
        ("-m", "evaluate.robustness"),
    ],
)
def test_every_command_explains_itself(arguments):
    assert "usage:" in call(*arguments, "--help").stdout
    wrong = call(*arguments, "--no-such-option", status=2)
    assert "error:" in wrong.stderr


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("preprocess", "av", "features"),
        ("evaluate", "sklearn", "report"),
        ("evaluate.predict", "av", "features,report"),
        ("evaluate.predict", "matplotlib", "features,report"),
        ("evaluate.export", "sklearn", "export,report"),
        ("evaluate.robustness", "sklearn", "report,features"),
    ],
)
def test_a_command_says_which_extra_it_lacks(command, package, extra):
    script = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['-', '--help']\n"
        f"runpy.run_module({command!r}, run_name='__main__', alter_sys=True)"
    )
    error = call("-c", script, status=2).stderr
    assert re.fullmatch(rf"error: this needs {package}[.\w]*: pip install '\.\[{extra}]'\n", error)


def test_the_cache_command_looks_and_checks(folders, tmp_path):
    cache = folders["cache"]
    assert "8 in 8 shards" in call("-m", "cache", "info", cache).stdout
    assert "8 shards checked, 0 problems" in call("-m", "cache", "verify", cache).stdout
    call("-m", "cache", "inspect", cache, "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "no finished cache" in call("-m", "cache", "info", tmp_path, status=2).stderr
    shard = cache / "actor_03.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert "actor_03.h5: sha256" in call("-m", "cache", "verify", cache, status=1).stderr
