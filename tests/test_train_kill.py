"""Runs that are killed, or told to end, resume to the same bits.

CFNSR_KILLS sets the number of kills, CFNSR_KILL_CACHE another cache than a small one of noise.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from processes import begin
from training import AUDIO, assert_same_run, train

from train.cli import main

KILLS = int(os.environ.get("CFNSR_KILLS", "3"))
EPOCHS = 12 * (KILLS + 1)
LONGEST_S = 1200


@pytest.fixture(scope="module")
def cache(fold_cache):
    return Path(os.environ.get("CFNSR_KILL_CACHE", fold_cache))


@pytest.fixture
def start(cache, tmp_path):
    """Starts the run, or resumes it, in a process of its own."""
    fixed = ["--cache", cache, "--runs", tmp_path, "--fold", 0, "--preset", "tiny", "--resume"]
    fixed += ["--device", "cpu", *ARGUMENTS]
    return lambda: begin(main, tmp_path / "printed", fixed)


ARGUMENTS = ("--model", AUDIO, "--epochs", EPOCHS, "--batch-size", 4, "--recipe", "modern")


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory):
    runs = tmp_path_factory.mktemp("straight")
    assert train(cache, runs, *ARGUMENTS) == 0
    return runs


def wait_for_epoch(process, runs, epoch):
    """Wait until a run has written its metrics of `epoch`, or has ended."""
    metrics = runs / AUDIO / "fold_0" / "metrics.jsonl"
    while process.is_alive():
        if metrics.is_file() and len(metrics.read_bytes().splitlines()) >= epoch:
            return
        time.sleep(0.002)


def finish(process, tmp_path):
    process.join(LONGEST_S)
    assert process.exitcode == 0, (tmp_path / "printed" / "stderr").read_text()


def test_killed_again_and_again_it_ends_with_the_same_bits(start, tmp_path, straight):
    moments = random.Random(0)
    for kill in range(KILLS):
        process = start()
        wait_for_epoch(process, tmp_path, 1 + 12 * kill)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    finish(start(), tmp_path)
    assert_same_run(straight, tmp_path)


def test_sigterm_ends_a_run_and_says_how_to_resume(start, tmp_path, straight):
    process = start()
    wait_for_epoch(process, tmp_path, 5)
    process.terminate()
    process.join(60)
    assert process.exitcode == 1
    error = (tmp_path / "printed" / "stderr").read_text().splitlines()[-1]
    folder = tmp_path / AUDIO / "fold_0"
    assert error.startswith(f"error: {folder}: interrupted after epoch ")
    assert error.endswith("Finished epochs are saved; resume with --resume")
    finish(start(), tmp_path)
    assert_same_run(straight, tmp_path)
