"""Where clips are processed: in this process, worker processes (loky), or a dask cluster.

A worker saves each finished clip itself, so that no arrays travel between processes.
"""

import hashlib
import json
import logging
import os
import platform
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits

from cache.command import FailedError
from cache.files import atomic_path
from cache.shard import CacheError
from preprocess.dataset import Source
from preprocess.limits import ClipError
from preprocess.settings import Settings

_CONNECT_S = 60  # a dask cluster that does not answer for this long is missing
_SILENCE_S = 900  # and one that finishes no clip for this long is lost
_DIED_TWICE = "its worker process died twice: a crash, or out of memory (try fewer --jobs)"
_MEMORY = "If memory is short, close other programs, or use fewer --jobs: each takes 0.6 GB"

# The result of a clip: its record, or the reason why it failed.
Result = dict[str, Any] | str


def process(source: Source, *, folder: Path, settings: Settings, synthetic: bool) -> Result:
    """Compute one clip and save it in `folder` as `<clip_id>.npz`; OSError if that fails.

    Its record has `source`, `source_sha256` and `notes` for the manifest, and `stamps` and `hashes`
    of all its raw files.
    """
    check_machine(settings)
    # Imported here: a run without work need not wait for the decoder and librosa.
    from preprocess.clip import compute

    try:
        # The stamps come first: if a file is replaced after this line, the next run notices.
        stamps = source.stamps()
        contents = {name: file.read() for name, file in source.files.items()}
        # The jobs are the parallelism. A sum that is split over several threads is also rounded
        # differently, so that bytes would depend on the number of jobs.
        with threadpool_limits(1):
            arrays, notes = compute(settings=settings, synthetic=synthetic, **contents)
    except MemoryError as exc:  # sizes of clips are limited, so it is not the clip's fault
        raise FailedError(f"out of memory in {source.name}. {_MEMORY}") from exc
    except (ClipError, OSError) as exc:
        return str(exc)
    except Exception as exc:  # an unexpected error in one file must not stop the others
        return f"unexpected error: {_in_short(exc)}"
    hashes = hashes_of(contents.values())
    record = {"source": source.name, "source_sha256": hashes[0], "notes": list(notes)}
    record |= {"stamps": stamps, "hashes": hashes}
    with atomic_path(folder / f"{source.clip.clip_id}.npz") as path, path.open("wb") as opened:
        np.savez(opened, record=np.array(json.dumps(record)), **arrays)
    return record


@lru_cache(maxsize=1)
def check_machine(settings: Settings) -> None:
    """Process an empty clip, once per process; FailedError says why this machine cannot.

    So a fault of the machine is one error, and never the failure of every clip.
    """
    try:
        from preprocess.clip import compute_empty

        with threadpool_limits(1):
            compute_empty(settings)
    except Exception as exc:
        is_numba = "cannot cache" in str(exc)
        cure = "Set NUMBA_CACHE_DIR to a folder that can be written" if is_numba else _MEMORY
        problem = f"no clip can be processed on this machine: {_in_short(exc)}"
        raise FailedError(f"{problem}. {cure}") from exc


def _in_short(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0]


def hashes_of(contents: Iterable[bytes]) -> list[str]:
    """The SHA-256 of each of these contents, hexadecimal."""
    return [hashlib.sha256(content).hexdigest() for content in contents]


