"""Raw clips -> shards and a manifest, in parallel; what earlier runs have finished is kept.

A run may be killed at any moment, and the next one resumes. Until it is done, `CACHE/.work` holds

    state.json       dataset, settings and library versions of the run
    <clip_id>.npz    a finished clip, arrays and record in one file
    <sha256>.json    a shard's entry in the manifest, and the records of its clips

so arrays never get the record of other arrays. A shard whose sha256 has no record does not count:
its clips are processed again. The manifest goes before the first shard changes, and comes back
last, so it always fits the shards.
"""

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from cache.diff import settings_apart
from cache.files import sha256_file, sweep, sync, write_json
from cache.manifest import (
    FAILURES_NAME,
    MANIFEST_NAME,
    describe_shard,
    read_manifest,
    write_manifest,
)
from cache.ravdess import Clip, is_sample
from cache.reader import Cache
from cache.schema import shard_name
from cache.shard import CacheError, open_shard, write_shard
from preprocess.dataset import Found, RawFile, Source, concerns
from preprocess.limits import ClipError
from preprocess.settings import Settings
from preprocess.workers import hashes_of, load_clip, process, process_all

WORK_NAME = ".work"
# What proves that the raw files of a row are unchanged: stamps, or hashes where those differ.
STAMPS_NAME = ".stamps.json"
_STATE_NAME = "state.json"
_LOST = "its shard is missing or damaged, and its raw clip is missing"


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    made: int  # clips that it processed
    total: int  # clips in the cache now
    failures: dict[str, str]  # source name to reason, also from earlier runs if they still hold
    excluded_failures: int  # the number of others that still hold, of actors not asked for
    kept: list[str]  # the sources of clips of the cache that are no longer among the raw files
    duplicates: list[list[str]]  # the names of sources with the same bytes
    same_landmarks: list[list[str]]  # the clip_ids of clips with the same landmarks


def build(
    found: Found,
    cache: Path,
    *,
    only: Collection[int],
    origin: Mapping[str, str],
    settings: Settings,
    jobs: int,
    scheduler: str | None = None,
) -> Outcome:
    """Process the clips that `cache` lacks; the caller holds its lock.

    Clips of actors that are not in `only` stay as they are. `origin` has the `dataset`, `license`
    and `citation` of the clips, `settings` everything else that changes a byte; `jobs` and
    `scheduler` are those of `process_all`. CacheError if `cache` was begun with other data,
    settings or library versions, or the cluster cannot do the work; FailedError if it is lost;
    OSError if `cache` cannot be written.
    """
    finished = _Finished(cache, origin, settings)
    sources = {source.clip.clip_id: source for source in found.sources if source.clip.actor in only}
    finished.drop_replaced(sources)
    records = finished.records
    todo = [source for clip_id, source in sources.items() if clip_id not in records]
    lost = finished.known.keys() - records.keys() - sources.keys()
    names = [*(source.name for source in found.sources), *found.failures]
    excluded = {name for name in names if not concerns(name, only)}
    failures = {name: why for name, why in found.failures.items() if name not in excluded}
    failures |= {finished.known[clip_id]["source"]: _LOST for clip_id in lost}
    if todo or lost or finished.work.exists():
        synthetic = is_sample(origin["dataset"])
        task = partial(process, folder=finished.work, settings=settings, synthetic=synthetic)
        failures |= _run(finished, todo, task, jobs, scheduler)
    with suppress(OSError):  # stamps only save time, and a complete cache may be read-only
        finished.write_stamps()
    failures = _update_failures(cache, failures, excluded, records.values())
    if finished.work.exists():  # last, so that the next run resumes one that was killed before
        shutil.rmtree(finished.work)
    own = {name: why for name, why in failures.items() if concerns(name, only)}
    kept = [i for i in records.keys() - sources.keys() if Clip.parse(i).actor in only]
    return Outcome(
        made=sum(source.clip.clip_id in records for source in todo),
        total=len(records),
        failures=own,
        excluded_failures=len(failures) - len(own),
        kept=sorted(records[clip_id]["source"] for clip_id in kept),
        duplicates=_equal((r["source"], r["source_sha256"]) for _, r in sorted(records.items())),
        same_landmarks=_same_landmarks(cache) if settings.landmarks and records else [],
    )


def _same_landmarks(cache: Path) -> list[list[str]]:
    """The clip_ids of clips with the same landmarks."""
    opened = Cache(cache)
    ids = [clip.clip_id for clip in opened.clips]
    return _equal((i, hashlib.sha256(opened.read(i, "landmarks")).digest()) for i in ids)


