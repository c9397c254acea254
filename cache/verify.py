"""Whether a cache is what its manifest says."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cache.files import sha256_file
from cache.ravdess import Clip
from cache.schema import NAMED, shard_name
from cache.shard import CacheError, Shard, open_shard


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
            check_rows(opened, path.name, manifest)
    except CacheError as exc:
        return str(exc)
    return None


def check_rows(shard: Shard, name: str, manifest: dict[str, Any]) -> None:
    """Raise CacheError unless a shard holds what the manifest says of the shard of this name."""
    clips = [Clip.parse(clip_id) for clip_id in sorted(manifest["clips"])]
    clips = [clip for clip in clips if shard_name(clip.actor) == name]
    if shard.clip_ids != [clip.clip_id for clip in clips]:
        raise CacheError(
            f"{shard.path}: its {len(shard.clip_ids)} clips are not the {len(clips)} of the "
            "manifest"
        )
    for field in NAMED:
        if field != "clip_id" and shard.column(field).tolist() != [
            getattr(clip, field) for clip in clips
        ]:
            raise CacheError(f"{shard.path}: {field}s do not belong to the clips' names")
    frames = manifest["config"].get("frames")
    if frames is not None and ("frames" not in shard or shard.is_jpeg != ("codec" in frames)):
        raise CacheError(f"{shard.path}: its frames are not as the manifest's settings say")
