"""From synthetic clips to the report, through the command lines only."""

import json
import re
import zipfile

import pytest
from media import put
from processes import ROOT, run
from training import train

from evaluate.cli import main as evaluate_main
from preprocess.cli import main as preprocess_main
from preprocess.sample import main as sample_main


def call(main, *arguments):
    assert main([str(argument) for argument in arguments]) == 0


def test_synthetic_clips_become_a_report(tmp_path, capsys):
    raw, cache, runs, report = (tmp_path / name for name in ("raw", "cache", "runs", "report"))
    call(sample_main, "--out", raw, "--actors", 6, "--clips-per-actor", 1, "--jobs", 1)
    call(preprocess_main, "--raw", raw, "--cache", cache, "--jobs", 1)
    for fold in (0, 1):
        assert train(cache, runs, "--model", "cfn_sr", "--fold", fold, "--epochs", 2) == 0
        assert "warning: " in capsys.readouterr().err  # eighteen actors are missing
    call(evaluate_main, "--runs", runs, "--out", report, "--cache", cache)
    printed = capsys.readouterr().out
    assert "2 of 5 folds" in printed
    assert "not indicative of results on people" in printed

    summary = json.loads((report / "summary.json").read_text())["models"]["cfn_sr"]
    assert summary["folds"] == [0, 1]
    metrics = [runs / "cfn_sr" / f"fold_{fold}" / "metrics.jsonl" for fold in (0, 1)]
    lasts = [json.loads(path.read_text().splitlines()[-1])["test_accuracy"] for path in metrics]
    assert summary["accuracy_last"]["per_fold"] == pytest.approx(lasts, abs=1e-6)
    assert summary["accuracy_last"]["mean"] == pytest.approx(sum(lasts) / 2, abs=1e-6)
    page = (report / "report.html").read_text()
    assert "synthetic sample" in page
    correct = sum(summary["confusion"][label][label] for label in range(8))
    assert page.count("<img ") == 6 - correct  # a face for each mistake


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("preprocess", "av", "features"), ("evaluate", "sklearn", "report")],
)
def test_a_command_says_which_extra_is_not_installed(command, package, extra):
    script = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['-', '--help']\n"
        f"runpy.run_module({command!r}, run_name='__main__', alter_sys=True)"
    )
    expected = rf"error: {package}[.\w]* is not installed: pip install '\.\[{extra}]'\n"
    assert re.fullmatch(expected, run("python", "-c", script, status=2).stderr)


def test_the_package_claims_no_top_level_names(tmp_path):
    """Its folders have names that other packages use too, such as Hugging Face's `evaluate`."""
    copied = tmp_path / "source"
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        put(copied, name, (ROOT / name).read_bytes())
    for name in ("cache", "evaluate", "model", "preprocess", "train"):
        put(copied, f"{name}/__init__.py", b"")
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    wheel = run("python", "-c", build, folder=copied).stdout.splitlines()[-1]
    files = zipfile.ZipFile(copied / wheel).namelist()
    assert files
    assert all(file.startswith("cfn_sr-") and ".dist-info/" in file for file in files)
