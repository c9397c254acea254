"""All clips of a folder -> shards and a manifest, in parallel, doing only what is missing.

A finished clip waits in `CACHE/.work`: its arrays, and a record for the manifest. When all clips
of an actor are there, they become its shard and the arrays go; when all actors are done, the
manifest is written and `.work` goes. Every step leaves a state from which the next run goes on.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.diff import settings_apart
from cache.files import sha256_file, sweep, write_json
from cache.manifest import (
    FAILURES_NAME,
    MANIFEST_NAME,
    describe_shard,
    fingerprint,
    read_manifest,
    write_manifest,
)
from cache.ravdess import Clip, is_recordings
from cache.schema import shard_name
from cache.shard import CacheError, open_shard, write_shard
from preprocess.dataset import RawFile, Source
from preprocess.settings import Settings
from preprocess.work import Work, library_versions
from preprocess.workers import process_all

WORK_NAME = ".work"
LOST = "its shard is lost or damaged, and the raw clip is not there"


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        made: clips made by it.
        total: clips in the cache now.
        failures: source name to reason.
        twins: names of sources that have the same bytes, for each such set.
    """

    made: int
    total: int
    failures: dict[str, str]
    twins: list[list[str]]


def build(
    sources: list[Source],
    cache: Path,
    *,
    origin: Mapping[str, str],
    settings: Settings,
    jobs: int,
    scheduler: str | None = None,
) -> Outcome:
    """Bring `cache` to hold every clip of `sources`, and keep what it holds already.

    Args:
        sources: the clips to hold.
        cache: the folder of shards and manifest; the caller holds its lock.
        origin: `dataset`, `license` and `citation` of the clips.
        settings: everything else that changes a byte.
        jobs: worker processes.
        scheduler: address of a dask scheduler whose workers are taken instead.

    Raises:
        CacheError: if `cache` was begun from other data, with other settings, or with other
            versions of the libraries; or if the cluster cannot do the work.
        OSError: if `cache` cannot be written.
    """
    state = {
        "origin": dict(origin),
        "config": settings.config(),
        "versions": library_versions(settings),
    }
    work = Work(cache / WORK_NAME)
    records, shards = _read_begun(cache, work, state)
    wanted = {source.clip.clip_id for source in sources}
    held = _held(cache, work, records, shards, wanted)
    replaced = _replaced(cache, work, records, [s for s in sources if s.clip.clip_id in held])
    held -= replaced
    todo = [source for source in sources if source.clip.clip_id not in held]
    lost = set(records) - held - wanted
    failures = {records[clip_id]["source"]: LOST for clip_id in lost}
    records = {clip_id: records[clip_id] for clip_id in held}
    if not todo and not lost and not work.exists():
        return Outcome(0, len(records), failures, _twins(records))
    sweep(cache)
    work.begin(state)
    unfinished = Counter(source.clip.actor for source in todo)
    for actor in sorted({Clip.parse(clip_id).actor for clip_id in work.waiting()}):
        if not unfinished[actor]:  # the run before this one was stopped just there
            _write_actor(cache, work, actor, records, settings)
    for result in process_all(
        todo,
        work,
        settings,
        jobs=jobs,
        scheduler=scheduler,
        drawn=not is_recordings(origin["dataset"]),
    ):
        clip = result.source.clip
        if result.failure is None:
            records[clip.clip_id] = work.record(clip.clip_id)
        else:
            failures[result.source.name] = result.failure
        unfinished[clip.actor] -= 1
        if not unfinished[clip.actor]:
            _write_actor(cache, work, clip.actor, records, settings)
    if records:
        files = {shard_name(Clip.parse(clip_id).actor) for clip_id in records}
        entries = {file: entry for file, entry in shards.items() if file in files} | work.shards()
        write_manifest(
            cache,
            origin=state["origin"],
            config=state["config"],
            versions=state["versions"],
            shards=entries.values(),
            clips=records,
        )
    _drop_replaced(cache, replaced, records)
    work.remove()
    made = sum(source.clip.clip_id in records for source in todo)
    return Outcome(made, len(records), failures, _twins(records))


def update_failures(
    cache: Path, failures: Mapping[str, str], aside: Collection[str]
) -> dict[str, str]:
    """Bring `failures.json` up to date, source name to reason; gone when nothing fails.

    Args:
        cache: the folder of shards.
        failures: of this run.
        aside: sources that this run was not asked to make.

    Returns:
        These failures, and those of earlier runs that still stand: of sources left aside, and of
        clips that were lost and have not come back.
    """
    path = cache / FAILURES_NAME
    try:
        earlier = dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # none, or no use: it is written anew
        earlier = {}
    known = (cache / MANIFEST_NAME).is_file()
    made = {r["source"] for r in read_manifest(cache)["clips"].values()} if known else set()
    standing = {
        name: reason
        for name, reason in earlier.items()
        if (name in aside or reason == LOST) and name not in made
    }
    standing |= failures
    if standing:
        write_json(path, standing)
    elif path.exists():  # nothing to do must do for a cache that cannot be written
        path.unlink()
    return standing


def _read_begun(
    cache: Path, work: Work, state: Mapping[str, Any]
) -> tuple[dict[str, dict], dict[str, dict]]:
    """What was finished in `cache` before: records by clip_id, entries of shards by file."""
    records: dict[str, dict] = {}
    shards: dict[str, dict] = {}
    if (cache / MANIFEST_NAME).exists():
        manifest = read_manifest(cache)
        _check_same(cache, manifest, state)
        records |= manifest["clips"]
        shards |= {entry["file"]: entry for entry in manifest["shards"]}
    begun = work.state()
    if begun is not None:
        _check_same(cache, {**begun["origin"], **begun}, state)
        records |= work.records()
        shards |= work.shards()
    return records, shards


