"""A file of settings becomes one command line of train.py per run, quoted for any shell."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, status_of
from training import AUDIO

from train.cli import main as train
from train.record import read_run
from train.sweep import main


def expand(folder: Path, text: str, *arguments: object) -> int:
    (folder / "settings.txt").write_text(text)
    return status_of(main, folder / "settings.txt", *arguments)


def test_each_setting_fold_and_seed_is_one_line_in_its_own_folder(tmp_path, capsys):
    text = "# a comment\n\nall: --cache 'my cache; $(x)'\nbase:\nlr_2e-3: --lr 2e-3 # faster\n"
    text += "chain: --init-audio 'a {seed}/validation_{fold}/last.pt'\n"
    assert expand(tmp_path, text, "--folds", 0, 3, "--seeds", 0, 7, "--runs", "o'ut") == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 12
    start = [sys.executable, str(ROOT / "train.py"), "--cache", "my cache; $(x)"]
    for place, fold, seed, name, own in (
        (0, "0", "0", "base", []),
        (3, "3", "0", "lr_2e-3", ["--lr", "2e-3"]),
        (11, "3", "7", "chain", ["--init-audio", "a 7/validation_3/last.pt"]),
    ):
        end = ["--fold", fold, "--seed", seed, "--resume", "--runs", f"o'ut/{name}/seed_{seed}"]
        assert lines[place] == start + own + end


def test_a_line_runs_in_a_shell_and_finished_runs_are_skipped(fold_cache, tmp_path, capsys):
    common = f"--model {AUDIO} --preset tiny --device cpu --batch-size 4 --epochs 1"
    text = f"all: --cache {shlex.quote(str(fold_cache))} {common}\none:\ntwo: --lr 1e-2\n"
    assert expand(tmp_path, text, "--folds", 0, "--runs", tmp_path / "my runs") == 0
    one, two = capsys.readouterr().out.splitlines()
    assert train(shlex.split(one)[2:]) == 0
    xargs = ["xargs", "-P", "2", "-d", "\n", "-I{}", "sh", "-c", "{}"]
    done = subprocess.run(xargs, input=two, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    capsys.readouterr()
    for name, rate in (("one", 1e-3), ("two", 1e-2)):
        run = read_run(tmp_path / "my runs" / name / "seed_0" / AUDIO / "fold_0")
        assert run.config.settings.learning_rate == rate
    for line in (one, two):
        assert train(shlex.split(line)[2:]) == 0
        assert "all 1 epochs are trained already, nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no setting, expected lines `name: arguments of train.py`"),
        ("all: --cache c", "has no setting"),
        ("--cache c", "line 1: '--cache c': expected `name: arguments of train.py`"),
        ("a b: --cache c", "line 1: 'a b: --cache c': expected"),
        ("../a: --cache c", "line 1"),
        ("..: --cache c", "line 1"),
        ("a: --cache c\na: --cache d", "line 2"),
        ("a: --cache c\nall: --cache d", "line 2"),
        ("a: --cache 'c", 'line 1: "a: --cache \'c": No closing quotation'),
        ("a: --cache c --seed=3", "contains --seed=3, which is set for each run. Remove it"),
    ],
)
def test_a_line_that_is_no_setting_is_named(text, problem, tmp_path, capsys):
    assert expand(tmp_path, text) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert printed.out == ""


def test_arguments_that_train_py_would_refuse_are_refused_before_the_first_line(tmp_path, capsys):
    assert expand(tmp_path, "all: --cache c\na:\nb: --learning-speed 3") == 2
    printed = capsys.readouterr()
    assert "unrecognized arguments: --learning-speed 3" in printed.err
    assert printed.out == ""
