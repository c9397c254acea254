"""Runs that are killed or told to end, in processes of their own, go on to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_train_run import same_state

ROOT = Path(__file__).parents[1]
KILLS = int(os.environ.get("CFNSR_KILLS", "3"))
EPOCHS = 20
LONGEST_S = 1200


@pytest.fixture(scope="module")
def killed_cache(fold_cache):
    """The cache that is trained on: a small one of noise, or CFNSR_KILL_CACHE."""
    return Path(os.environ.get("CFNSR_KILL_CACHE", fold_cache))


def begin(cache, runs, *more):
    fixed = ["--fold", "0", "--preset", "tiny", "--device", "cpu", "--batch-size", "4"]
    arguments = [*("--cache", cache, "--runs", runs, "--epochs", EPOCHS, "--save-every", 0), *fixed]
    command = [
        sys.executable,
        ROOT / "train.py",
        *arguments,
        "--recipe",
        "modern",
        "--mixup",
        "0.2",
        *more,
    ]
    runs.mkdir(exist_ok=True)
    with (runs / "stderr").open("wb") as errors:
        return subprocess.Popen(
            [str(each) for each in command], stdout=subprocess.DEVNULL, stderr=errors
        )


def state_of(runs, name="last.pt"):
    return torch.load(runs / "cfn_sr" / "fold_0" / name, weights_only=True)


def wait_for_epoch(process, runs, epoch):
    """Wait until a run has written its metrics of `epoch`, or has ended."""
    metrics = runs / "cfn_sr" / "fold_0" / "metrics.jsonl"
    while process.poll() is None:
        if metrics.is_file() and len(metrics.read_bytes().splitlines()) >= epoch:
            return
        time.sleep(0.005)


@pytest.fixture(scope="module")
def straight(killed_cache, tmp_path_factory):
    runs = tmp_path_factory.mktemp("straight")
    assert begin(killed_cache, runs).wait(LONGEST_S) == 0, (runs / "stderr").read_bytes()
    return state_of(runs)


def test_killed_again_and_again_it_ends_with_the_same_bits(killed_cache, tmp_path, straight):
    """CFNSR_KILLS sets how often; each kill falls at a drawn moment."""
    moments = random.Random(0)
    killed = 0
    for kill in range(KILLS):
        process = begin(killed_cache, tmp_path, "--resume")
        wait_for_epoch(process, tmp_path, 1 + (kill + 1) * (EPOCHS - 3) // (KILLS + 1))
        time.sleep(moments.uniform(0, 0.15))
        killed += process.poll() is None
        process.kill()
        process.wait(60)
    assert killed == KILLS
    process = begin(killed_cache, tmp_path, "--resume")
    assert process.wait(LONGEST_S) == 0, (tmp_path / "stderr").read_bytes()
    assert same_state(state_of(tmp_path), straight)


def test_sigterm_saves_says_so_and_ends(killed_cache, tmp_path, straight):
    process = begin(killed_cache, tmp_path, "--save-every", "3600")
    wait_for_epoch(process, tmp_path, 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    assert b"saved, go on with --resume" in (tmp_path / "stderr").read_bytes()
    assert state_of(tmp_path)["epoch"] >= 5
    process = begin(killed_cache, tmp_path, "--resume")
    assert process.wait(LONGEST_S) == 0, (tmp_path / "stderr").read_bytes()
    assert same_state(state_of(tmp_path)["model"], straight["model"])
