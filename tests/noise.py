"""Caches of noise: random, but with the right types and shapes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache.manifest import checksum, describe_shard, fingerprint, write_manifest
from cache.ravdess import Clip
from cache.schema import COMPUTED, FIELDS, PICTURE, shard_name
from cache.shard import write_shard

ORIGIN = {"dataset": "noise", "license": "CC0 1.0", "citation": "none"}


def noise_arrays(seed: int) -> dict[str, np.ndarray]:
    """The computed arrays of one clip, random but with the right types and shapes."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name in (*PICTURE, "mfcc"):
        field = FIELDS[name]
        if field.dtype.kind == "u":
            arrays[name] = random.integers(0, 256, field.shape, field.dtype)
        else:
            arrays[name] = random.standard_normal(field.shape).astype(field.dtype)
    return arrays


def change_manifest(cache: Path, change: Callable[[dict], None], *, seal: bool = True) -> None:
    """Change a manifest as a stranger may, who computes its fingerprint and checksum again."""
    manifest = json.loads((cache / "manifest.json").read_text())
    change(manifest)
    if seal:
        manifest["fingerprint"] = fingerprint(manifest["config"])
        manifest["checksum"] = checksum(manifest)
    (cache / "manifest.json").write_text(json.dumps(manifest))


def write_noise_cache(
    directory: Path,
    clips: list[Clip],
    arrays: Callable[[Clip], dict[str, np.ndarray]] = lambda clip: noise_arrays(hash(clip) % 2**32),
) -> Path:
    """A finished cache with these clips, and of each the arrays that are given."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = []
    for actor in sorted({clip.actor for clip in clips}):
        own = sorted(clip for clip in clips if clip.actor == actor)
        path = directory / shard_name(actor)
        rows = [(clip, arrays(clip)) for clip in own]
        fields = tuple(name for name in COMPUTED if name in rows[0][1])
        write_shard(path, len(own), fields, iter(rows))
        shards.append(describe_shard(path, len(own)))
    record = {"source": "noise", "source_sha256": "0" * 64, "notes": []}
    records = {clip.clip_id: record for clip in clips}
    about = {"origin": ORIGIN, "config": {"test": 1}, "versions": {}}
    write_manifest(directory, **about, shards=shards, clips=records)
    return directory
