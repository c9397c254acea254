"""`python -m cache info|verify|inspect DIR`: what a cache holds, and whether it is sound."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from cache.clips import EMOTIONS
from cache.inspect import choose, contact_sheet
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
    print(f"settings     {json.dumps(manifest['config'])}")
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
    for name, does in (
        ("info", "what is in it"),
        ("verify", "is it what its manifest says?"),
        ("inspect", "a contact sheet of its faces, as PNG"),
    ):
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("directory", type=Path, metavar="DIR", help="the cache")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("contact_sheet.png"),
        metavar="PNG",
        help="the file to write (default: contact_sheet.png)",
    )
    command.add_argument(
        "--clips",
        type=int,
        default=24,
        metavar="N",
        help="how many, of all actors and emotions in turn (default: 24)",
    )
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
            clips = choose(cache.clips, args.clips)
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
