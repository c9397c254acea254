"""`python -m preprocess --raw DIR --cache DIR`: raw RAVDESS clips to HDF5 shards."""

import argparse
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from cache.clips import ACTORS, expected_clips
from cache.shard import CacheError
from preprocess.dataset import find_clips, origin
from preprocess.pipeline import build, write_failures
from preprocess.settings import Settings


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        found = find_clips(args.raw)
    except FileNotFoundError as exc:
        return _refuse(str(exc))
    for line in found.warnings[:10]:
        print(f"warning: {line}", file=sys.stderr)
    if len(found.warnings) > 10:
        print(f"warning: and {len(found.warnings) - 10} more such files", file=sys.stderr)
    for kind, count in sorted(found.left_out.items()):
        print(f"{count} {kind} recordings left out: the cache holds full-AV speech")
    sources = [source for source in found.sources if source.clip.actor in args.only]
    if not sources and not found.failures:
        return _refuse(
            f"{args.raw}: no full-AV speech clip (01-01-*.mp4) of actors "
            f"{', '.join(map(str, args.only))}, expected Actor_NN/*.mp4 or RAVDESS's zips"
        )
    try:
        outcome = build(
            sources, args.cache, origin=origin(args.raw), settings=Settings(), jobs=args.jobs
        )
        failures = found.failures | outcome.failures
        write_failures(args.cache, failures)
    except CacheError as exc:
        return _refuse(str(exc))
    except OSError as exc:
        print(f"error: {args.cache}: cannot be written ({exc})", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print(
            "error: a worker process was killed, perhaps for want of memory. What is done is "
            "kept: run again to go on, with fewer --jobs if memory is short",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is done is kept, run again to go on", file=sys.stderr)
        return 1
    expected = len(args.only) * len(expected_clips(1))
    if outcome.made:
        print(f"{outcome.made} clips made; {outcome.total} clips in {args.cache}")
    else:
        print(f"nothing to do: {outcome.total} clips in {args.cache} already")
    if outcome.total < expected and origin(args.raw)["dataset"].startswith("RAVDESS"):
        print(f"note: RAVDESS has {expected} clips of these {len(args.only)} actors")
    for name, reason in sorted(failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preprocess", description=__doc__)
    parser.add_argument(
        "--raw", type=Path, required=True, metavar="DIR", help="Actor_NN/*.mp4, or the zips"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, metavar="DIR", help="where shards and manifest go"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="worker processes (default: one a CPU)",
    )
    parser.add_argument(
        "--only", type=_actor, nargs="+", default=list(ACTORS), metavar="ACTOR", help="1..24"
    )
    parser.add_argument("--faces", choices=("mtcnn",), default="mtcnn", help="how faces are found")
    parser.add_argument("--audio", choices=("mp4",), default="mp4", help="whose sound is taken")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of 1 or more")
    return int(text)


def _actor(text: str) -> int:
    if not text.isdecimal() or int(text) not in ACTORS:
        raise argparse.ArgumentTypeError(f"{text!r}, expected an actor of 1..24")
    return int(text)


def _refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
