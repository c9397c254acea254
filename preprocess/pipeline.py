"""All clips of a folder -> shards and a manifest, in parallel, doing only what is missing.

A finished clip waits in `CACHE/.work`: its arrays, and a record for the manifest. When all clips
of an actor are there, they become its shard and the arrays go; when all actors are done, the
manifest is written and `.work` goes. Every step leaves a state from which the next run goes on.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from tqdm import tqdm

from cache.clips import Clip
from cache.files import write_json
from cache.manifest import (
    FAILURES_NAME,
    MANIFEST_NAME,
    fingerprint,
    read_manifest,
    write_manifest,
)
from cache.schema import COMPUTED, shard_name
from cache.shard import CacheError, open_shard, read_row, write_shard
from preprocess.clip import Result, arrays_path, process, record_path
from preprocess.dataset import Source
from preprocess.settings import Settings

WORK_NAME = ".work"
STATE_NAME = "state.json"

# The libraries whose version can change a byte of a shard.
_LIBRARIES = (
    "av",
    "facenet-pytorch",
    "h5py",
    "librosa",
    "numpy",
    "opencv-python-headless",
    "scipy",
    "soxr",
    "torch",
)


@dataclass(frozen=True)
class Outcome:
    """What a run did: clips made by it, clips now in the cache, failures by source name."""

    made: int
    total: int
    failures: dict[str, str]


def build(
    sources: list[Source],
    cache: Path,
    *,
    origin: Mapping[str, str],
    settings: Settings,
    jobs: int,
) -> Outcome:
    """Bring `cache` to hold every clip of `sources`, and keep what it holds already.

    Args:
        sources: the clips to hold.
        cache: the folder of shards and manifest; made if missing.
        origin: `dataset`, `license` and `citation` of the clips.
        settings: everything else that changes a byte.
        jobs: worker processes.

    Raises:
        CacheError: if `cache` was begun from other data, with other settings, or with other
            versions of the libraries.
        OSError: if `cache` cannot be written.
    """
    state = {
        "origin": dict(origin),
        "config": settings.config(),
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    records = _read_records(cache, state)
    held = _held(cache, records)
    todo = [source for source in sources if source.clip.clip_id not in held]
    failures = {
        record["source"]: "its shard is lost or damaged, and the raw clip is not there any more"
        for clip_id, record in records.items()
        if clip_id not in held and clip_id not in {source.clip.clip_id for source in todo}
    }
    records = {clip_id: records[clip_id] for clip_id in held}
    if not todo and not failures and not (cache / WORK_NAME).exists():
        return Outcome(0, len(records), failures)
    _begin(cache, state)
    waiting = Counter(source.clip.actor for source in todo)
    for actor in {Clip.parse(path.stem).actor for path in _work(cache).glob("*.npz")}:
        if not waiting[actor]:  # the run before this one was stopped just there
            _write_actor(cache, actor, records)
    for result in _process_all(todo, cache, settings, jobs):
        clip = result.source.clip
        if result.failure is None:
            records[clip.clip_id] = _load(record_path(_work(cache), clip.clip_id))
        else:
            failures[result.source.name] = result.failure
        waiting[clip.actor] -= 1
        if not waiting[clip.actor]:
            _write_actor(cache, clip.actor, records)
    if records:
        write_manifest(
            cache,
            origin=state["origin"],
            config=state["config"],
            versions=state["versions"],
            clips=records,
        )
    shutil.rmtree(_work(cache))
    made = len(todo) - len({source.name for source in todo} & set(failures))
    return Outcome(made, len(records), failures)


def write_failures(cache: Path, failures: Mapping[str, str]) -> None:
    """Write `failures.json`, source name to reason, or remove it when nothing failed."""
    path = cache / FAILURES_NAME
    if not failures:
        path.unlink(missing_ok=True)
    elif not path.is_file() or _load(path) != failures:
        cache.mkdir(parents=True, exist_ok=True)
        write_json(path, failures)


def _work(cache: Path) -> Path:
    return cache / WORK_NAME


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_records(cache: Path, state: Mapping[str, Any]) -> dict[str, dict]:
    """The records of every clip that was ever finished in `cache`, by clip_id."""
    records: dict[str, dict] = {}
    if (cache / MANIFEST_NAME).exists():
        manifest = read_manifest(cache)
        _check_same(cache, manifest, state)
        records |= manifest["clips"]
    if (_work(cache) / STATE_NAME).exists():
        begun = _load(_work(cache) / STATE_NAME)
        _check_same(cache, {**begun["origin"], **begun}, state)
        for path in sorted(_work(cache).glob("*-*.json")):
            records[path.stem] = _load(path)
    return records


def _check_same(cache: Path, begun: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise CacheError unless a cache that was begun before can be gone on with."""
    advice = "Choose another --cache, or remove that folder to build it anew"
    if begun["dataset"] != state["origin"]["dataset"]:
        raise CacheError(
            f"{cache}: holds {begun['dataset']!r}, not {state['origin']['dataset']!r}. {advice}"
        )
    if fingerprint(begun["config"]) != fingerprint(state["config"]):
        raise CacheError(f"{cache}: was begun with other settings. {advice}")
    differing = [
        f"{name} {begun['versions'].get(name)} then, {now} now"
        for name, now in state["versions"].items()
        if begun["versions"].get(name) != now
    ]
    if differing:
        raise CacheError(
            f"{cache}: was begun with other versions ({'; '.join(differing)}). "
            f"Install those, or: {advice[0].lower()}{advice[1:]}"
        )