def load_clip(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record and the arrays of a clip that `process` saved."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    return json.loads(arrays.pop("record").item()), arrays


def process_all(
    todo: list[Source], task: partial, versions: Mapping[str, str], jobs: int, scheduler: str | None
) -> Iterator[tuple[Source, Result]]:
    """Process clips in this order, and yield each with its result as it finishes.

    `task` is `process` with the arguments that all clips share. It runs in `jobs` worker processes
    (with one job, in this process), or on the workers of the dask `scheduler` at this address,
    which must have the same library `versions`. If a worker dies, the clips under way are tried
    once more, one at a time; a clip whose worker dies again has failed.

    CacheError if the cluster cannot be reached, or its workers cannot do the same work; FailedError
    if it is lost.
    """
    if scheduler and todo:
        return _run_dask(todo, partial(_process_on_cluster, versions, task), scheduler)
    if jobs > 1 and todo:
        return _run_loky(todo, task, jobs)
    return ((source, task(source)) for source in todo)


def _run_loky(todo: list[Source], task: partial, jobs: int) -> Iterator[tuple[Source, Result]]:
    waiting = todo[::-1]
    with warnings.catch_warnings():
        # loky replaces a worker that has grown by loading the detector, loses nothing, and warns.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        while waiting:
            under_way = {}
            try:
                with _started_workers(min(jobs, len(waiting))) as workers:
                    while waiting or under_way:
                        # Two clips for each worker, so that none has to wait. If one dies, these
                        # are the clips that may be the cause.
                        while waiting and len(under_way) < 2 * jobs:
                            under_way[workers.submit(task, waiting[-1])] = waiting[-1]
                            waiting.pop()
                        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                            result = future.result()
                            yield under_way.pop(future), result
            except BrokenProcessPool:
                for source in under_way.values():
                    yield source, _run_alone(source, task)


def _run_alone(source: Source, task: partial) -> Result:
    """Run a task in a worker of its own; if that dies, find out whether it is the clip's fault."""
    with suppress(BrokenProcessPool), _started_workers(1) as worker:
        return worker.submit(task, source).result()
    try:
        if settings := task.keywords.get("settings"):
            with _started_workers(1) as worker:
                worker.submit(check_machine, settings).result()
    except BrokenProcessPool as exc:
        raise FailedError(f"worker processes crash even on an empty clip. {_MEMORY}") from exc
    return _DIED_TWICE


@contextmanager
def _started_workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Start worker processes, and end them with the block, or when the caller stops early."""
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    options = {"initializer": _end_with, "initargs": (os.getpid(),), "env": one_thread}
    try:
        workers = ProcessPoolExecutor(jobs, **options)
    except (OSError, ImportError) as exc:
        raise FailedError(
            f"worker processes cannot start ({exc}). They share memory, as through /dev/shm. Make "
            "that writable, or use --jobs 1, which needs none"
        ) from exc
    try:
        yield workers
    finally:
        workers.shutdown(kill_workers=True)


def _end_with(parent_pid: int) -> None:
    """End this worker soon after its parent was killed; loky would take minutes."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_dask(todo: list[Source], task: partial, scheduler: str) -> Iterator[tuple[Source, Result]]:
    try:
        from distributed import Client, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError
    except ModuleNotFoundError as exc:
        raise CacheError("--backend dask requires dask: pip install '.[cluster]'") from exc
    # When a scheduler is lost, this logs tracebacks; our own error says it all.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise CacheError(f"no dask scheduler answers at {scheduler} ({exc})") from exc
    with client:
        try:  # a first task, because clips would wait silently for what is missing
            probe = "bool(__import__('preprocess.workers'))"
            client.run_on_scheduler(eval, probe)
            client.submit(eval, probe, pure=False).result(timeout=_CONNECT_S)
        except TimeoutError as exc:
            raise FailedError(
                f"{scheduler} has no dask worker after {_CONNECT_S} s. Start some and run again"
            ) from exc
        except ModuleNotFoundError as exc:
            raise CacheError(
                f"the dask cluster has no module {exc.name}. Start scheduler and workers by "
                "`python -m dask` in this folder and environment"
            ) from exc
        done: SimpleQueue = SimpleQueue()
        under_way = {client.submit(task, source, pure=False): source for source in todo}
        for future in under_way:
            future.add_done_callback(done.put)
        while under_way:
            try:
                future = done.get(timeout=_SILENCE_S)
                result = future.result()
            except KilledWorker:  # dask has tried the clip on several workers by now
                result = _DIED_TWICE
            except (CommClosedError, FutureCancelledError, Empty) as exc:
                raise FailedError(
                    f"the dask cluster at {scheduler} is lost, or has finished no clip for "
                    f"{_SILENCE_S} s. Finished clips are kept; run again to resume"
                ) from exc
            yield under_way.pop(future), result


def _process_on_cluster(versions: Mapping[str, str], task: partial, source: Source) -> Result:
    """Run a task on a dask worker, after checking that it can do the same work there."""
    from distributed import get_worker

    node, threads = platform.node(), get_worker().state.nthreads
    if threads > 1:
        raise CacheError(
            f"the dask worker {get_worker().address} has {threads} threads, expected 1, because "
            "clips must not share a process. Start workers with --nthreads 1"
        )
    folder = task.keywords["folder"]
    if not folder.is_dir():
        raise CacheError(
            f"{folder}: missing on {node}. All workers must see the raw folder and the cache under "
            "the same paths"
        )
    here = {name: version(name) for name in versions}
    apart = [f"{n} {here[n]}, not {versions[n]}" for n in here if here[n] != versions[n]]
    if apart:
        raise CacheError(f"{node} has other library versions: {'; '.join(apart)}")
    return task(source)
