"""Where clips are worked on: by processes of this machine (loky), or of a cluster (dask)."""

import logging
import os
import warnings
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import joblib
from tqdm import tqdm

from cache.shard import CacheError
from preprocess.dataset import Source
from preprocess.settings import Settings
from preprocess.work import Work

if TYPE_CHECKING:
    from distributed import Client

    from preprocess.clip import Result

# A cluster that cannot be reached, or gives no clip, for so long is taken for gone.
_CONNECT_S = 30
_SILENCE_S = 900


class LostWorkersError(RuntimeError):
    """The processes that worked are gone; what they did is kept."""


def process_all(
    todo: list[Source],
    work: Work,
    settings: Settings,
    *,
    jobs: int,
    scheduler: str | None,
    drawn: bool,
) -> "Iterator[Result]":
    """Results as they come, actor after actor, behind one progress bar.

    When a worker dies (a crash in a library, want of memory), the clips under way are tried once
    more, each alone; one that ends its worker again has failed. With one job there is no worker.

    Args:
        todo: the clips.
        work: where the arrays go; on a cluster, a folder that all workers see.
        settings: of the cache.
        jobs: processes of this machine.
        scheduler: address of a dask scheduler whose workers are taken instead.
        drawn: whether the clips are of the synthetic sample.

    Raises:
        CacheError: if the cluster cannot be reached, or its workers cannot do the same work.
        LostWorkersError: if a worker dies and no clip was under way, or the cluster is gone.
    """
    if not todo:
        return
    # Brings the decoder and librosa: seconds that a run without work need not wait.
    from preprocess.clip import Result, process

    task = joblib.delayed(process)

    def run_alone(source: Source) -> "Result":
        try:
            return next(run([source], alone=True))
        except BrokenProcessPool:
            return Result(source, "ended its worker twice: a crash, or too little memory")

    ordered = sorted(todo, key=lambda source: (source.clip.actor, source.clip))
    left = {source.clip.clip_id: source for source in ordered}
    with (
        _cluster(scheduler) as client,
        tqdm(desc="features", total=len(left), unit="clip", mininterval=0.5) as bar,
    ):
        common = {
            "work": work,
            "settings": settings,
            "drawn": drawn,
            "parent_pid": None if client else os.getpid(),
        }

        def run(sources: list[Source], *, alone: bool = False) -> "Iterator[Result]":
            tasks = [task(source, **common) for source in sources]
            if client:
                return _run_dask(tasks, client)
            # Two jobs for a clip alone, because one would be this process.
            return _run_loky(tasks, 2 if alone else min(jobs, len(tasks)))

        while left:
            try:
                for result in run(list(left.values())):
                    del left[result.source.clip.clip_id]
                    bar.update()
                    yield result
            except BrokenProcessPool as exc:
                suspects = sorted(work.running() & set(left))
                if not suspects:
                    raise LostWorkersError(
                        "a worker process was killed, perhaps for want of memory: try fewer --jobs"
                    ) from exc
                for clip_id in suspects:
                    yield run_alone(left.pop(clip_id))
                    bar.update()


def _run_loky(tasks: list[Any], jobs: int) -> "Iterator[Result]":
    with (
        joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1),
        warnings.catch_warnings(),
    ):
        # loky replaces a worker that has grown by loading the detector, loses nothing by it,
        # and warns all the same; a worker that dies raises.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)


def _run_dask(tasks: list[Any], client: "Client") -> "Iterator[Result]":
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    try:
        try:
            client.wait_for_workers(2, timeout=_CONNECT_S)  # with one, joblib would work here
        except TimeoutError as exc:
            raise LostWorkersError(
                f"the dask cluster has fewer than two workers after {_CONNECT_S} s: start more"
            ) from exc
        for address, threads in sorted(client.nthreads().items()):
            if threads > 1:
                raise CacheError(
                    f"the dask worker {address} has {threads} threads, expected 1, so that clips "
                    "do not share one process. Start workers with --nthreads 1"
                )
        with joblib.parallel_config(backend="dask", client=client):
            parallel = joblib.Parallel(
                return_as="generator_unordered", batch_size=1, timeout=_SILENCE_S
            )
            yield from parallel(tasks)
    except KilledWorker as exc:  # dask has tried the clip on several workers by now
        raise BrokenProcessPool(str(exc)) from exc
    except (CommClosedError, FutureCancelledError, TimeoutError) as exc:
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        raise LostWorkersError(f"the dask cluster is gone, or silent ({reason})") from exc


def _cluster(scheduler: str | None) -> "AbstractContextManager[Client | None]":
    """A connection to the scheduler, closed at the end; nothing where there is none."""
    if scheduler is None:
        return nullcontext()
    try:
        from distributed import Client
    except ModuleNotFoundError as exc:
        raise CacheError("--backend dask needs dask: pip install '.[cluster]'") from exc
    # What it logs when a scheduler goes are tracebacks; the error that we raise says it all.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        return Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise CacheError(f"no dask scheduler answers at {scheduler} ({exc})") from exc
