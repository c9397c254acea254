"""Where two caches differ, and by how much: so that other library versions can be judged."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from cache.reader import Cache
from cache.schema import FIELDS

_NAMED_AT_MOST = 5


def differences(one: Cache, two: Cache) -> Iterator[str]:
    """One line for each thing in which two caches differ; none if they are the same.

    Settings, versions, clips, raw files and notes come from the manifests; then every field of
    every clip that is in both is compared. CacheError if a shard cannot be read.
    """
    for key in ("dataset", "config", "versions"):
        yield from settings_apart(key, one.manifest[key], two.manifest[key])
    mine, others = one.manifest["clips"], two.manifest["clips"]
    for cache, only in ((one, set(mine) - set(others)), (two, set(others) - set(mine))):
        if only:
            yield f"{_some(sorted(only))} only in {cache.directory}"
    common = sorted(set(mine) & set(others))
    for key, what in (("source_sha256", "raw files"), ("notes", "notes")):
        unlike = [clip_id for clip_id in common if mine[clip_id][key] != others[clip_id][key]]
        if unlike:
            yield f"{what} differ: {_some(unlike)}"
    for name in tqdm(FIELDS, desc="diff", unit="field"):
        yield from _field_differences(name, one, two, common)


def settings_apart(name: str, one: Any, two: Any) -> Iterator[str]:
    """One line for each entry in which two values differ, down to single entries of objects."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted(set(one) | set(two)):
            yield from settings_apart(f"{name}.{key}".lstrip("."), one.get(key), two.get(key))
    elif one != two:
        yield f"{name}: {one!r} and {two!r}"


def _field_differences(name: str, one: Cache, two: Cache, clip_ids: list[str]) -> Iterator[str]:
    """How one field differs: the largest and the mean absolute difference over all clips."""
    in_one, differing, total, count = [], [], 0.0, 0
    for clip_id in clip_ids:
        having = [cache for cache in (one, two) if name in cache.fields(clip_id)]
        if len(having) < 2:
            in_one += [clip_id] * len(having)
            continue
        mine, others = (cache.read(clip_id, name) for cache in having)
        count += mine.size
        if mine.tobytes() != others.tobytes():
            apart = np.zeros(1)
            if mine.dtype.kind != "S":
                apart = np.abs(mine.astype(np.float64) - others.astype(np.float64))
            differing.append((float(apart.max()), clip_id))
            total += float(apart.sum())
    if in_one:
        yield f"{name}: only in one of the two for {_some(in_one)}"
    if differing:
        largest, where = max(differing)
        yield (
            f"{name}: differs in {len(differing)} of {len(clip_ids) - len(in_one)} clips, by at "
            f"most {largest:.6g} (in {where}), by {total / count:.3g} on average"
        )


def _some(clip_ids: list[str]) -> str:
    more = f" and {len(clip_ids) - _NAMED_AT_MOST} more" if len(clip_ids) > _NAMED_AT_MOST else ""
    return f"{len(clip_ids)} clips ({', '.join(clip_ids[:_NAMED_AT_MOST])}{more})"
