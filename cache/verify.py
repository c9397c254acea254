"""Whether a cache is what its manifest says."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cache.clips import Clip
from cache.files import sha256_file
from cache.schema import shard_name
from cache.shard import CacheError, open_shard


def problems_of(
    directory: Path, manifest: dict[str, Any], *, quick: bool = False
) -> Iterator[str | None]:
    """Check every shard, several side by side: its size, SHA-256, structure and clips.

    Args:
        directory: of the cache.
        manifest: of the cache.
        quick: leave the SHA-256 out, which reads every byte.

    Yields:
        None for a shard that holds, else a line that names it and what is wrong; last, a line
        for each shard that lies there and that the manifest does not know.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(
            lambda shard: _problem(directory / shard["file"], shard, manifest, quick),
            manifest["shards"],
        )
    known = {shard["file"] for shard in manifest["shards"]}
    for path in sorted(directory.glob("*.h5")):
        if path.name not in known:
            yield f"{path}: not in the manifest. Remove it, or build the cache again"


def _problem(
    path: Path, shard: dict[str, Any], manifest: dict[str, Any], quick: bool
) -> str | None:
    advice = "Fetch it again, or delete it and run `make features`"
    if not path.is_file():
        return f"{path}: missing. {advice}"
    size = path.stat().st_size
    if size != shard["bytes"]:
        return f"{path}: {size} bytes, manifest says {shard['bytes']}. {advice}"
    if not quick and (found := sha256_file(path)) != shard["sha256"]:
        listed = str(shard["sha256"])
        return f"{path}: sha256 {found[:12]}..., manifest says {listed[:12]}... . {advice}"
    try:
        with open_shard(path) as opened:
            stored = opened.clip_ids
            labels = opened.column("label").tolist()
    except CacheError as exc:
        return str(exc)
    expected = sorted(
        clip_id
        for clip_id in manifest["clips"]
        if shard_name(Clip.parse(clip_id).actor) == path.name
    )
    if stored != expected:
        return f"{path}: its {len(stored)} clips are not the {len(expected)} of the manifest"
    if labels != [Clip.parse(clip_id).label for clip_id in stored]:
        return f"{path}: labels do not belong to the clips' names"
    return None
