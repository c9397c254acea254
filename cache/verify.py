"""Whether a cache is what its manifest says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.clips import Clip
from cache.files import sha256_file
from cache.schema import shard_name
from cache.shard import CacheError, open_shard


def problems_of(directory: Path, manifest: dict[str, Any]) -> Iterator[str | None]:
    """Check one shard after the other against the manifest: size, SHA-256, structure, clips.

    Yields:
        None for a shard that holds, else a line that names it and what is wrong; last, a line
        for each shard that lies there and that the manifest does not know.
    """
    known = set()
    for shard in manifest["shards"]:
        path = directory / shard["file"]
        known.add(path.name)
        yield _problem(path, shard, manifest)
    for path in sorted(directory.glob("*.h5")):
        if path.name not in known:
            yield f"{path}: not in the manifest. Remove it, or build the cache again"


def _problem(path: Path, shard: dict[str, Any], manifest: dict[str, Any]) -> str | None:
    advice = "Fetch it again, or delete it and run `make features`"
    if not path.is_file():
        return f"{path}: missing. {advice}"
    size = path.stat().st_size
    if size != shard["bytes"]:
        return f"{path}: {size} bytes, manifest says {shard['bytes']}. {advice}"
    found = sha256_file(path)
    if found != shard["sha256"]:
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
