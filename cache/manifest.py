"""The manifest: which shards belong to a cache, from which clips and settings they came."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.clips import Clip
from cache.files import sha256_file, write_json
from cache.migrate import STEPS, migrate
from cache.schema import SCHEMA_VERSION, shard_name
from cache.seals import checksum, fingerprint
from cache.shard import CacheError

MANIFEST_NAME = "manifest.json"
FAILURES_NAME = "failures.json"
MAX_BYTES = 64 * 2**20  # that of RAVDESS has 0.3 MB

RAVDESS = {
    "dataset": "RAVDESS speech, full audio-video",
    "license": "CC BY-NC-SA 4.0",
    "citation": (
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech "
        "and Song (RAVDESS): A dynamic, multimodal set of facial and vocal expressions in North "
        "American English. PLoS ONE 13(5): e0196391. https://doi.org/10.1371/journal.pone.0196391"
    ),
}

_KEYS = {
    "schema_version": int,
    "dataset": str,
    "license": str,
    "citation": str,
    "config": dict,
    "fingerprint": str,
    "versions": dict,
    "shards": list,
    "clips": dict,
    "checksum": str,
}


def describe_shard(path: Path, clips: int) -> dict[str, Any]:
    """A shard's entry in the manifest: `file`, `bytes`, `sha256`, `clips`."""
    size = path.stat().st_size
    return {"file": path.name, "bytes": size, "sha256": sha256_file(path), "clips": clips}


def write_manifest(
    directory: Path,
    *,
    origin: Mapping[str, str],
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    shards: Iterable[Mapping[str, Any]],
    clips: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Describe a cache; the last step of building it.

    Args:
        directory: the cache.
        origin: `dataset`, `license` and `citation` of the clips.
        config: every setting that changes a byte.
        versions: name to version of the libraries that made the cache.
        shards: an entry for each shard, as `describe_shard` gave it when the shard was written:
            hashing the files here would certify whatever has befallen them since.
        clips: clip_id to `source`, `source_sha256` and `notes`.

    Returns:
        The manifest as written. No time and no host name is in it, so the same clips, settings
        and versions give the same bytes.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        **origin,
        "config": dict(config),
        "fingerprint": fingerprint(config),
        "versions": dict(versions),
        "shards": sorted(map(dict, shards), key=lambda shard: shard["file"]),
        "clips": {clip_id: dict(clips[clip_id]) for clip_id in sorted(clips)},
    }
    manifest["checksum"] = checksum(manifest)
    check_manifest(manifest, directory / MANIFEST_NAME)
    write_json(directory / MANIFEST_NAME, manifest)
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check the manifest of the cache in `directory`, of this schema version or older.

    Raises:
        CacheError: if there is none, or `parse_manifest` refuses it.
    """
    path = directory / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as exc:
        raise CacheError(
            f"{directory}: no {MANIFEST_NAME}, so no finished cache. "
            "Run `make features`, or point --cache at a finished one"
        ) from exc
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path | str) -> dict[str, Any]:
    """The manifest in `content`, which came from `path`, migrated if it is of an older version.

    Raises:
        CacheError: if it is not JSON, of a schema version that this code does not know, lacks a
            key, or its fingerprint, checksum, shard names or clip names do not hold.
    """
    if len(content) > MAX_BYTES:
        raise CacheError(f"{path}: {len(content)} bytes, expected at most {MAX_BYTES}")
    try:
        manifest = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise CacheError(f"{path}: not valid JSON ({exc}). Fetch or build it again") from exc
    if not isinstance(manifest, dict):
        raise CacheError(f"{path}: holds a {type(manifest).__name__}, expected an object")
    version = manifest.get("schema_version")
    if not isinstance(version, int):
        raise CacheError(f"{path}: schema_version is missing or not a int")
    if version in STEPS:
        _check_keys(manifest, path, set(_KEYS) - {"checksum"})
        manifest = migrate(manifest)
    elif version != SCHEMA_VERSION:
        advice = "update CFN-SR" if version > SCHEMA_VERSION else "build the cache again"
        raise CacheError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}: {advice}")
    check_manifest(manifest, path)
    return manifest


def _check_keys(manifest: Mapping[str, Any], path: Path | str, keys: Collection[str]) -> None:
    for key in keys:
        if not isinstance(manifest.get(key), _KEYS[key]):
            raise CacheError(f"{path}: {key} is missing or not a {_KEYS[key].__name__}")


def check_manifest(manifest: Mapping[str, Any], path: Path | str) -> None:
    """Raise CacheError unless `manifest` is one that this version can trust to be consistent."""
    _check_keys(manifest, path, _KEYS)
    if manifest["fingerprint"] != fingerprint(manifest["config"]):
        raise CacheError(
            f"{path}: fingerprint {manifest['fingerprint'][:12]}... does not belong to its config. "
            "The file was changed by hand: fetch or build it again"
        )
    counts: dict[str, int] = {}
    for clip_id, record in manifest["clips"].items():
        try:
            clip = Clip.parse(clip_id)
        except ValueError as exc:
            raise CacheError(f"{path}: {exc}") from exc
        if not _fits(record, {"source": str, "source_sha256": str, "notes": list}):
            raise CacheError(f"{path}: clip {clip_id} lacks source, source_sha256 or notes")
        counts[shard_name(clip.actor)] = counts.get(shard_name(clip.actor), 0) + 1
    listed: dict[str, int] = {}
    for shard in manifest["shards"]:
        if not _fits(shard, {"file": str, "bytes": int, "sha256": str, "clips": int}):
            raise CacheError(f"{path}: a shard lacks file, bytes, sha256 or clips")
        listed[shard["file"]] = shard["clips"]
    if listed != counts:
        raise CacheError(
            f"{path}: shards list {listed}, but the clips belong to {counts}. "
            "Fetch or build it again"
        )
    if manifest["checksum"] != checksum(manifest):
        raise CacheError(
            f"{path}: its content does not have the checksum that it gives. A bit has flipped, or "
            "it was changed by hand: fetch or build it again"
        )


def _fits(entry: Any, kinds: Mapping[str, type]) -> bool:
    """Whether `entry` is an object with these keys and no other, of these types."""
    return (
        isinstance(entry, dict)
        and set(entry) == set(kinds)
        and all(isinstance(entry[key], kind) for key, kind in kinds.items())
    )
