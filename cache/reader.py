"""A finished cache, opened for reading and checked against its manifest."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cache.files import sha256_file
from cache.manifest import read_manifest
from cache.ravdess import ACTORS, Clip
from cache.schema import FIELDS, NAMED, POINT_LIMIT, shard_name
from cache.shard import ADVICE, CacheError, Shard, open_shard


class Cache:
    """Reads clips of a finished cache, the folder of its manifest and shards, by `clip_id`.

    Shards are opened when they are first read, in the process that reads, so the object can be
    pickled and passed to data loader workers, and several threads may read from it at once.
    Reading requires neither write permission nor file locks.

        cache = Cache("data/ravdess-cache")
        cache.read("01-01-06-01-02-01-12", "mfcc")  # float32 (13, 212)

    CacheError if the cache is missing or unfinished, or its manifest is not valid.
    """

    def __init__(self, directory: Path | str):
        self.directory = Path(directory)
        self.manifest: dict[str, Any] = read_manifest(self.directory)  # checked
        # All clips, sorted by `clip_id`.
        self.clips = [Clip.parse(clip_id) for clip_id in sorted(self.manifest["clips"])]
        self._row = {  # the rows of a shard are sorted by clip_id
            clip.clip_id: row
            for actor in ACTORS
            for row, clip in enumerate(self.of_actors([actor]))
        }
        self._entries = {entry["file"]: entry for entry in self.manifest["shards"]}
        self._shards: dict[int, Shard] = {}
        self._opening = Lock()

    def of_actors(self, actors: Collection[int]) -> list[Clip]:
        """The clips of these actors, sorted by `clip_id`."""
        return [clip for clip in self.clips if clip.actor in actors]

    @property
    def is_jpeg(self) -> bool:
        """Whether frames are stored as JPEG files, and so differ slightly from the originals."""
        return "codec" in self.manifest["config"].get("frames", {})

    def fields(self, clip_id: str) -> tuple[str, ...]:
        """The fields of `schema.FIELDS` that a clip has."""
        shard = self._shard(Clip.parse(clip_id).actor)
        return tuple(name for name in FIELDS if name in shard)

    def read(self, clip_id: str, field: str, out: np.ndarray | None = None) -> np.ndarray:
        """Read one field of one clip, with the type and shape of `schema.FIELDS`.

        `out` is the contiguous array to fill, by default a new one; ValueError if it has the wrong
        type or shape. CacheError if the clip or field is not in the cache, or its shard is damaged.
        """
        if clip_id not in self._row:
            raise CacheError(f"{self.directory}: no clip {clip_id} in this cache")
        shard = self._shard(Clip.parse(clip_id).actor)
        if field not in shard:
            held = ", ".join(name for name in FIELDS if name in shard)
            raise CacheError(f"{self.directory}: its clips have no {field}, only {held}")
        return shard.read(field, self._row[clip_id], out)

    def check(self, actors: Collection[int] = ACTORS) -> None:
        """Check the shards of these actors, and keep them open; CacheError for the first wrong one.

        This is fast: it reads no frames and computes no hashes, so it finds missing, truncated
        and mixed-up shards, but not a changed byte of an array. `problems` finds that too.
        """
        for actor in sorted({clip.actor for clip in self.of_actors(actors)}):
            self._check_size(actor)
            self._shard(actor)

    def problems(self) -> Iterator[str | None]:
        """Check every shard, several at a time: size, SHA-256, structure and clips.

        Yields:
            None for each valid shard, or a line that says what is wrong; then a line for each
            shard in the folder that the manifest does not list.
        """
        actors = sorted({clip.actor for clip in self.clips})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield from pool.map(self._problem, actors)
        for path in sorted(self.directory.glob("*.h5")):
            if path.name not in self._entries:
                yield f"{path}: not in the manifest. Delete it, or rebuild the cache"

    def _problem(self, actor: int) -> str | None:
        path, listed = self.directory / shard_name(actor), self._entries[shard_name(actor)]
        try:
            self._check_size(actor)
            if (found := sha256_file(path)) != listed["sha256"]:
                expected = listed["sha256"]
                return f"{path}: sha256 {found[:12]}, manifest says {expected[:12]}. {ADVICE}"
            self._open(actor).close()
        except (CacheError, OSError) as exc:
            return str(exc)
        return None

    def _check_size(self, actor: int) -> None:
        path, listed = self.directory / shard_name(actor), self._entries[shard_name(actor)]
        if not path.is_file():
            raise CacheError(f"{path}: missing. {ADVICE}")
        if (size := path.stat().st_size) != listed["bytes"]:
            raise CacheError(f"{path}: {size} bytes, manifest says {listed['bytes']}. {ADVICE}")

    def _shard(self, actor: int) -> Shard:
        with self._opening:
            if actor not in self._shards:
                self._shards[actor] = self._open(actor)
            return self._shards[actor]

    def _open(self, actor: int) -> Shard:
        shard = open_shard(self.directory / shard_name(actor))
        check_clips(shard, self.of_actors([actor]), self.manifest["config"])
        return shard

    def __reduce__(self) -> tuple:
        return Cache, (self.directory,)  # open shards and the lock belong to one process


class ClipDataset:
    """Clips by position, each a dictionary: `clip_id`, `label`, and `fields` of `schema.FIELDS`.

    A map-style dataset of numpy arrays, as a data loader of torch takes, also with workers.
    """

    def __init__(self, cache: Cache, fields: Sequence[str], actors: Collection[int] = ACTORS):
        self.cache, self.fields = cache, tuple(fields)
        self.clips = cache.of_actors(actors)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> dict[str, Any]:
        clip = self.clips[position]
        arrays = {name: self.cache.read(clip.clip_id, name) for name in self.fields}
        return {"clip_id": clip.clip_id, "label": clip.label} | arrays


def check_clips(shard: Shard, clips: Sequence[Clip], config: Mapping[str, Any]) -> None:
    """Raise CacheError unless a shard contains these clips, with frames as the settings say."""
    if shard.clip_ids != [clip.clip_id for clip in clips]:
        raise CacheError(
            f"{shard.path}: its {len(shard.clip_ids)} clips are not the {len(clips)} of the "
            f"manifest. {ADVICE}"
        )
    for name in set(NAMED) - {"clip_id"}:
        if shard.column(name).tolist() != [getattr(clip, name) for clip in clips]:
            raise CacheError(f"{shard.path}: {name} does not match the clips' names. {ADVICE}")
    if "landmarks" in config and "landmarks" not in shard:
        raise CacheError(f"{shard.path}: its landmarks do not match the settings in the manifest")
    if "landmarks" in shard and not (np.abs(shard.column("landmarks")) <= POINT_LIMIT).all():
        raise CacheError(
            f"{shard.path}: landmarks contain NaN, Inf or more than {POINT_LIMIT} pixels. {ADVICE}"
        )
    frames = config.get("frames")
    if frames is not None and ("frames" not in shard or shard.is_jpeg != ("codec" in frames)):
        raise CacheError(f"{shard.path}: its frames do not match the settings in the manifest")
