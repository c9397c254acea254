"""A cache made ready to be published: with checksums, a card, a table and a description."""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache import jpeg
from cache.card import COLUMNS, card, croissant
from cache.files import atomic_path, sha256_file, sweep, write_text
from cache.manifest import MANIFEST_NAME, describe_shard, read_manifest, write_manifest
from cache.ravdess import EMOTIONS, Clip
from cache.reader import Cache
from cache.schema import COMPUTED, NAMED, shard_name
from cache.shard import CacheError, write_shard
from cache.verify import problems_of

SUMS_NAME = "SHA256SUMS"
TABLE_NAME = "clips.csv"
CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
_BEGUN = ".begun"  # lies there until all is: a folder with it is ours to go on with


def pack(cache: Path, out: Path, *, as_jpeg: bool | None, parts: int) -> list[Path]:
    """Write one or more folders that can be uploaded as they are; the same cache, the same bytes.

    Args:
        cache: a finished cache; it is verified first.
        out: the folder to write, new, or an earlier pack of the same cache, which is completed.
        as_jpeg: store frames as JPEGs, which loses a little and is marked; None as they are.
        parts: how many folders `out/part_1` ... to share the actors among; 1 is `out` itself.
            Each is a cache of its own, and fetching one after the other joins them.

    Returns:
        The folders.

    Raises:
        CacheError: if the cache does not hold, or `out` holds something else.
        OSError: if `out` cannot be written.
    """
    source = Cache(cache)
    if out.resolve().is_relative_to(cache.resolve()):
        raise CacheError(f"{out}: lies in the cache itself. Choose a folder outside")
    if source.is_jpeg and as_jpeg is False:
        raise CacheError(f"{cache}: holds JPEGs already, the raw frames are not to be had back")
    problems = [problem for problem in problems_of(cache, source.manifest) if problem]
    if problems:
        raise CacheError(f"{problems[0]} ({len(problems)} problems in all)")
    actors = sorted({clip.actor for clip in source.clips})
    if parts > len(actors):
        raise CacheError(f"{parts} parts, expected at most {len(actors)}: a part for each actor")
    shares = np.array_split(actors, parts)
    folders = [out / f"part_{n}" for n in range(1, parts + 1)] if parts > 1 else [out]
    for folder, share in zip(folders, shares, strict=True):
        _pack_part(source, folder, share.tolist(), bool(as_jpeg))
    return folders


def _pack_part(source: Cache, folder: Path, actors: list[int], as_jpeg: bool) -> None:
    clips = {
        clip.clip_id: source.manifest["clips"][clip.clip_id] for clip in source.of_actors(actors)
    }
    config, versions = source.manifest["config"], source.manifest["versions"]
    if as_jpeg and not source.is_jpeg:
        config, versions = _as_jpeg(source)
    shards = {shard["file"]: shard for shard in source.manifest["shards"]}
    origin = {key: source.manifest[key] for key in ("dataset", "license", "citation")}
    described = {"origin": origin, "config": config, "versions": versions, "clips": clips}
    packed = _packed(folder, described)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _BEGUN).touch()
    entries = []
    for actor in tqdm(actors, desc=f"pack {folder.name}", unit="shard"):
        name = shard_name(actor)
        if config == source.manifest["config"]:
            entries.append(shards[name])
            _copy(source.directory / name, folder / name, shards[name])
        elif packed and not _unlike(folder / name, packed[name]):
            entries.append(packed[name])
        else:
            own = source.of_actors((actor,))
            write_shard(
                folder / name, len(own), _computed(source, own[0]), _rows(source, own), as_jpeg=True
            )
            entries.append(describe_shard(folder / name, len(own)))
    manifest = write_manifest(folder, shards=entries, **described)
    write_text(folder / TABLE_NAME, _table(manifest))
    sums = {name: sha256_file(folder / name) for name in (MANIFEST_NAME, TABLE_NAME)}
    sums |= {entry["file"]: entry["sha256"] for entry in manifest["shards"]}
    write_text(folder / CARD_NAME, card(manifest))
    write_text(folder / CROISSANT_NAME, croissant(manifest, _sizes(folder, sums), sums))
    sums |= {name: sha256_file(folder / name) for name in (CARD_NAME, CROISSANT_NAME)}
    write_text(folder / SUMS_NAME, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
    (folder / _BEGUN).unlink()


def _packed(folder: Path, described: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The shards of a finished pack in `folder`, by name; CacheError if it is of another cache."""
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    shards = {shard_name(Clip.parse(clip_id).actor) for clip_id in described["clips"]}
    ours = {MANIFEST_NAME, TABLE_NAME, CARD_NAME, CROISSANT_NAME, SUMS_NAME, _BEGUN} | shards
    strange = sorted(there - ours - {name for name in there if name.endswith(".tmp")})
    if there and not there & {MANIFEST_NAME, _BEGUN}:
        strange = sorted(there)
    if strange:
        raise CacheError(f"{folder}: holds {strange[0]}, expected a new folder or an earlier pack")
    if folder.exists():
        sweep(folder)
    if MANIFEST_NAME not in there:
        return {}
    manifest = read_manifest(folder)
    unlike = [key for key in ("config", "versions", "clips") if manifest[key] != described[key]]
    if unlike:
        raise CacheError(
            f"{folder}: is a pack of another cache (its {unlike[0]} differ). Choose another folder"
        )
    return {shard["file"]: shard for shard in manifest["shards"]}


def _as_jpeg(source: Cache) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and versions of the source with its frames as JPEGs."""
    config = source.manifest["config"]
    if "frames" not in config:
        raise CacheError(f"{source.directory}: holds no frames, so there is nothing for JPEG")
    codec = {"name": "jpeg", "quality": jpeg.QUALITY, "subsampling": "4:4:4", "lossy": True}
    return (
        config | {"frames": config["frames"] | {"codec": codec}},
        source.manifest["versions"] | {"pillow": version("pillow")},
    )


def _copy(path: Path, final: Path, shard: Mapping[str, Any]) -> None:
    if not _unlike(final, shard):
        return
    with atomic_path(final) as temporary:
        shutil.copyfile(path, temporary)


def _unlike(path: Path, shard: Mapping[str, Any]) -> bool:
    """Whether `path` is anything but this shard."""
    there = path.is_file() and path.stat().st_size == shard["bytes"]
    return not there or sha256_file(path) != shard["sha256"]


def _computed(source: Cache, clip: Clip) -> list[str]:
    return [name for name in source.fields(clip.clip_id) if name in COMPUTED]


def _rows(source: Cache, clips: list[Clip]) -> Iterator[tuple[Clip, dict[str, np.ndarray]]]:
    for clip in clips:
        yield clip, {name: source.read(clip.clip_id, name) for name in _computed(source, clip)}


def _table(manifest: Mapping[str, Any]) -> str:
    """A row a clip, for people, and for tools that do not read HDF5."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    table.writeheader()
    rows: Counter[str] = Counter()
    for clip_id, record in sorted(manifest["clips"].items()):
        clip = Clip.parse(clip_id)
        shard = shard_name(clip.actor)
        named = {name: getattr(clip, name) for name in NAMED}
        described = {"emotion": EMOTIONS[clip.label], "shard": shard, "row": rows[shard]}
        table.writerow(named | described | record | {"notes": "; ".join(record["notes"])})
        rows[shard] += 1
    return buffer.getvalue()


def _sizes(folder: Path, names: Mapping[str, str]) -> dict[str, int]:
    return {name: os.stat(folder / name).st_size for name in names}
