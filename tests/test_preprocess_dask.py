"""Features by a dask cluster, a real one of two workers on this machine."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from preprocess.cli import main

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

ROOT = Path(__file__).parent.parent


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def wait_for(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path):
    """Starts a scheduler and workers; gives the address, the workers, and a way to stop all."""
    address = tmp_path / "scheduler.json"
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(address)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    wait_for(lambda: address.is_file() and address.stat().st_size)

    def workers(count, threads=1):
        options = ("--nthreads", str(threads), "--no-nanny", "--no-dashboard")
        return [start("worker", *options) for _ in range(count)]

    yield json.loads(address.read_text())["address"], workers, processes
    for process in processes:
        process.kill()
        process.wait()


def command(raw, cache, address):
    options = ["--raw", str(raw), "--cache", str(cache)]
    return [*options, "--backend", "dask", "--scheduler", address]


def start_features(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "preprocess", *command(*arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_cluster_gives_the_bytes_of_one_machine_though_a_worker_is_killed(
    cluster, sample_clips, tmp_path
):
    address, workers, _ = cluster
    assert main(["--raw", str(sample_clips), "--cache", str(tmp_path / "one"), "--jobs", "1"]) == 0
    victim, _ = workers(2)
    run = start_features(sample_clips, tmp_path / "many", address)
    wait_for(lambda: any((tmp_path / "many").glob(".work/*.running")))
    victim.send_signal(signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert "4 clips made in" in out
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_cluster_that_goes_is_named_and_what_is_done_is_kept(cluster, sample_clips, tmp_path):
    address, workers, processes = cluster
    workers(2)
    run = start_features(sample_clips, tmp_path / "cache", address)
    wait_for(lambda: any((tmp_path / "cache").glob(".work/*.running")))
    processes[0].kill()
    _, err = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "error: the dask cluster is gone" in err
    assert "Traceback" not in err
    assert main(["--raw", str(sample_clips), "--cache", str(tmp_path / "cache")]) == 0


def test_workers_with_many_threads_are_refused(cluster, sample_clips, tmp_path, capsys):
    address, workers, _ = cluster
    workers(2, threads=2)
    assert main(command(sample_clips, tmp_path / "cache", address)) == 2
    assert "has 2 threads, expected 1" in capsys.readouterr().err


def test_one_worker_is_too_few(cluster, sample_clips, tmp_path, capsys, monkeypatch):
    """joblib would then do the work in the process that was to hand it out."""
    monkeypatch.setattr("preprocess.workers._CONNECT_S", 3)
    address, workers, _ = cluster
    workers(1)
    assert main(command(sample_clips, tmp_path / "cache", address)) == 1
    assert "has fewer than two workers" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_is_named(sample_clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("preprocess.workers._CONNECT_S", 1)
    assert main(command(sample_clips, tmp_path / "cache", "tcp://127.0.0.1:9")) == 2
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_backend_and_scheduler_go_together(tmp_path, capsys):
    for option in (["--backend", "dask"], ["--scheduler", "tcp://127.0.0.1:9"]):
        assert main(["--raw", str(tmp_path), "--cache", str(tmp_path), *option]) == 2
        assert "--backend dask and --scheduler ADDRESS go together" in capsys.readouterr().err