def _equal(pairs: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """The names that have the same hash, for each hash that several names have."""
    names = defaultdict(list)
    for name, value in pairs:
        names[value].append(name)
    return [same for same in names.values() if len(same) > 1]


def _run(
    finished: "_Finished", todo: list[Source], task: partial, jobs: int, scheduler: str | None
) -> dict[str, str]:
    """Process clips, write each shard when the last of its clips is done; returns the failures."""
    finished.begin()
    failures = {}
    unfinished = Counter(source.clip.actor for source in todo)
    for actor in {Clip.parse(clip_id).actor for clip_id in finished.waiting} - set(unfinished):
        finished.write_actor(actor)  # the earlier run was killed just before this
    todo = sorted(todo, key=lambda source: (source.clip.actor, source.clip))
    results = process_all(todo, task, finished.state["versions"], jobs, scheduler)
    for source, result in tqdm(results, "features", len(todo), unit="clip", mininterval=0.5):
        if isinstance(result, str):
            failures[source.name] = result
        else:
            finished.add(source.clip.clip_id, result)
        unfinished[source.clip.actor] -= 1
        if not unfinished[source.clip.actor]:
            finished.write_actor(source.clip.actor)
    finished.end()
    return failures


class _Finished:
    """The clips that a cache has: found when it is opened, added to by a run."""

    def __init__(self, cache: Path, origin: Mapping[str, str], settings: Settings):
        """Find what `cache` has; CacheError if it was begun with something else."""
        self.cache, self.work, self.computed = cache, cache / WORK_NAME, settings.computed
        self.origin = dict(origin)
        # What all clips of a cache have in common.
        self.state = {"dataset": origin["dataset"], "config": settings.config()}
        self.state["versions"] = settings.versions()
        self.stamps = _read_json(cache / STAMPS_NAME)

        # All shards that were ever recorded, by their sha256, and the records of all their clips.
        self.recorded: dict[str, dict[str, Any]] = {}
        if (cache / MANIFEST_NAME).exists():
            self.recorded = self._shards_of(read_manifest(cache))
        if state := _read_json(self.work / _STATE_NAME):
            self._check_same(state)
        for path in self.work.glob("?" * 64 + ".json"):
            self.recorded[path.stem] = _read_json(path)
        self.known: dict[str, dict[str, Any]] = {}
        for shard in self.recorded.values():
            self.known |= shard["clips"]

        # The shards that are unchanged, and the clips that wait for their shard. Records of a
        # fetched cache have no stamps, and the hash of the first file only.
        self.shards: dict[str, dict[str, Any]] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.waiting: set[str] = set()
        paths = sorted(cache.glob("actor_*.h5"))
        for path, sha256 in zip(paths, _parallel(sha256_file, paths, "shard"), strict=True):
            shard = self.recorded.get(sha256)
            if shard and shard["entry"]["file"] == path.name:
                self.shards[path.name] = shard["entry"]
                self.records |= shard["clips"]
        for path in self.work.glob("*.npz"):
            self.add(path.stem, load_clip(path)[0])

    def _shards_of(self, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What a manifest records, as the files `<sha256>.json` do."""
        self._check_same(manifest)
        shards = {e["file"]: {"entry": e, "clips": {}} for e in manifest["shards"]}
        for clip_id, record in manifest["clips"].items():
            shard = shards[shard_name(Clip.parse(clip_id).actor)]
            no_proof = {"stamps": None, "hashes": [record["source_sha256"]]}
            proof = self.stamps.get(f"{clip_id} {shard['entry']['sha256']}", no_proof)
            shard["clips"][clip_id] = {**record, **proof}
        return {shard["entry"]["sha256"]: shard for shard in shards.values()}

    def _check_same(self, begun: Mapping[str, Any]) -> None:
        pairs = ((key, begun[key], now) for key, now in self.state.items())
        if apart := "; ".join(line for pair in pairs for line in settings_apart(*pair)):
            raise CacheError(
                f"{self.cache} was begun with other data, settings or library versions "
                f"(recorded and current: {apart}). Choose another --cache, or delete this one"
            )

    def drop_replaced(self, sources: Mapping[str, Source]) -> None:
        """Drop the records of clips whose raw files have changed since they were read."""
        checked = sources.keys() & self.records.keys()
        pairs = [(sources[clip_id], self.records[clip_id]) for clip_id in checked]
        unchanged = _parallel(_is_unchanged, pairs, "clip")
        for clip_id in [i for i, same in zip(checked, unchanged, strict=True) if not same]:
            del self.records[clip_id]
            self.waiting.discard(clip_id)

    def begin(self) -> None:
        """Make the work folder, and remove what a killed run left."""
        self.work.mkdir(parents=True, exist_ok=True)
        sweep(self.work)
        write_json(self.work / _STATE_NAME, self.state)
        for sha256, shard in self.recorded.items():
            write_json(self.work / f"{sha256}.json", shard)

    def add(self, clip_id: str, record: dict[str, Any]) -> None:
        """Add a clip that was saved in the work folder."""
        self.records[clip_id] = self.known[clip_id] = record
        self.waiting.add(clip_id)

    def write_actor(self, actor: int) -> None:
        """Write an actor's shard: its old rows that still have a record, and what waits for it."""
        file = shard_name(actor)
        clips = sorted(clip for clip in map(Clip.parse, self.records) if clip.actor == actor)
        waiting = self.waiting & {clip.clip_id for clip in clips}
        if not waiting and len(clips) == self.shards.get(file, {"clips": 0})["clips"]:
            return
        if clips:
            write_shard(self.work / file, len(clips), self.computed, self._rows(clips, file))
            entry = describe_shard(self.work / file, len(clips))
            content = {"entry": entry, "clips": {c.clip_id: self.records[c.clip_id] for c in clips}}
            write_json(self.work / f"{entry['sha256']}.json", content)
        (self.cache / MANIFEST_NAME).unlink(missing_ok=True)  # it would no longer fit
        if not clips:  # all were replaced by files that cannot be used
            (self.cache / file).unlink()
            del self.shards[file]
            return
        os.replace(self.work / file, self.cache / file)
        sync(self.cache)
        self.shards[file] = entry
        for clip_id in waiting:
            (self.work / f"{clip_id}.npz").unlink()
        self.waiting -= waiting

    def _rows(self, clips: list[Clip], file: str) -> Iterator[tuple[Clip, Mapping]]:
        with open_shard(self.cache / file) if file in self.shards else nullcontext() as old:
            for clip in clips:
                if clip.clip_id in self.waiting:
                    yield clip, load_clip(self.work / f"{clip.clip_id}.npz")[1]
                else:
                    row = old.clip_ids.index(clip.clip_id)
                    yield clip, {name: old.read(name, row) for name in old.computed}

    def end(self) -> None:
        """Write the manifest; without clips, remove it."""
        if not self.records:
            (self.cache / MANIFEST_NAME).unlink(missing_ok=True)
            return
        keys = ("source", "source_sha256", "notes")
        write_manifest(
            self.cache,
            origin=self.origin,
            config=self.state["config"],
            versions=self.state["versions"],
            shards=self.shards.values(),
            clips={i: {key: r[key] for key in keys} for i, r in self.records.items()},
        )

    def write_stamps(self) -> None:
        """Keep what proves that the raw files are unchanged, for the next run."""
        stamps = {}  # by clip and shard, so that they never hold for arrays of other raw files
        for clip_id, record in self.records.items():
            sha256 = self.shards[shard_name(Clip.parse(clip_id).actor)]["sha256"]
            stamps[f"{clip_id} {sha256}"] = {key: record[key] for key in ("stamps", "hashes")}
        if stamps != self.stamps:
            write_json(self.cache / STAMPS_NAME, stamps)


def _is_unchanged(pair: tuple[Source, dict[str, Any]]) -> bool:
    """Whether the raw files of a clip are those of its record; new stamps are noted there."""
    source, record = pair
    try:
        stamps = source.stamps()
        if record["stamps"] != stamps:
            if hashes_of(map(RawFile.read, source.files.values())) != record["hashes"]:
                return False
            record["stamps"] = stamps
    except (ClipError, OSError):
        return False  # processing it will say why
    return True


def _parallel(function: Callable, items: list, unit: str) -> Iterator[Any]:
    """The results of a function that reads files, with a progress bar if it takes long."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from tqdm(pool.map(function, items), "check", len(items), unit=unit, delay=2)


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a file that a run wrote, empty if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as exc:
        raise CacheError(f"{path}: damaged ({exc}). Remove it and run again") from exc


def _update_failures(
    cache: Path, failures: dict[str, str], excluded: Collection[str], records: Collection[Mapping]
) -> dict[str, str]:
    """Bring `failures.json` up to date, and return what is in it.

    Earlier failures still hold for sources that this run excluded, and for clips still lost.
    """
    path = cache / FAILURES_NAME
    processed = {PurePosixPath(record["source"]).stem for record in records}
    earlier = _read_json(path)
    for name, reason in earlier.items():
        if (name in excluded or reason == _LOST) and PurePosixPath(name).stem not in processed:
            failures.setdefault(name, reason)
    if failures and failures != earlier:
        write_json(path, failures)
    elif earlier and not failures:
        path.unlink()
    return failures
