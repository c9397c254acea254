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
from training import AUDIO, arguments, assert_same_run, train

from train.cli import main

KILLS = int(os.environ.get("CFNSR_KILLS", "3"))
EPOCHS_PER_KILL = 8
ARGUMENTS = ("--epochs", EPOCHS_PER_KILL * (KILLS + 1), "--recipe", "modern")


@pytest.fixture(scope="module")
def cache(fold_cache):
    return Path(os.environ.get("CFNSR_KILL_CACHE", fold_cache))


@pytest.fixture(scope="module")
def straight(cache, tmp_path_factory):
    runs = tmp_path_factory.mktemp("straight")
    assert train(cache, runs, *ARGUMENTS) == 0
    return runs


def begin_run(cache, runs, epoch=None):
    """Start or resume the run in its own process; wait until `epoch` is done, or all are."""
    words = arguments(cache, runs, *ARGUMENTS, "--resume")
    process = begin(main, runs / "printed", words)
    metrics = runs / AUDIO / "fold_0" / "metrics.jsonl"
    while process.is_alive():
        if epoch and metrics.is_file() and len(metrics.read_bytes().splitlines()) >= epoch:
            return process
        time.sleep(0.002)
    assert process.exitcode == 0, (runs / "printed" / "stderr").read_text()
    return process


def test_killed_again_and_again_a_run_ends_with_the_same_bits(cache, tmp_path, straight):
    moments = random.Random(0)
    for kill in range(KILLS):
        process = begin_run(cache, tmp_path, 1 + EPOCHS_PER_KILL * kill)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    begin_run(cache, tmp_path)
    assert_same_run(straight, tmp_path)


def test_sigterm_ends_a_run_and_says_how_to_resume(cache, tmp_path, straight):
    process = begin_run(cache, tmp_path, 5)
    process.terminate()
    process.join()
    assert process.exitcode == 1
    error = (tmp_path / "printed" / "stderr").read_text().splitlines()[-1]
    assert error.startswith(f"error: {tmp_path / AUDIO / 'fold_0'}: interrupted after epoch ")
    assert error.endswith("Finished epochs are saved; resume with --resume")
    begin_run(cache, tmp_path)
    assert_same_run(straight, tmp_path)
