"""Two processes on one fold train and test as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_train_run import same_state

from train.parallel import Team

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("clips", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_clip_of_a_batch_counts_in_one_process(clips, size):
    batch = torch.arange(clips) + 10
    counted = []
    for rank in range(size):
        team = Team(rank, size)
        share = team.share(batch)
        assert len(share) >= 1
        counted += share[: team.own(clips)].tolist()
    assert sorted(counted) == batch.tolist()


def run(cache, runs, *more, processes, **variables):
    arguments = [*("--cache", cache, "--runs", runs, "--fold", 0, "--preset", "tiny")]
    arguments += ["--device", "cpu", "--epochs", 2, "--batch-size", 3, *more]
    launcher = [sys.executable]
    if processes > 1:  # a port of its own, that torchrun finds
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [*launcher, str(ROOT / "tests" / "team_member.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
    )


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_reach_what_one_does(fold_cache, tmp_path):
    """Eight clips in batches of three: shares of 2 and 1, and in the last batch of 1 and 1.

    At a small rate, because Adam makes whole steps of gradients that are but rounding errors.
    """
    for processes in (1, 2):
        runs = tmp_path / str(processes)
        done = run(fold_cache, runs, "--lr", "1e-5", processes=processes, NO_DROPOUT="1")
        assert done.returncode == 0, done.stderr
    # One voice: the line that begins a run and the one that ends it are there once.
    assert done.stdout.count("parameters on cpu") == 1
    assert done.stdout.count("in the last epoch") == 1
    one, two = (tmp_path / str(processes) / "cfn_sr" / "fold_0" for processes in (1, 2))
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    for alone, together in zip(lines_of(one), lines_of(two), strict=True):
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4, abs=1e-5), name
    states = [torch.load(run / "last.pt", weights_only=True) for run in (one, two)]
    assert states[0]["model"].keys() == states[1]["model"].keys()
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], tensor, rtol=1e-3, atol=1e-4)
    # Means of gradients, which a wrong scale would show.
    moments = [state["training"]["optimizer"]["state"] for state in states]
    for number, moment in moments[0].items():
        expected, found = moment["exp_avg"], moments[1][number]["exp_avg"]
        assert (found - expected).norm() <= 1e-2 * expected.norm() + 1e-7
    clips = [
        [row.split(",")[0] for row in (run / "predictions.csv").read_text().splitlines()]
        for run in (one, two)
    ]
    assert clips[0] == clips[1]
    assert len(set(clips[1])) == 9  # a header and each test clip once


def test_two_processes_go_on_from_the_middle_of_an_epoch_as_if_never_stopped(fold_cache, tmp_path):
    """Dropout and all: each process draws as it would have. One alone is told to stop."""
    straight = run(fold_cache, tmp_path / "straight", processes=2)
    assert straight.returncode == 0, straight.stderr
    told = {"STOP_AFTER": "2", "STOP_RANK": "1"}
    stopped = run(fold_cache, tmp_path / "stopped", processes=2, **told)
    assert "saved, go on with --resume" in stopped.stderr
    resumed = run(fold_cache, tmp_path / "stopped", "--resume", processes=2)
    assert resumed.returncode == 0, resumed.stderr
    states = [
        torch.load(tmp_path / name / "cfn_sr" / "fold_0" / "last.pt", weights_only=True)
        for name in ("straight", "stopped")
    ]
    assert same_state(*states)
    lines = [lines_of(tmp_path / name / "cfn_sr" / "fold_0") for name in ("straight", "stopped")]
    for expected, found in zip(*lines, strict=True):
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    again = run(fold_cache, tmp_path / "stopped", "--resume", processes=2)
    assert again.stdout.count("nothing to do") == 1


def test_wrong_use_is_said_by_two_processes_as_by_one(fold_cache, tmp_path):
    done = run(fold_cache, tmp_path, "--lr", "-1", processes=2)
    assert done.returncode != 0
    assert "learning_rate is -1.0, expected a number above 0" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_same_state_is_seen_as_such():
    state = {"a": torch.ones(2), "b": [{"c": 1}]}
    assert same_state(state, {"a": torch.ones(2), "b": [{"c": 1}]})
    assert not same_state(state, {"a": torch.ones(2), "b": [{"c": 2}]})
