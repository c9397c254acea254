"""From synthetic clips to the report, through the command lines only."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cache.__main__ import main as cache_main
from evaluate.cli import main as evaluate_main
from preprocess.cli import main as preprocess_main
from preprocess.sample import main as sample_main
from train.cli import main as train_main

ROOT = Path(__file__).parent.parent


def call(main, *arguments, status=0):
    assert main([str(argument) for argument in arguments]) == status


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("end_to_end")
    return {name: base / name for name in ("raw", "cache", "runs", "report")}


def test_synthetic_clips_become_a_report(folders, capsys):
    raw, cache, runs, report = folders.values()
    call(sample_main, "--out", raw, "--actors", 8, "--clips-per-actor", 1)
    call(preprocess_main, "--raw", raw, "--cache", cache)
    for fold in (0, 1):
        call(
            *(train_main, "--cache", cache, "--runs", runs, "--fold", fold, "--preset", "tiny"),
            *("--epochs", 2, "--batch-size", 4, "--device", "cpu"),
        )
        assert "warning: " in capsys.readouterr().err  # sixteen actors are missing
    call(evaluate_main, "--runs", runs, "--out", report, "--cache", cache)
    printed = capsys.readouterr().out
    assert "2 of 5 folds" in printed
    assert "says nothing about people" in printed

    summary = json.loads((report / "summary.json").read_text())["models"]["cfn_sr"]
    assert summary["folds"] == [0, 1]
    metrics = [runs / "cfn_sr" / f"fold_{fold}" / "metrics.jsonl" for fold in (0, 1)]
    lasts = [json.loads(path.read_text().splitlines()[-1])["test_accuracy"] for path in metrics]
    assert summary["accuracy_last"]["per_fold"] == pytest.approx(lasts, abs=1e-6)
    assert summary["accuracy_last"]["mean"] == pytest.approx(sum(lasts) / 2, abs=1e-6)
    page = (report / "report.html").read_text()
    assert "synthetic sample" in page
    correct = sum(summary["confusion"][label][label] for label in range(8))
    assert page.count("<img ") == 8 - correct  # a face for each mistake


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("preprocess", "av", "features"), ("evaluate", "sklearn", "report")],
)
def test_a_command_says_which_extra_is_not_installed(command, package, extra):
    script = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['-', '--help']\n"
        f"runpy.run_module({command!r}, run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    expected = rf"error: {package}[.\w]* is not installed: pip install '\.\[{extra}]'\n"
    assert done.returncode == 2
    assert re.fullmatch(expected, done.stderr)


def test_the_cache_command_shows_and_verifies(folders, tmp_path, capsys):
    cache = folders["cache"]
    call(cache_main, "info", cache)
    call(cache_main, "verify", cache)
    call(cache_main, "inspect", cache, "--out", tmp_path / "sheet.png")
    printed = capsys.readouterr().out
    assert "8 in 8 shards" in printed
    assert "8 shards checked, 0 problems" in printed
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    call(cache_main, "info", tmp_path, status=2)
    assert "no finished cache" in capsys.readouterr().err
    shard = cache / "actor_03.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    call(cache_main, "verify", cache, status=1)
    assert "actor_03.h5: sha256" in capsys.readouterr().err


def test_the_package_claims_no_top_level_names(tmp_path):
    """Its folders have names that other packages use too, such as Hugging Face's `evaluate`."""
    copied = tmp_path / "source"
    copied.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (copied / name).write_bytes((ROOT / name).read_bytes())
    for name in ("cache", "evaluate", "model", "preprocess", "train"):
        (copied / name).mkdir()
        (copied / name / "__init__.py").touch()
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copied, capture_output=True, text=True, check=True
    )
    wheel = copied / done.stdout.splitlines()[-1]
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True
    )
    files = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert files
    assert all(file.startswith("cfn_sr-") and ".dist-info/" in file for file in files)
