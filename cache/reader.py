"""A finished cache, opened for reading."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cache.clips import Clip
from cache.manifest import read_manifest
from cache.schema import FIELDS, shard_name
from cache.shard import CacheError, clip_ids, open_shard


class Cache:
    """Reads clips of a finished cache by `clip_id`.

    Shards are opened when first read from, in the process that reads, so the object can be
    pickled and handed to loader workers. Reading needs neither write permission nor file locks.

    Args:
        directory: a folder with `manifest.json` and its shards.

    Attributes:
        manifest: the checked content of `manifest.json`.
        clips: all clips, sorted by `clip_id`.

    Raises:
        CacheError: if there is no finished cache, or its manifest does not hold.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self.manifest: dict[str, Any] = read_manifest(self.directory)
        self.clips = [Clip.parse(clip_id) for clip_id in sorted(self.manifest["clips"])]
        self._row: dict[str, int] = {}
        counts: dict[int, int] = {}
        for clip in self.clips:  # clips lie in a shard in the order of their clip_id
            self._row[clip.clip_id] = counts.setdefault(clip.actor, 0)
            counts[clip.actor] += 1
        self._files: dict[int, h5py.File] = {}
        self._process = os.getpid()

    def of_actors(self, actors: tuple[int, ...]) -> list[Clip]:
        """The clips of these actors, sorted by `clip_id`."""
        return [clip for clip in self.clips if clip.actor in actors]

    def read(self, clip_id: str, field: str) -> np.ndarray:
        """One field of one clip, with the type and shape of `schema.FIELDS`.

        Raises:
            CacheError: if the clip or the field is not in the cache, or its shard is damaged.
        """
        if clip_id not in self._row:
            raise CacheError(f"{self.directory}: no clip {clip_id} in this cache")
        shard = self._shard(Clip.parse(clip_id).actor)
        if field not in shard:
            raise CacheError(
                f"{shard.filename}: holds no {field}. Build a cache that does with `make features`"
            )
        dataset = shard[field]
        value = np.empty(FIELDS[field].shape, FIELDS[field].dtype)
        row = self._row[clip_id]
        try:
            dataset.read_direct(value, np.s_[row])
        except OSError as exc:
            raise CacheError(f"{dataset.file.filename}: cannot read {field} ({exc})") from exc
        return value

    def _shard(self, actor: int) -> h5py.File:
        if self._process != os.getpid():  # forked: HDF5 handles must not be shared
            self._files, self._process = {}, os.getpid()
        if actor not in self._files:
            path = self.directory / shard_name(actor)
            file = open_shard(path)
            stored = clip_ids(file)
            expected = [clip.clip_id for clip in self.clips if clip.actor == actor]
            if stored != expected:
                file.close()
                raise CacheError(
                    f"{path}: holds {len(stored)} clips that are not the {len(expected)} of the "
                    "manifest. Fetch it again, or rebuild it"
                )
            self._files[actor] = file
        return self._files[actor]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}
