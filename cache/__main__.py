"""`python -m cache info|verify|inspect DIR`: what a cache holds, and whether it is sound."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from cache.clips import EMOTIONS
from cache.inspect import contact_sheet
from cache.reader import Cache
from cache.shard import CacheError
from cache.verify import problems_of


def info(cache: Cache) -> None:
    """Print a short table: origin, settings, versions, clips by actor and emotion, notes."""
    manifest = cache.manifest
    total = sum(shard["bytes"] for shard in manifest["shards"])
    print(f"dataset      {manifest['dataset']} ({manifest['license']})")
    print(f"clips        {len(cache.clips)} in {len(manifest['shards'])} shards")
    print(f"bytes        {total:,}")
    print(f"fingerprint  {manifest['fingerprint']}")
    print(f"versions     {', '.join(f'{name} {v}' for name, v in manifest['versions'].items())}")
    print("\nactor  " + " ".join(f"{name:>9}" for name in EMOTIONS) + "     all")
    counts = Counter((clip.actor, clip.label) for clip in cache.clips)
    for actor in sorted({clip.actor for clip in cache.clips}):
        row = [counts[actor, label] for label in range(len(EMOTIONS))]
        print(f"{actor:5}  " + " ".join(f"{count:9}" for count in row) + f"  {sum(row):6}")
    noted = {name: clip["notes"] for name, clip in manifest["clips"].items() if clip["notes"]}
    print(f"\n{len(noted)} clips with notes")
    for name, notes in noted.items():
        print(f"  {name}: {'; '.join(notes)}")


def verify(cache: Cache) -> int:
    """Check every shard; print what is wrong."""
    checks = problems_of(cache.directory, cache.manifest)
    shards = len(cache.manifest["shards"])
    problems = [problem for problem in tqdm(checks, "verify", shards, unit="shard") if problem]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{shards} shards checked, {len(problems)} problems")
    return 1 if problems else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what is in it").add_argument("directory", type=Path)
    commands.add_parser("verify", help="is it sound?").add_argument("directory", type=Path)
    looking = commands.add_parser("inspect", help="a contact sheet of its faces, as PNG")
    looking.add_argument("directory", type=Path)
    looking.add_argument("--out", type=Path, default=Path("contact_sheet.png"))
    looking.add_argument("--clips", type=int, default=24, metavar="N", help="evenly spread")
    args = parser.parse_args(argv)
    try:
        cache = Cache(args.directory)
        if args.command == "info":
            info(cache)
        elif args.command == "verify":
            return verify(cache)
        else:
            if args.clips < 1:
                raise ValueError(f"--clips is {args.clips}, expected 1 or more")
            by_actor = sorted(cache.clips, key=lambda clip: (clip.actor, clip))
            clips = by_actor[:: max(1, len(by_actor) // args.clips)][: args.clips]
            contact_sheet(cache, clips, args.out)
            print(f"{len(clips)} of {len(cache.clips)} clips in {args.out}")
    except (CacheError, ValueError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
