"""Worker processes that die, and a real dask cluster on this machine."""

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from media import contents, record
from processes import ROOT, run
from tasks import Deadly, die, die_or_name, name

from cache.command import FailedError
from cache.ravdess import expected_clips
from cache.shard import CacheError
from preprocess.cli import main
from preprocess.dataset import RawFile, Source
from preprocess.settings import Settings
from preprocess.workers import process, process_all


@pytest.fixture
def todo(tmp_path):
    clips = enumerate(expected_clips(1)[:12])
    return [Source(clip, RawFile(str(number), tmp_path)) for number, clip in clips]


def test_a_clip_that_kills_its_worker_twice_has_failed_and_all_others_are_processed(todo, tmp_path):
    results = process_all(todo, partial(die_or_name, folder=tmp_path), {}, 2, None)
    named = {source.name: result for source, result in results}
    assert "its worker process died twice" in named.pop("3")
    assert named == {str(n): {"source": str(n)} for n in range(12) if n != 3}


def test_a_machine_on_which_workers_die_without_a_clip_is_one_error(todo, tmp_path):
    task = partial(die, folder=tmp_path, settings=Deadly())
    with pytest.raises(FailedError, match="worker processes crash even on an empty clip"):
        list(process_all(todo, task, {}, 2, None))


def test_too_little_memory_is_one_error_and_not_a_failure_of_clips(todo, tmp_path, monkeypatch):
    monkeypatch.setattr(RawFile, "read", Mock(side_effect=MemoryError))
    settings = Settings(modality="audio")
    task = partial(process, folder=tmp_path, settings=settings, synthetic=False)
    with pytest.raises(FailedError, match=r"out of memory in 0\. .* use fewer --jobs"):
        list(process_all(todo, task, {}, 1, None))


NO_CACHE = {"NUMBA_CACHE_DIR": "/proc/none"}
NO_CACHE["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"
# What a machine without /dev/shm does.
NO_SHARED = """
import _multiprocessing, sys

def lock(*_, **__):
    raise FileNotFoundError(2, "No such file or directory")

_multiprocessing.SemLock = type("SemLock", (), {"__new__": lock, "SEM_VALUE_MAX": 2**31 - 1})
from preprocess.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("start", "jobs", "variables", "problem"),
    [
        (("-m", "preprocess"), 2, NO_CACHE, "cannot cache function .* Set NUMBA_CACHE_DIR to a"),
        (("-c", NO_SHARED), 2, {}, r"worker processes cannot start .*/dev/shm.* use --jobs 1"),
        (("-c", NO_SHARED), 1, {}, None),
    ],
)
def test_a_fault_of_the_machine_is_one_error_and_no_failed_clips(
    start, jobs, variables, problem, tmp_path
):
    for clip in expected_clips(1)[:3]:
        record(tmp_path / "raw", f"03{clip.clip_id[2:]}", 440)
    words = ["--raw", tmp_path / "raw", "--modality", "audio", "--cache", tmp_path / "cache"]
    status = 1 if problem else 0
    done = run("python", *start, *words, "--jobs", jobs, status=status, **variables)
    if problem:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert re.search(problem, errors[0])
        assert "Traceback" not in done.stderr
    assert (tmp_path / "cache" / "manifest.json").exists() == (problem is None)
    assert not (tmp_path / "cache" / "failures.json").exists()


def features(raw, cache, jobs):
    return [*map(str, ("--raw", raw, "--cache", cache, "--modality", "audio", "--jobs", jobs))]


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
    assert main(features(raw, cache, 1)) == 0
    assert f"{30 - finished} clips processed" in capsys.readouterr().out


class Cluster:
    """A dask scheduler, and the workers that a test starts."""

    def __init__(self, folder):
        self._folder, self._file = folder, folder / "scheduler.json"
        self.processes = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        ends = time.monotonic() + 60
        while not (self._file.is_file() and self._file.stat().st_size):
            assert time.monotonic() < ends, "the scheduler did not start"
            time.sleep(0.02)
        self.address = json.loads(self._file.read_text())["address"]

    def _start(self, what, *options, paths=(ROOT, ROOT / "tests")):
        command = [sys.executable, "-m", "dask", what, *options]
        command += ["--no-dashboard", "--scheduler-file", str(self._file)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, cwd=self._folder, **silent)
        self.processes.append(process)
        return process

    def worker(self, threads=1, **options):
        return self._start("worker", "--no-nanny", "--nthreads", str(threads), **options)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    running = Cluster(tmp_path)
    yield running
    for each in running.processes:
        each.kill()
        each.wait()


def test_a_killed_dask_worker_loses_no_clip_and_a_lost_cluster_is_named(cluster, todo, tmp_path):
    victim, _ = cluster.worker(), cluster.worker()
    task = partial(name, folder=tmp_path)
    results = process_all(todo, task, {}, 1, cluster.address)
    named = [next(results)[1]["source"]]
    victim.kill()
    named += [result["source"] for _, result in results]
    assert sorted(named) == sorted(source.name for source in todo)
    results = process_all(todo, task, {}, 1, cluster.address)
    next(results)
    cluster.processes[0].kill()
    with pytest.raises(FailedError, match=r"the dask cluster at .* is lost"):
        list(results)


def test_a_cluster_is_refused_unless_it_can_do_the_same_work_and_then_gives_the_same_bytes(
    cluster, todo, tmp_path, monkeypatch
):
    def process(address=cluster.address, folder=tmp_path, versions=()):
        return list(process_all(todo, partial(name, folder=folder), dict(versions), 1, address))

    with monkeypatch.context() as patched:
        patched.setattr("preprocess.workers._CONNECT_S", 0.5)
        with pytest.raises(CacheError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
            process("tcp://127.0.0.1:9")
        with pytest.raises(FailedError, match=r"has no dask worker after 0\.5 s"):
            process()
    elsewhere = cluster.worker(paths=())
    with pytest.raises(CacheError, match=r"the dask cluster has no module preprocess\. Start"):
        process()
    elsewhere.kill()
    threaded = cluster.worker(threads=2)
    with pytest.raises(CacheError, match="has 2 threads, expected 1"):
        process()
    threaded.kill()
    cluster.worker()
    with pytest.raises(CacheError, match="elsewhere: missing on"):
        process(folder=tmp_path / "elsewhere")
    with pytest.raises(CacheError, match=r"has other library versions: numpy .*, not 0\.1"):
        process(versions={"numpy": "0.1"})
    for clip in expected_clips(1)[:3]:
        record(tmp_path / "raw", f"03{clip.clip_id[2:]}", 440)
    dask = ["--backend", "dask", "--scheduler", cluster.address]
    assert main([*features(tmp_path / "raw", tmp_path / "many", 1), *dask]) == 0
    assert main(features(tmp_path / "raw", tmp_path / "one", 1)) == 0
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
