"""SIGKILL at every moment that matters: the next run resumes and ends with the same bytes."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from media import contents, record

from cache.ravdess import expected_clips
from cache.reader import Cache
from preprocess.cli import main

ROOT = Path(__file__).parent.parent
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def features(raw, cache, jobs=1):
    return [*map(str, ("--raw", raw, "--cache", cache, "--modality", "audio", "--jobs", jobs))]


def run_and_die(raw, cache, last):
    """Run until files in `cache` have changed `last` times, then die before the next change."""
    changes = 0

    def count(event, arguments):
        nonlocal changes
        if event in CHANGES and str(cache) in str(arguments[0]):
            changes += 1
            if changes > last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    os._exit(main(features(raw, cache)))


def kill_everywhere(first, second, folder):
    """Kill runs that bring the cache of the first raw folder to that of the second."""
    os.fsync = lambda descriptor: None  # slow, and no power is cut here
    before, straight = folder / "before", folder / "straight"
    assert main(features(first, before)) == 0
    shutil.copytree(before, straight)
    assert main(features(second, straight)) == 1
    left = 2
    for last in range(1000):
        killed = folder / f"killed_{last}"
        shutil.copytree(before, killed)
        pid = os.fork()
        if pid == 0:
            run_and_die(second, killed, last)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):  # it came to its end
            break
        if (killed / "manifest.json").exists():
            assert not any(Cache(killed).problems()), f"after {last} changes"
        with redirect_stdout(StringIO()) as said:
            assert main(features(second, killed)) == 1
        assert contents(killed) == contents(straight), f"after {last} changes"
        # The later the kill, the less is left to do: finished clips are not processed again.
        made = int(said.getvalue().split()[0].replace("nothing", "0"))
        assert made <= left, f"after {last} changes"
        left = made
        shutil.rmtree(killed)
    assert last > 20


def test_a_run_killed_before_any_change_to_the_disk_is_finished_by_the_next(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    for actor in (1, 2, 3):
        record(first, f"03-01-01-01-01-01-{actor:02d}", 200 + actor)
    shutil.copytree(first, second)
    # Actor 1 gets another clip, to join the one that is in the cache and nowhere else.
    record(second, "03-01-01-01-01-01-01", 300).rename(second / "03-01-01-01-01-02-01.wav")
    record(second, "03-01-01-01-01-01-02", 400)  # that of actor 2 is replaced
    record(second, "03-01-01-01-01-01-03", 500).write_bytes(b"no sound")  # and of actor 3 spoilt
    monkeypatch.setenv("TQDM_DISABLE", "1")  # its thread would be in the way of fork
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=kill_everywhere, args=(first, second, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0


def is_alive(process):
    """Whether a process is there, and is not one that has ended and waits to be collected."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_workers_end_and_their_finished_clips_are_kept(tmp_path, capsys):
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    for clip in expected_clips(1)[:30]:
        record(raw, f"03{clip.clip_id[2:]}", 440)
    run = subprocess.Popen([sys.executable, "-m", "preprocess", *features(raw, cache, 2)], cwd=ROOT)
    while not any(cache.glob(".work/*.npz")):
        assert run.poll() is None
        time.sleep(0.005)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(run.pid)], capture_output=True)
    workers = [Path("/proc") / number for number in listed.stdout.decode().split()]
    run.kill()
    run.wait()
    ends = time.monotonic() + 30
    while any(map(is_alive, workers)):
        assert time.monotonic() < ends, "workers outlive the run that was killed"
        time.sleep(0.1)
    finished = len(list(cache.glob(".work/*.npz")))
    assert main(features(raw, cache)) == 0
    assert f"{30 - finished} clips processed" in capsys.readouterr().out
