"""SIGKILL at random moments: the next run goes on and ends with the bytes of a straight run.

For a longer trial set CFNSR_KILLS to a number, and CFNSR_KILL_RAW to a folder of more clips.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("CFNSR_KILLS", "3"))
# What a run needs to its first clip, about.
START_S = 5


def start(raw, cache):
    return subprocess.Popen(
        [sys.executable, "-m", "preprocess", "--raw", raw, "--cache", cache, "--jobs", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def finished(cache):
    """When each clip that waits for the manifest was finished; nothing of what is in it."""
    return {path.name: path.stat().st_mtime_ns for path in cache.glob(".work/??-*.json")}


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
    raw = os.environ.get("CFNSR_KILL_RAW", sample_clips)
    started = time.monotonic()
    run = start(raw, tmp_path / "straight")
    total = int(run.communicate()[0].split()[0])
    assert run.returncode == 0
    takes_s = time.monotonic() - started
    moments = random.Random(0)
    done = {}
    for _ in range(KILLS):
        run = start(raw, tmp_path / "killed")
        if moments.random() < 0.3:  # on the way to the first clip
            time.sleep(moments.uniform(0, START_S))
        else:  # at work
            while run.poll() is None and len(finished(tmp_path / "killed")) == len(done):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, max(0.05, 2 * (takes_s - START_S) / KILLS)))
        workers = workers_of(run.pid)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        ends = time.monotonic() + 30  # a worker may be at its imports
        while any(map(alive, workers)):
            assert time.monotonic() < ends, "workers outlive the run that was killed"
            time.sleep(0.1)
        if (tmp_path / "killed" / "manifest.json").exists():
            break  # it was through before the kill came
        now = finished(tmp_path / "killed")
        assert now | done == now, "a finished clip was lost, or made again"
        print(f"{len(now)} of {total} clips finished, {len(now) - len(done)} by the run killed")
        done = now
    run = start(raw, tmp_path / "killed")
    last = run.communicate()[0].splitlines()[0]
    assert run.returncode == 0
    assert f"{total - len(done)} clips made" in last or "nothing to do" in last
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
