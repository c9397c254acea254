"""A published cache, fetched shard by shard: nothing gets its name that was not checked."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cache.diff import settings_apart
from cache.files import locked
from cache.manifest import MANIFEST_NAME, MAX_BYTES, parse_manifest, read_manifest, write_manifest
from cache.ravdess import Clip
from cache.schema import shard_name
from cache.shard import CacheError, open_shard
from cache.transfer import (
    DownloadError,
    Outcome,
    RemoteFile,
    fetch_all,
    read_small,
    without_password,
)
from cache.verify import check_rows

_LEFTOVER = re.compile("tmp[a-z0-9_]{8}", re.ASCII)  # as pooch names what it checks


def fetch(
    address: str,
    directory: Path,
    *,
    actors: Collection[int],
    jobs: int,
    pause_s: float = 1.0,
) -> Outcome:
    """Bring the shards of these actors from `address` into the cache `directory`.

    A shard that is there already stays; a broken download goes on where it stopped; what is
    fetched joins the cache that is there, if it has the same settings. The manifest is written
    last.

    Args:
        address: of the folder, on any web server, or its path.
        directory: the cache, made if missing.
        actors: whose shards.
        jobs: how many downloads run side by side.
        pause_s: wait after the first broken connection.

    Raises:
        CacheError: if the manifest there does not hold, or does not go with the one that is here.
        DownloadError: if the manifest cannot be had.
        OSError: if `directory` cannot be written.
    """
    base = address.rstrip("/")
    shown = without_password(base)
    theirs = parse_manifest(
        read_small(f"{base}/{MANIFEST_NAME}", MAX_BYTES), f"{shown}/{MANIFEST_NAME}"
    )
    clips = {c: r for c, r in theirs["clips"].items() if Clip.parse(c).actor in actors}
    names = {shard_name(Clip.parse(clip_id).actor) for clip_id in clips}
    if not names:
        raise CacheError(f"{shown}: holds no clips of these actors")
    files = [
        RemoteFile(
            name=shard["file"],
            address=f"{base}/{shard['file']}",
            bytes=shard["bytes"],
            digest=f"sha256:{shard['sha256']}",
            see=shown,
        )
        for shard in theirs["shards"]
        if shard["file"] in names
    ]

    def accept(part: Path) -> None:
        """Its bytes are those of the manifest; but are they a shard, and of these clips?"""
        try:
            with open_shard(part) as shard:
                check_rows(shard, part.name.removesuffix(".part"), theirs)
        except CacheError as exc:
            raise DownloadError(str(exc)) from exc

    with locked(directory):
        ours = _ours(directory, theirs, names)
        for leftover in directory.glob("tmp*"):  # of a run that was killed while it checked
            if _LEFTOVER.fullmatch(leftover.name):
                leftover.unlink()
        to_come = sum(file.bytes for file in files if not (directory / file.name).exists())
        free = shutil.disk_usage(directory).free
        if to_come > free:
            raise OSError(f"{to_come} bytes are to come, {free} are free")
        outcome = fetch_all(files, directory, jobs=jobs, pause_s=pause_s, accept=accept)
        have = names - set(outcome.failures)
        _join(directory, ours, theirs, have)
    return outcome


def _ours(directory: Path, theirs: dict[str, Any], names: Collection[str]) -> dict[str, Any] | None:
    """The manifest that is here already, if any; CacheError if theirs does not go with it."""
    if not (directory / MANIFEST_NAME).exists():
        return None
    ours = read_manifest(directory)
    for key in ("dataset", "config", "versions"):
        apart = list(settings_apart(key, ours[key], theirs[key]))
        if apart:
            raise CacheError(
                f"{directory}: holds another cache ({'; '.join(apart)}, here and there). "
                "Choose another folder"
            )
    mine = {shard["file"]: shard["sha256"] for shard in ours["shards"]}
    for shard in theirs["shards"]:
        name = shard["file"]
        if name in names and mine.get(name, shard["sha256"]) != shard["sha256"]:
            raise CacheError(
                f"{directory}: holds another {name}, of other clips. Choose another folder, or "
                "leave that actor out with --only"
            )
    return ours


def _join(
    directory: Path, ours: dict[str, Any] | None, theirs: dict[str, Any], have: set[str]
) -> None:
    """Write the manifest of what is here now: our shards, and those of theirs that we have."""
    shards = {shard["file"]: shard for shard in theirs["shards"] if shard["file"] in have}
    clips = {
        clip_id: record
        for clip_id, record in theirs["clips"].items()
        if shard_name(Clip.parse(clip_id).actor) in have
    }
    if ours:
        shards = {s["file"]: s for s in ours["shards"] if s["file"] not in have} | shards
        for clip_id, record in ours["clips"].items():
            if shard_name(Clip.parse(clip_id).actor) not in have:
                clips[clip_id] = record
        if clips == ours["clips"] and list(shards.values()) == ours["shards"]:
            return
    if shards:
        write_manifest(
            directory,
            origin={key: theirs[key] for key in ("dataset", "license", "citation")},
            config=theirs["config"],
            versions=theirs["versions"],
            shards=shards.values(),
            clips=clips,
        )
