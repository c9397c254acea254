"""Share a cache: pack it into a folder for any web server, and fetch it from one."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache import jpeg, ravdess, schema
from cache.diff import settings_apart
from cache.files import load_template, locked, sha256_file, sync, write_text
from cache.manifest import (
    MANIFEST_NAME,
    MAX_BYTES,
    describe_shard,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from cache.ravdess import EMOTIONS, LICENSES, Clip
from cache.reader import Cache, check_clips
from cache.schema import COMPUTED, FIELDS, JPEG_FIELDS, NAMED, shard_name
from cache.shard import ADVICE, CacheError, open_shard, write_shard
from cache.transfer import RemoteFile, download_all, read_small, shown

SUMS_NAME = "SHA256SUMS"
TABLE_NAME = "clips.csv"
_TEMPLATES = {"README.md": "card.md.j2", "croissant.json": "croissant.json.j2"}
_CLIP_NUMBERS = ("actor", "intensity", "statement", "repetition")
_CSV_COLUMNS = {  # of clips.csv: type, meaning
    "clip_id": ("sc:Text", FIELDS["clip_id"].meaning),
    "label": ("sc:Integer", FIELDS["label"].meaning),
    "emotion": ("sc:Text", "the label's name"),
    **{name: ("sc:Integer", FIELDS[name].meaning) for name in _CLIP_NUMBERS},
    "shard": ("sc:Text", "the HDF5 file that contains the clip's arrays"),
    "row": ("sc:Integer", "its row in every dataset of that file"),
    "source": ("sc:Text", "the raw file"),
    "source_sha256": ("sc:Text", "its SHA-256"),
    "notes": ("sc:Text", "what was repeated, appended or unusual"),
}


def pack(cache: Path | str, out: Path | str, *, as_jpeg: bool | None, parts: int) -> list[Path]:
    """Write folders that are ready to upload, and return them; the same cache gives the same bytes.

    Args:
        cache: a finished cache, which is verified.
        out: the folder to write; it stays as it is if it has this pack already.
        as_jpeg: whether to store frames as JPEG files, which is slightly lossy and is recorded;
            None keeps them as they are.
        parts: the number of folders `out/part_1` ... that the actors are divided among; 1 writes
            to `out` itself. Each is a cache; fetching all of them gives the whole one.

    Raises:
        CacheError: if the cache is not valid or changes meanwhile, or `out` contains anything else.
        BusyError: if another process is writing the cache.
    """
    source, cache, out = Cache(cache), Path(cache), Path(out)
    if out.resolve().is_relative_to(cache.resolve()):
        raise CacheError(f"{out}: is inside the cache itself. Choose a folder outside")
    if source.is_jpeg and as_jpeg is False:
        raise CacheError(f"{cache}: has JPEG frames, not raw ones. Use --codec jpeg")
    source.check()
    actors = sorted({clip.actor for clip in source.clips})
    if parts > len(actors):
        raise CacheError(f"{parts} parts, expected at most {len(actors)}: one per actor")
    shares = np.array_split(actors, parts)
    folders = [out / f"part_{n}" for n in range(1, parts + 1)] if parts > 1 else [out]
    encoded = bool(as_jpeg) and not source.is_jpeg
    with locked(cache):
        for folder, share in zip(folders, shares, strict=True):
            _pack_part(source, folder, share.tolist(), as_jpeg=encoded)
    return folders


def _pack_part(source: Cache, folder: Path, actors: list[int], *, as_jpeg: bool) -> None:
    """Write a folder with the shards of some actors, re-encoded as JPEG if `as_jpeg`."""
    clips = source.of_actors(actors)
    config, versions = source.manifest["config"], source.manifest["versions"]
    fields = source.fields(clips[0].clip_id)
    if as_jpeg:
        if "frames" not in config:
            raise CacheError(f"{source.directory}: has no frames to store as JPEG")
        config = config | {"frames": config["frames"] | {"codec": jpeg.CODEC}}
        versions = versions | {"pillow": version("pillow")}
    described = {
        "origin": {key: source.manifest[key] for key in ("dataset", "license", "citation")},
        "config": config,
        "versions": versions,
        "clips": {clip.clip_id: source.manifest["clips"][clip.clip_id] for clip in clips},
    }
    if _is_packed(folder, described, source, fields):
        return
    # The shards, in another folder until the whole is complete.
    building = folder.resolve().with_name(f".{folder.resolve().name}.tmp")
    shutil.rmtree(building, ignore_errors=True)  # of a pack that was stopped
    building.mkdir(parents=True)
    listed = {entry["file"]: entry for entry in source.manifest["shards"]}
    entries = []
    for actor in tqdm(actors, desc=f"pack {folder.name}", unit="shard"):
        path = building / shard_name(actor)
        original, entry = source.directory / path.name, listed[path.name]
        if as_jpeg:
            entries.append(_encode(source, path, actor))
        else:
            shutil.copyfile(original, path)
            sync(path)
            entries.append(entry)
        # After reading, so that this also finds what changed meanwhile.
        if (found := sha256_file(original if as_jpeg else path)) != entry["sha256"]:
            shutil.rmtree(building)
            expected = f"manifest says {entry['sha256'][:12]}"
            raise CacheError(f"{original}: sha256 {found[:12]} when packed, {expected}. {ADVICE}")
    manifest = write_manifest(building, shards=entries, **described)
    # What describes them, and what describes that.
    write_text(building / TABLE_NAME, _clips_csv(manifest))
    files = {entry["file"]: (entry["bytes"], entry["sha256"]) for entry in entries}
    files |= {name: _measure(building / name) for name in (MANIFEST_NAME, TABLE_NAME)}
    for name, template in _TEMPLATES.items():
        write_text(building / name, _render(template, manifest, fields, files))
    files |= {name: _measure(building / name) for name in _TEMPLATES}
    sums = [f"{sha256}  {name}\n" for name, (_, sha256) in sorted(files.items())]
    write_text(building / SUMS_NAME, "".join(sums))
    building.rename(folder)


def _encode(source: Cache, path: Path, actor: int) -> dict[str, Any]:
    """Write a shard with its frames as JPEG files; returns its entry in the manifest."""
    clips = source.of_actors([actor])
    fields = [name for name in source.fields(clips[0].clip_id) if name in COMPUTED]
    rows = ((clip, {name: source.read(clip.clip_id, name) for name in fields}) for clip in clips)
    write_shard(path, len(clips), fields, rows, as_jpeg=True)
    return describe_shard(path, len(clips))


def _is_packed(
    folder: Path, described: Mapping[str, Any], source: Cache, fields: Collection[str]
) -> bool:
    """Whether this pack of `source` is in `folder` already; CacheError if anything else is."""
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if not there:
        return False
    if SUMS_NAME not in there:
        raise CacheError(f"{folder}: contains {there[0]}, expected a new folder or earlier pack")
    packed = Cache(folder)
    for key in ("config", "versions", "clips"):
        if packed.manifest[key] != described[key]:
            raise CacheError(
                f"{folder}: is a pack of another cache (its {key} differ). Choose another folder"
            )
    for problem in filter(None, packed.problems()):
        raise CacheError(f"{folder}: damaged ({problem}). Remove that folder, and pack again")
    # Clips are recorded with the hash of their first file only, so compare what the others give.
    computed = [name for name in COMPUTED if name in fields and name != "frames"]
    for clip_id, name in product(described["clips"], reversed(computed)):
        if not np.array_equal(packed.read(clip_id, name), source.read(clip_id, name)):
            raise CacheError(
                f"{folder}: is an earlier pack, in which {name} of {clip_id} differs. Remove that "
                "folder, and pack again"
            )
    return True


def _measure(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256_file(path)


def _clips_csv(manifest: Mapping[str, Any]) -> str:
    """One row per clip, for people and for tools that do not read HDF5."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, _CSV_COLUMNS, lineterminator="\n")
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


