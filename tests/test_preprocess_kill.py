"""SIGKILL at random moments: the next run goes on and ends with the bytes of a straight run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A run takes some seconds to its first clip; set more for a longer trial.
KILLS = int(os.environ.get("CFNSR_KILLS", "3"))


def start(raw, cache):
    return subprocess.Popen(
        [sys.executable, "-m", "preprocess", "--raw", raw, "--cache", cache, "--jobs", "2"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def workers_of(pid):
    """Processes that were started by `pid`, as Linux tells."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def alive(pid):
    """Whether a process is there, and not as a corpse that nobody collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_runs_end_with_the_bytes_of_a_straight_run(sample_clips, tmp_path):
    assert start(sample_clips, tmp_path / "straight").wait() == 0
    moments = random.Random(0)
    for _ in range(KILLS):
        run = start(sample_clips, tmp_path / "killed")
        time.sleep(moments.uniform(0.5, 6))
        workers = workers_of(run.pid)
        run.send_signal(signal.SIGKILL)
        run.wait()
        ends = time.monotonic() + 30  # a worker may be at its imports
        while any(map(alive, workers)):
            assert time.monotonic() < ends, "workers outlive the run that was killed"
            time.sleep(0.1)
    assert start(sample_clips, tmp_path / "killed").wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