def _held(cache: Path, records: Mapping[str, dict]) -> set[str]:
    """Which of these clips have their arrays in `cache`, in a shard or waiting for one."""
    held = {clip_id for clip_id in records if arrays_path(_work(cache), clip_id).is_file()}
    for actor in {Clip.parse(clip_id).actor for clip_id in records}:
        try:
            held |= set(_rows(cache / shard_name(actor))) & set(records)
        except CacheError:
            continue  # lost or damaged: its clips are made again
    return held


def _rows(shard: Path) -> dict[str, int]:
    """clip_id to row of a shard; CacheError if it is missing or damaged."""
    with open_shard(shard) as file:
        return {name.decode("ascii"): row for row, name in enumerate(file["clip_id"][:])}


def _begin(cache: Path, state: Mapping[str, Any]) -> None:
    _work(cache).mkdir(parents=True, exist_ok=True)
    for leftover in _work(cache).glob(".*.tmp"):  # of a run that was killed
        leftover.unlink()
    write_json(_work(cache) / STATE_NAME, state)


def _process_all(
    todo: list[Source], cache: Path, settings: Settings, jobs: int
) -> Iterator[Result]:
    """Results as they come, actor after actor, behind one progress bar."""
    ordered = sorted(todo, key=lambda source: (source.clip.actor, source.clip))
    with joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(
            joblib.delayed(process)(source, _work(cache), settings) for source in ordered
        )
        yield from tqdm(results, "features", total=len(ordered), unit="clip", mininterval=0.5)


def _write_actor(cache: Path, actor: int, records: Mapping[str, dict]) -> None:
    """Bring an actor's shard to hold its old rows and those that wait, then let these go."""
    clips = sorted(clip for clip in map(Clip.parse, records) if clip.actor == actor)
    waiting = {clip for clip in clips if arrays_path(_work(cache), clip.clip_id).is_file()}
    if not waiting:
        return
    shard = cache / shard_name(actor)

    def rows() -> Iterator[tuple[Clip, Mapping[str, np.ndarray]]]:
        old = _rows(shard) if len(waiting) < len(clips) else {}
        for clip in clips:
            if clip in waiting:
                with np.load(arrays_path(_work(cache), clip.clip_id), allow_pickle=False) as arrays:
                    yield clip, {name: arrays[name] for name in COMPUTED}
            else:
                with open_shard(shard) as file:
                    yield clip, read_row(file, old[clip.clip_id])

    write_shard(shard, len(clips), rows())
    for clip in waiting:
        arrays_path(_work(cache), clip.clip_id).unlink()
