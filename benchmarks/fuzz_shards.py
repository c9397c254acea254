"""Open and read shards with changed bytes: a clean error or the bytes, and never a crash.

`python -m benchmarks.fuzz_shards [--seconds S] [--seed N]`. A child process does it and writes each
input before it opens it, so that one which ends the child is found in `--keep DIR`. Changed are
single bits, bytes, whole words, lengths, and pieces put elsewhere, mostly in the structure.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import numpy as np

from cache.ravdess import expected_clips
from cache.schema import FIELDS, PICTURE
from cache.shard import CacheError, open_shard, write_shard

_WORDS = (0, 1, 2**31 - 1, 2**32, 2**40, 2**63 - 1, 2**64 - 1)


def seeds(folder: Path) -> list[bytes]:
    """Four valid shards: of sound, with waveforms, with landmarks, and of frames as JPEGs."""
    random = np.random.default_rng(0)

    def arrays(names: tuple[str, ...]) -> dict[str, np.ndarray]:
        zeros = {name: np.zeros(FIELDS[name].shape, FIELDS[name].dtype) for name in names}
        return zeros | {"mfcc": random.standard_normal(FIELDS["mfcc"].shape).astype(np.float32)}

    clips = expected_clips(7)[:3]
    contents = []
    faces = (*PICTURE[1:], "mfcc", "landmarks")
    for names in (("mfcc",), ("mfcc", "waveform"), faces, (*PICTURE, "mfcc")):
        path = folder / "seed.h5"
        rows = [(clip, arrays(names)) for clip in clips]
        write_shard(path, len(rows), names, rows, as_jpeg="frames" in names)
        contents.append(path.read_bytes())
    return contents


LEAST = 40  # inputs, on a machine however busy


def mutated(content: bytes, dice: random.Random) -> bytes:
    """The content with one or a few changes."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        end = len(changed) if dice.random() < 0.2 else min(len(changed), 8192)
        if end < 16:
            break
        place = dice.randrange(end - 8)
        kind = dice.randrange(5)
        if kind == 0:
            changed[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[place] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        elif kind == 2:
            changed[place : place + 8] = struct.pack("<Q", dice.choice(_WORDS))
        elif kind == 3:
            length = dice.randrange(1, 64)
            source = dice.randrange(end)
            changed[place : place + length] = changed[source : source + length]
        elif dice.random() < 0.3:
            del changed[dice.randrange(len(changed)) :]
    return bytes(changed)


def trial(path: Path, seed: int, seconds: float, counts) -> None:
    """Try inputs for some seconds, at least `LEAST`; counts those tried and refused in `counts`."""
    dice = random.Random(seed)
    contents = seeds(path.parent)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or counts[0] < LEAST:
        path.write_bytes(mutated(dice.choice(contents), dice))
        counts[0] += 1
        try:
            with open_shard(path) as shard:
                for name in shard.computed:
                    for row in range(len(shard.clip_ids)):
                        shard.read(name, row)
        except CacheError:
            counts[1] += 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_shards")
    parser.add_argument("--seconds", type=float, default=180.0, metavar="S")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--keep", type=Path, default=Path("."), metavar="DIR")
    args = parser.parse_args(argv)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "actor_07.h5"
        counts = spawn.Array("q", 2)
        child = spawn.Process(target=trial, args=(path, args.seed, args.seconds, counts))
        child.start()
        child.join(args.seconds + 60)
        hangs = child.is_alive()
        if hangs:
            child.kill()
            child.join()
        crashed = child.exitcode != 0
        if crashed:
            shutil.copy(path, args.keep / "crash.h5")
            print(f"the last input is {args.keep / 'crash.h5'}, exit code {child.exitcode}")
    tried, refused = counts[:]
    result = {"inputs": tried, "refused": refused, "read": tried - refused, "crashed": crashed}
    print(json.dumps(result | {"seed": args.seed, "hangs": hangs}))
    return 1 if crashed else 0


if __name__ == "__main__":
    raise SystemExit(main())
