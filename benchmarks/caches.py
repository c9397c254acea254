"""Caches that benchmarks measure on: one that was named, or one of noise."""

import argparse
from pathlib import Path

import numpy as np

from cache.manifest import describe_shard, write_manifest
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.schema import FIELDS, PICTURE, shard_name
from cache.shard import write_shard

_ACTORS = (1, 2, 3)


def open_cache(parser: argparse.ArgumentParser, named: Path | None, folder: Path) -> Cache:
    """The cache in `named`, or one of noise that is made in `folder`.

    Args:
        parser: says what is wrong with `named`, and ends the program.
        named: a finished cache with frames.
        folder: to make one in.
    """
    try:
        cache = Cache(named or make_cache(folder))
        if "frames" not in cache.fields(cache.clips[0].clip_id):
            parser.error(f"{named}: holds no frames, which are what is measured")
    except (ValueError, OSError) as exc:
        parser.error(str(exc))
    return cache


def make_cache(directory: Path) -> Path:
    """A finished cache of noise, of the 60 clips of each of three actors."""
    noise = np.random.default_rng(0)
    fields = (*PICTURE, "mfcc")
    arrays = {
        name: noise.integers(0, 256, FIELDS[name].shape).astype(FIELDS[name].dtype)
        for name in fields
    }
    shards, records = [], {}
    for actor in _ACTORS:
        clips = expected_clips(actor)
        path = directory / shard_name(actor)
        write_shard(path, len(clips), fields, ((clip, arrays) for clip in clips))
        shards.append(describe_shard(path, len(clips)))
        for clip in clips:
            record = {"source": "noise", "source_sha256": "0" * 64, "notes": []}
            records[clip.clip_id] = record
    origin = {"dataset": "noise", "license": "CC0 1.0", "citation": "none"}
    write_manifest(directory, origin=origin, config={}, versions={}, shards=shards, clips=records)
    return directory
