"""The manifest: which shards belong to a cache, from which clips and settings they came."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.files import sha256_file, write_json
from cache.migrate import STEPS, migrate
from cache.ravdess import Clip
from cache.schema import SCHEMA_VERSION, shard_name
from cache.seals import checksum, fingerprint
from cache.shard import CacheError

MANIFEST_NAME = "manifest.json"
FAILURES_NAME = "failures.json"
MAX_BYTES = 8 * 2**20  # that of RAVDESS has 0.3 MB
MOST_SHARD_BYTES = 2**36

_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
# Control characters, which a terminal obeys, and halves of characters, which no file can hold.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

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
    if not path.is_file():
        raise CacheError(
            f"{directory}: no {MANIFEST_NAME}, so no finished cache. "
            "Run `make features`, or name a finished one"
        )
    with path.open("rb") as opened:
        return parse_manifest(opened.read(MAX_BYTES + 1), path)


def parse_manifest(content: bytes, path: Path | str) -> dict[str, Any]:
    """The manifest in `content`, which came from `path`, migrated if it is of an older version.

    Raises:
        CacheError: if it is not JSON, of a schema version that this code does not know, lacks a
            key, or its fingerprint, checksum, shard names or clip names do not hold.
    """
    if len(content) > MAX_BYTES:
        raise CacheError(f"{path}: more than {MAX_BYTES} bytes: no manifest")
    try:
        manifest = json.loads(content, parse_constant=_refuse_constant)
        if not isinstance(manifest, dict):
            raise CacheError(f"{path}: holds a {type(manifest).__name__}, expected an object")
        manifest = _of_this_version(manifest, path)
        check_manifest(manifest, path)
    except CacheError:
        raise
    except (ValueError, RecursionError) as exc:
        raise CacheError(f"{path}: not valid JSON ({exc}). Fetch or build it again") from exc
    return manifest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _of_this_version(manifest: dict[str, Any], path: Path | str) -> dict[str, Any]:
    version = manifest.get("schema_version")
    if type(version) is not int:
        raise CacheError(f"{path}: schema_version is missing or no whole number")
    if version in STEPS:
        if "checksum" in manifest:
            raise CacheError(f"{path}: schema version {version} has no checksum, this has one")
        _check_keys(manifest, path, set(_KEYS) - {"checksum"})
        _check_fingerprint(manifest, path)
        return migrate(manifest)
    if version != SCHEMA_VERSION:
        advice = "update CFN-SR" if version > SCHEMA_VERSION else "build the cache again"
        raise CacheError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}: {advice}")
    return manifest


def _check_keys(manifest: Mapping[str, Any], path: Path | str, keys: Collection[str]) -> None:
    for key in keys:
        if not isinstance(manifest.get(key), _KEYS[key]):
            raise CacheError(f"{path}: {key} is missing or not a {_KEYS[key].__name__}")


def _check_fingerprint(manifest: Mapping[str, Any], path: Path | str) -> None:
    if manifest["fingerprint"] != fingerprint(manifest["config"], manifest["schema_version"]):
        raise CacheError(
            f"{path}: fingerprint {manifest['fingerprint'][:12]}... does not belong to its config. "
            "The file was changed by hand: fetch or build it again"
        )


def check_manifest(manifest: Mapping[str, Any], path: Path | str) -> None:
    """Raise CacheError unless `manifest` is one that this version can trust to be consistent."""
    _check_keys(manifest, path, _KEYS)
    _check_strings(manifest, path)
    _check_fingerprint(manifest, path)
    frames = manifest["config"].get("frames", {})
    codec = frames.get("codec", {"quality": 0}) if isinstance(frames, dict) else None
    if not isinstance(codec, dict) or not isinstance(codec.get("quality"), int):
        raise CacheError(f"{path}: config.frames is not an object, or its codec has no quality")
    if not all(isinstance(version, str) for version in manifest["versions"].values()):
        raise CacheError(f"{path}: versions are not all strings")
    counts: dict[str, int] = {}
    for clip_id, record in manifest["clips"].items():
        try:
            clip = Clip.parse(clip_id)
        except ValueError as exc:
            raise CacheError(f"{path}: {exc}") from exc
        if not _fits(record, {"source": str, "source_sha256": str, "notes": list}) or not all(
            isinstance(note, str) for note in record["notes"]
        ):
            raise CacheError(f"{path}: clip {clip_id} lacks source, source_sha256 or notes")
        counts[shard_name(clip.actor)] = counts.get(shard_name(clip.actor), 0) + 1
    listed: dict[str, int] = {}
    for shard in manifest["shards"]:
        if not _fits(shard, {"file": str, "bytes": int, "sha256": str, "clips": int}):
            raise CacheError(f"{path}: a shard lacks file, bytes, sha256 or clips")
        if not 0 < shard["bytes"] < MOST_SHARD_BYTES or not _SHA256.fullmatch(shard["sha256"]):
            raise CacheError(f"{path}: a shard's bytes or sha256 cannot be")
        if shard["file"] in listed:
            raise CacheError(f"{path}: lists {shard['file']} twice")
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


def _check_strings(value: Any, path: Path | str) -> None:
    """Refuse what would not be text on a terminal or in a file: strings may be a stranger's."""
    if isinstance(value, str) and CONTROL.search(value):
        raise CacheError(f"{path}: {value[:80]!a} has characters that are no text")
    if isinstance(value, dict):
        for key, held in value.items():
            _check_strings(key, path)
            _check_strings(held, path)
    if isinstance(value, list):
        for held in value:
            _check_strings(held, path)


def _fits(entry: Any, kinds: Mapping[str, type]) -> bool:
    """Whether `entry` is an object with these keys and no other, of these types."""
    return (
        isinstance(entry, dict)
        and set(entry) == set(kinds)
        and all(isinstance(entry[key], kind) for key, kind in kinds.items())
    )