def _check_same(cache: Path, begun: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise CacheError unless a cache that was begun before can be gone on with."""
    advice = "Choose another --cache, or remove that folder to build it anew"
    if begun["dataset"] != state["origin"]["dataset"]:
        raise CacheError(
            f"{cache}: holds {begun['dataset']!r}, not {state['origin']['dataset']!r}. {advice}"
        )
    if fingerprint(begun["config"]) != fingerprint(state["config"]):
        apart = "; ".join(settings_apart("", begun["config"], state["config"]))
        raise CacheError(f"{cache}: was begun with other settings ({apart}). {advice}")
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


def _held(
    cache: Path,
    work: Work,
    records: Mapping[str, dict],
    shards: Mapping[str, dict],
    wanted: set[str],
) -> set[str]:
    """Which of these clips have their arrays in `cache`, in a shard or waiting for one.

    A shard counts if it has the recorded size, and if clips are to join it, the recorded hash
    too: its rows are copied then. What does not count is made again.
    """
    waiting = work.waiting() & set(records)
    held = set(waiting)
    growing = {Clip.parse(clip_id).actor for clip_id in waiting | (wanted - set(records))}
    for file, entry in shards.items():
        path = cache / file
        try:
            rows = set(_rows(path)) & set(records)
        except CacheError:
            continue
        # A shard that holds clips that wait was written by a run that was stopped right after.
        if not rows & waiting:
            if path.stat().st_size != entry["bytes"]:
                continue
            joined = growing & {Clip.parse(clip_id).actor for clip_id in rows}
            if joined and sha256_file(path) != entry["sha256"]:
                continue
        held |= rows
    return held


def _replaced(
    cache: Path, work: Work, records: Mapping[str, dict], sources: Iterable[Source]
) -> set[str]:
    """The clips whose raw files have come after they were read, and have other bytes."""
    made_ns = {shard.name: shard.stat().st_mtime_ns for shard in sorted(cache.glob("actor_*.h5"))}
    waiting = work.waiting()
    replaced = set()
    for source in sources:
        clip_id = source.clip.clip_id
        read = (
            work.read_ns(clip_id) if clip_id in waiting else made_ns[shard_name(source.clip.actor)]
        )
        if _changed_ns(source.file) > read:
            content = source.file.read()
            if hashlib.sha256(content).hexdigest() != records[clip_id]["source_sha256"]:
                replaced.add(clip_id)
        # Of these the manifest has no hash: their clip is made again, to the same bytes or others.
        if any(_changed_ns(more) > read for more in (source.recording, source.landmarks) if more):
            replaced.add(clip_id)
    return replaced


def _drop_replaced(cache: Path, replaced: Collection[str], records: Mapping[str, dict]) -> None:
    """Remove what was made of raw clips that are no more, where nothing took their place."""
    if replaced and not records:
        (cache / MANIFEST_NAME).unlink(missing_ok=True)
    filled = {Clip.parse(clip_id).actor for clip_id in records}
    for actor in {Clip.parse(clip_id).actor for clip_id in replaced} - filled:
        (cache / shard_name(actor)).unlink(missing_ok=True)


def _changed_ns(file: RawFile) -> int:
    """When the file's own entry was changed last: a copy may keep the other time."""
    return file.path.stat().st_ctime_ns


def _twins(records: Mapping[str, dict]) -> list[list[str]]:
    """Names of the sources that have the same bytes."""
    by_hash: dict[str, list[str]] = {}
    for _, record in sorted(records.items()):
        by_hash.setdefault(record["source_sha256"], []).append(record["source"])
    return [names for names in by_hash.values() if len(names) > 1]


def _rows(shard: Path) -> dict[str, int]:
    """clip_id to row of a shard; CacheError if it is missing or damaged."""
    with open_shard(shard) as opened:
        return {clip_id: row for row, clip_id in enumerate(opened.clip_ids)}


def _write_actor(
    cache: Path, work: Work, actor: int, records: Mapping[str, dict], settings: Settings
) -> None:
    """Bring an actor's shard to hold the recorded clips: old rows, and those that wait.

    These are let go. A row goes whose clip has no record any more: its raw file was replaced.
    """
    clips = sorted(clip for clip in map(Clip.parse, records) if clip.actor == actor)
    waiting = work.waiting() & {clip.clip_id for clip in clips}
    shard = cache / shard_name(actor)
    old = _rows(shard) if len(waiting) < len(clips) else {}
    if not waiting and len(old) == len(clips):
        return

    def rows() -> Iterator[tuple[Clip, Mapping[str, np.ndarray]]]:
        for clip in clips:
            if clip.clip_id in waiting:
                yield clip, work.arrays(clip.clip_id)
            else:
                with open_shard(shard) as opened:
                    row = old[clip.clip_id]
                    yield clip, {name: opened.read(name, row) for name in opened.computed}

    # The shard is as old as its oldest clip: a raw file that is newer is looked at again.
    read_ns = min([*map(work.read_ns, waiting), *([shard.stat().st_mtime_ns] if old else [])])
    write_shard(shard, len(clips), settings.computed, rows())
    os.utime(shard, ns=(read_ns, read_ns))
    work.note_shard(describe_shard(shard, len(clips)))
    work.forget(waiting)
