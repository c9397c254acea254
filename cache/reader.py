"""A finished cache, opened for reading."""

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from cache.manifest import read_manifest
from cache.ravdess import Clip
from cache.schema import FIELDS, shard_name
from cache.shard import CacheError, Shard, open_shard

# What belongs to one process, and is made anew in another.
_OPENED = ("_shards", "_opening")


class Cache:
    """Reads clips of a finished cache by `clip_id`.

    Shards are opened when first read from, in the process that reads, so the object can be
    pickled and handed to loader workers, and threads may read from it side by side. Reading needs
    neither write permission nor file locks.

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
        self._shards: dict[int, Shard] = {}
        self._opening = Lock()

    def of_actors(self, actors: tuple[int, ...]) -> list[Clip]:
        """The clips of these actors, sorted by `clip_id`."""
        return [clip for clip in self.clips if clip.actor in actors]

    @property
    def is_jpeg(self) -> bool:
        """Whether frames are stored as JPEGs, and so are not quite those that were computed."""
        return "codec" in self.manifest["config"].get("frames", {})

    def fields(self, clip_id: str) -> tuple[str, ...]:
        """Which of `schema.FIELDS` can be read of a clip."""
        shard = self._shard(Clip.parse(clip_id).actor)
        return tuple(name for name in FIELDS if name in shard)

    def read(self, clip_id: str, field: str, out: np.ndarray | None = None) -> np.ndarray:
        """One field of one clip, with the type and shape of `schema.FIELDS`.

        Args:
            clip_id: of the clip.
            field: of `schema.FIELDS`.
            out: the array to fill, contiguous, of that type and shape; else a new one.

        Raises:
            CacheError: if the clip or the field is not in the cache, or its shard is damaged.
        """
        if clip_id not in self._row:
            raise CacheError(f"{self.directory}: no clip {clip_id} in this cache")
        shard = self._shard(Clip.parse(clip_id).actor)
        if field not in shard:
            raise CacheError(
                f"{shard.path}: holds no {field}. Build a cache that does with `make features`"
            )
        return shard.read(field, self._row[clip_id], out)

    def _shard(self, actor: int) -> Shard:
        with self._opening:
            if actor not in self._shards:
                self._shards[actor] = self._open(actor)
            return self._shards[actor]

    def _open(self, actor: int) -> Shard:
        path = self.directory / shard_name(actor)
        shard = open_shard(path)
        expected = [clip.clip_id for clip in self.clips if clip.actor == actor]
        if shard.clip_ids != expected:
            shard.close()
            raise CacheError(
                f"{path}: holds {len(shard.clip_ids)} clips that are not the {len(expected)} of "
                "the manifest. Fetch it again, or rebuild it"
            )
        return shard

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _OPENED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._shards, self._opening = {}, Lock()
