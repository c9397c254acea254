"""Clips per second read from a cache, compared with a plain numpy copy of the same bytes.

`python -m benchmarks.bench_stream [--cache DIR] [--rounds N]` (default: a cache of noise that it
makes, 180 clips, 0.8 GB). All bytes are in the page cache, so the reader is measured, not the disk.
Reading and copying take turns, so that ratios hold when the machine's speed drifts; every clip is
read into the same buffer, as in a trainer.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from benchmarks.caches import open_cache
from cache.command import positive
from cache.schema import FIELDS, shard_name


def seconds_of(work: Callable[[str], None], clip_ids: list[str]) -> float:
    """Wall-clock seconds to do `work` for all clips."""
    started = time.perf_counter()
    for clip_id in clip_ids:
        work(clip_id)
    return time.perf_counter() - started


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_stream")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="a finished cache with frames")
    parser.add_argument("--rounds", type=positive, default=9, metavar="N")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        cache = open_cache(parser, args.cache, Path(folder))
        ordered = [clip.clip_id for clip in cache.clips]
        shuffled = np.random.default_rng(0).permutation(ordered).tolist()
        in_memory = {clip_id: cache.read(clip_id, "frames") for clip_id in ordered}
        buffer = np.empty(FIELDS["frames"].shape, FIELDS["frames"].dtype)
        files = {
            actor: h5py.File(cache.directory / shard_name(actor), "r", locking=False)
            for actor in sorted({clip.actor for clip in cache.clips})
        }
        place = {
            clip.clip_id: (files[clip.actor]["frames"], row)
            for actor in files
            for row, clip in enumerate(cache.of_actors((actor,)))
        }

        def by_hdf5(clip_id: str) -> None:
            dataset, row = place[clip_id]
            dataset.read_direct(buffer, np.s_[row])

        ways = {
            "copy": (lambda clip_id: np.copyto(buffer, in_memory[clip_id]), shuffled),
            "sequential": (lambda clip_id: cache.read(clip_id, "frames", out=buffer), ordered),
            "shuffled": (lambda clip_id: cache.read(clip_id, "frames", out=buffer), shuffled),
            "shuffled_new_array": (lambda clip_id: cache.read(clip_id, "frames"), shuffled),
            "hdf5_shuffled": (by_hdf5, shuffled),
        }
        rounds: list[dict[str, float]] = []
        for _ in tqdm(range(args.rounds + 1), unit="round", disable=None):
            rounds.append({name: seconds_of(*way) for name, way in ways.items()})
        for file in files.values():
            file.close()
    rounds = rounds[1:]  # the first warms up
    rates = {name: len(ordered) / statistics.median(row[name] for row in rounds) for name in ways}
    ratios = {name: statistics.median(row["copy"] / row[name] for row in rounds) for name in ways}
    for name in ways:
        print(f"{name:18} {rates[name]:8.0f} clips/s  {ratios[name]:.2f} of the copy")
    result = {
        "clips_per_second": rates["shuffled"],
        "copy_clips_per_second": rates["copy"],
        "ratio": ratios["shuffled"],
        "sequential_clips_per_second": rates["sequential"],
        "rates": rates,
        "ratios": ratios,
        "clips": len(ordered),
        "rounds": args.rounds,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