def _render(
    template: str,
    manifest: Mapping[str, Any],
    fields: Collection[str],
    files: Mapping[str, tuple[int, str]],
) -> str:
    """A published cache's README (card.md.j2) or Croissant 1.0 description (croissant.json.j2).

    `fields` are those that its clips have, `files` the bytes and SHA-256 of each file, by name.
    """
    codec = manifest["config"].get("frames", {}).get("codec")
    datasets = {name: FIELDS[name] for name in fields if not (codec and name == "frames")}
    unknown = ("other", "https://schema.org/license")
    license_id, license_url = LICENSES.get(manifest["license"], unknown)
    return load_template(Path(__file__).with_name(template)).render(
        manifest=manifest,
        clips=[Clip.parse(clip_id) for clip_id in manifest["clips"]],
        ravdess=ravdess,
        schema=schema,
        has_frames="frames" in fields,
        points=manifest["config"].get("landmarks"),
        codec=codec,
        datasets=datasets | (JPEG_FIELDS if codec else {}),
        settings=json.dumps(manifest["config"], indent=1, sort_keys=True),
        license_id=license_id,
        license_url=license_url,
        files=dict(sorted(files.items())),
        columns=_CSV_COLUMNS,
    )


def fetch(
    address: str, directory: Path | str, *, actors: Collection[int], jobs: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Fetch the shards of some actors from a published cache, at a URL or path, into `directory`.

    Shards that are there already stay, and interrupted downloads are resumed. A shard gets its
    name only after its checksum, structure and clips were checked, and joins the cache that is
    there if its settings are the same. The manifest is written last. Returns what `download_all`
    returns for the shards.

    Raises:
        CacheError: if the published manifest is not valid, or does not match the one here.
        FailedError: if the manifest cannot be read.
        OSError: if `directory` cannot be written.
    """
    base, directory = address.rstrip("/"), Path(directory)
    content = read_small(f"{base}/{MANIFEST_NAME}", MAX_BYTES)
    theirs = parse_manifest(content, f"{shown(base)}/{MANIFEST_NAME}")
    clips: dict[str, list[Clip]] = {}
    for clip in map(Clip.parse, sorted(theirs["clips"])):
        if clip.actor in actors:
            clips.setdefault(shard_name(clip.actor), []).append(clip)
    if not clips:
        raise CacheError(f"{shown(base)}: has no clips of these actors")
    files = [
        RemoteFile(name, f"{base}/{name}", shard["bytes"], f"sha256:{shard['sha256']}")
        for shard in theirs["shards"]
        if (name := shard["file"]) in clips
    ]

    def accept(part: Path) -> None:
        """Check that a file with the right checksum is a shard, and of these clips."""
        with open_shard(part) as shard:
            check_clips(shard, clips[part.name.removesuffix(".part")], theirs["config"])

    with locked(directory):
        ours = _matching_manifest(directory, theirs, clips)
        done, failures = download_all(files, directory, jobs=jobs, accept=accept)
        _join(directory, ours, theirs, done)
    return done, failures


def _matching_manifest(
    directory: Path, theirs: Mapping[str, Any], names: Collection[str]
) -> dict[str, Any]:
    """The manifest that is here, if any; CacheError if the shards to fetch cannot join it."""
    if not (directory / MANIFEST_NAME).exists():
        return {"shards": [], "clips": {}}
    ours = read_manifest(directory)
    for key in ("dataset", "config", "versions"):
        apart = "; ".join(settings_apart(key, ours[key], theirs[key]))
        if apart:
            raise CacheError(
                f"{directory}: is another cache ({apart}, here and there). Choose another folder"
            )
    mine = {shard["file"]: shard["sha256"] for shard in ours["shards"]}
    for shard in theirs["shards"]:
        name, sha256 = shard["file"], shard["sha256"]
        if name in names and mine.get(name, sha256) != sha256:
            raise CacheError(
                f"{directory}: has another {name}, of other clips. Choose another folder, or "
                "exclude that actor with --only"
            )
    return ours


def _join(
    directory: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Collection[str]
) -> None:
    """Write the manifest of what is here now: our shards, and of theirs those in `names`."""
    shards = {shard["file"]: shard for shard in ours["shards"]}
    shards |= {shard["file"]: shard for shard in theirs["shards"] if shard["file"] in names}
    clips = ours["clips"] | {
        clip_id: record
        for clip_id, record in theirs["clips"].items()
        if shard_name(Clip.parse(clip_id).actor) in names
    }
    if shards and (list(shards.values()), clips) != (ours["shards"], ours["clips"]):
        write_manifest(
            directory,
            origin={key: theirs[key] for key in ("dataset", "license", "citation")},
            config=theirs["config"],
            versions=theirs["versions"],
            shards=shards.values(),
            clips=clips,
        )
