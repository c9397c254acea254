"""Where two caches differ, and by how much: so that other library versions can be judged."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache.reader import Cache
from cache.schema import COMPUTED, NAMED

_NAMED_AT_MOST = 5


def differences(one: Cache, two: Cache) -> Iterator[str]:
    """A line for each thing in which two caches differ; none if they hold the same.

    Settings, versions, clips, raw files and notes come from the manifests; then every field of
    every clip that both have is compared, with the largest and the mean absolute difference.

    Raises:
        CacheError: if a shard cannot be read.
    """
    for key in ("dataset", "config", "versions"):
        yield from settings_apart(key, one.manifest[key], two.manifest[key])
    clips = [cache.manifest["clips"] for cache in (one, two)]
    for mine, others, cache in ((clips[0], clips[1], one), (clips[1], clips[0], two)):
        alone = sorted(set(mine) - set(others))
        if alone:
            yield f"{_some(alone)} only in {cache.directory}"
    common = sorted(set(clips[0]) & set(clips[1]))
    for key, what in (("source_sha256", "raw files"), ("notes", "notes")):
        unlike = [clip_id for clip_id in common if clips[0][clip_id][key] != clips[1][clip_id][key]]
        if unlike:
            yield f"{what} differ: {_some(unlike)}"
    yield from _of_fields(one, two, common)


def settings_apart(name: str, one: Any, two: Any) -> Iterator[str]:
    """A line for each entry in which two values differ, down to single entries of objects."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted(set(one) | set(two)):
            yield from settings_apart(f"{name}.{key}".lstrip("."), one.get(key), two.get(key))
    elif one != two:
        yield f"{name}: {one!r} and {two!r}"


def _of_fields(one: Cache, two: Cache, clip_ids: list[str]) -> Iterator[str]:
    found: dict[str, _Difference] = {}
    for clip_id in tqdm(clip_ids, desc="diff", unit="clip"):
        fields = [cache.fields(clip_id) for cache in (one, two)]
        for name in (*NAMED, *COMPUTED):
            if name in fields[0] and name in fields[1]:
                difference = found.setdefault(name, _Difference())
                difference.add(clip_id, one.read(clip_id, name), two.read(clip_id, name))
            elif name in fields[0] or name in fields[1]:
                found.setdefault(name, _Difference()).alone.append(clip_id)
    for name, difference in found.items():
        yield from difference.lines(name)


class _Difference:
    """What has been found of one field so far."""

    def __init__(self) -> None:
        self.clips: list[str] = []
        self.alone: list[str] = []
        self._largest = (0.0, "")
        self._sum, self._count, self._compared = 0.0, 0, 0

    def add(self, clip_id: str, one: np.ndarray, two: np.ndarray) -> None:
        self._count += one.size
        self._compared += 1
        if one.tobytes() == two.tobytes():
            return
        self.clips.append(clip_id)
        if one.dtype.kind in "uif":
            apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
            self._largest = max(self._largest, (float(apart.max()), clip_id))
            self._sum += float(apart.sum())

    def lines(self, name: str) -> Iterator[str]:
        if self.alone:
            yield f"{name}: only one of the two has it for {_some(self.alone)}"
        if self.clips:
            largest, worst = self._largest
            yield (
                f"{name}: differs in {len(self.clips)} of {self._compared} clips, at most by "
                f"{largest:.6g} (in {worst or self.clips[0]}), by {self._sum / self._count:.3g} "
                "in the mean over all"
            )


def _some(clip_ids: list[str]) -> str:
    more = f" and {len(clip_ids) - _NAMED_AT_MOST} more" if len(clip_ids) > _NAMED_AT_MOST else ""
    return f"{len(clip_ids)} clips ({', '.join(clip_ids[:_NAMED_AT_MOST])}{more})"


def compare(one: Path, two: Path) -> int:
    """Print how two caches differ; exit status 0 if they do not, else 1."""
    lines = list(differences(Cache(one), Cache(two)))
    for line in lines:
        print(line)
    if not lines:
        print("no difference: the same settings, versions, clips and arrays")
    return 1 if lines else 0
