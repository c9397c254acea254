"""The manifest: which shards belong to a cache, and which clips and settings they come from."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.files import sha256_file, write_json
from cache.jpeg import CODEC
from cache.ravdess import Clip
from cache.schema import SCHEMA_VERSION, shard_name
from cache.shard import ADVICE, CacheError

MANIFEST_NAME = "manifest.json"
FAILURES_NAME = "failures.json"  # beside it, where clips failed: source name to reason
MAX_BYTES = 8 * 2**20  # RAVDESS's manifest has 0.3 MB

# Control characters, which a terminal obeys, and surrogates, which no file can contain.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
# What a manifest contains. A list or the key "*" stands for any number of such entries.
_LAYOUT = {
    "schema_version": int,
    "dataset": str,
    "license": str,
    "citation": str,
    "config": dict,
    "fingerprint": _SHA256,
    "versions": {"*": str},
    "shards": [{"file": str, "bytes": range(1, 2**36), "sha256": _SHA256, "clips": int}],
    "clips": {"*": {"source": str, "source_sha256": str, "notes": [str]}},
    "checksum": _SHA256,
}
_CODEC = {key: type(value) for key, value in CODEC.items()}


def fingerprint(config: Mapping[str, Any]) -> str:
    """SHA-256 over the schema version and every setting that changes a byte of a shard."""
    return _sha256_of({"schema_version": SCHEMA_VERSION, "config": dict(config)})


def checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over all of a manifest but the checksum itself, so that no entry can change."""
    return _sha256_of({key: value for key, value in manifest.items() if key != "checksum"})


def contents(manifest: Mapping[str, Any]) -> str:
    """SHA-256 over the shards: it tells what data a run saw, the fingerprint with what settings."""
    return _sha256_of([[shard["file"], shard["sha256"]] for shard in manifest["shards"]])


def _sha256_of(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


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
    """Describe a cache, see docs/cache-format.md; the last step of building it.

    Args:
        origin: `dataset`, `license` and `citation` of the clips.
        config, versions, clips: as in the manifest.
        shards: an entry for each shard, from `describe_shard` when the shard was written: hashing
            the files now would certify any damage since then.

    Returns:
        The manifest as written: the same clips, settings and versions give the same bytes.
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
    _check(manifest)
    write_json(directory / MANIFEST_NAME, manifest)
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check the manifest of the cache in `directory`; CacheError if it is not valid."""
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise CacheError(f"{directory}: {_why_no_cache(directory)}")
    with path.open("rb") as opened:
        return parse_manifest(opened.read(MAX_BYTES + 1), path)


def _why_no_cache(path: Path) -> str:
    """What a path without a manifest is, and what to do."""
    if not path.exists():
        return "no such folder, expected a cache"
    if path.is_file():
        return "is a file, expected the folder of a cache (if it is an archive, unpack it first)"
    names = {each.name for each in path.iterdir()}
    if ".work" in names or any(name.startswith("actor_") for name in names):
        return "an unfinished cache. Re-run the command that started it to resume"
    return (
        f"has no {MANIFEST_NAME}, so it is not a cache. Check the path, or build a cache from the "
        "folder of the clips: make features RAVDESS=DIR CACHE=DIR"
    )


def parse_manifest(content: bytes, path: Path | str) -> dict[str, Any]:
    """Parse and check the bytes of a manifest that came from `path`.

    CacheError if it is not JSON, or its schema version, layout, fingerprint, checksum, shard names
    or clip names are wrong.
    """
    if len(content) > MAX_BYTES:
        raise CacheError(f"{path}: more than {MAX_BYTES} bytes, so not a manifest")
    try:
        manifest = json.loads(content, parse_constant=_refuse_constant)
        _check(manifest)
    except CacheError as exc:
        raise CacheError(f"{path}: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise CacheError(f"{path}: not a valid manifest ({exc}). {ADVICE}") from exc
    return manifest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _check(manifest: Any) -> None:
    """Raise ValueError unless a manifest, which may be a stranger's, is consistent."""
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if type(version) is int and version != SCHEMA_VERSION:
        advice = "Update CFN-SR" if version > SCHEMA_VERSION else ADVICE
        raise CacheError(f"schema version is {version}, expected {SCHEMA_VERSION}. {advice}")
    _check_strings(manifest)
    _check_layout(manifest, _LAYOUT)
    if manifest["fingerprint"] != fingerprint(manifest["config"]):
        raise ValueError("its fingerprint does not match its config: the file was changed")
    frames = manifest["config"].get("frames", {})
    _check_layout(frames, dict, "config.frames")
    _check_layout(frames.get("codec", CODEC), _CODEC, "config.frames.codec")
    points = manifest["config"].get("landmarks", {"source": ""})
    _check_layout(points, dict, "config.landmarks")
    _check_layout(points.get("source"), str, "config.landmarks.source")
    # Shard names follow from the clips' names, so a stranger cannot choose where files go.
    expected = Counter(shard_name(Clip.parse(clip_id).actor) for clip_id in manifest["clips"])
    listed = [(shard["file"], shard["clips"]) for shard in manifest["shards"]]
    if sorted(listed) != sorted(expected.items()):
        raise ValueError(f"shards list clips {listed}, expected {sorted(expected.items())}")
    if manifest["checksum"] != checksum(manifest):
        raise ValueError("it does not match its own checksum: the file was changed")


def _check_layout(value: Any, layout: Any, place: str = "") -> None:
    """Raise ValueError unless a part of a manifest has the layout that `_LAYOUT` describes."""
    if isinstance(layout, dict) and isinstance(value, dict):
        expected = dict.fromkeys(value, layout["*"]) if "*" in layout else layout
        for key in sorted(set(value) ^ set(expected)):
            problem = "unknown" if key in value else "missing"
            raise ValueError(f"{place}.{key:.40}".lstrip(".") + f" is {problem}")
        for key in expected:
            _check_layout(value[key], expected[key], f"{place}.{key}".lstrip("."))
    elif isinstance(layout, list) and isinstance(value, list):
        for number, entry in enumerate(value):
            _check_layout(entry, layout[0], f"{place}[{number}]")
    elif isinstance(layout, range):
        if type(value) is not int or value not in layout:
            raise ValueError(f"{place} is {value!a:.40}, expected {layout[0]} to {layout[-1]}")
    elif isinstance(layout, re.Pattern):
        if not isinstance(value, str) or not layout.fullmatch(value):
            raise ValueError(f"{place} is {value!a:.40}, expected 64 hexadecimal digits")
    elif type(value) is not (kind := layout if isinstance(layout, type) else type(layout)):
        raise ValueError(f"{place} is {type(value).__name__}, expected {kind.__name__}".lstrip())


def _check_strings(value: Any) -> None:
    """Raise ValueError if a string would not be plain text on a terminal or in a file."""
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError(f"{value[:80]!a} contains control characters")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for inner in value if isinstance(value, list) else ():
        _check_strings(inner)
