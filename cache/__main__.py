"""`python -m cache info|verify|inspect|diff|pack|fetch`: look at caches, check and share them."""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from cache.arguments import add_only, positive
from cache.diff import compare
from cache.extras import lack
from cache.inspect import choose, contact_sheet
from cache.manifest import MANIFEST_NAME
from cache.pack import pack
from cache.ravdess import EMOTIONS
from cache.reader import Cache
from cache.shard import CacheError
from cache.transfer import DownloadError
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


def verify(cache: Cache, *, quick: bool) -> int:
    """Check every shard; print what is wrong."""
    checks = problems_of(cache.directory, cache.manifest, quick=quick)
    shards = len(cache.manifest["shards"])
    problems = [problem for problem in tqdm(checks, "verify", shards, unit="shard") if problem]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    alone = " for sizes and structure alone" if quick else ""
    print(f"{shards} shards checked{alone}, {len(problems)} problems")
    return 1 if problems else 0


def inspect(cache: Cache, out: Path, count: int) -> int:
    """Write a contact sheet."""
    clips = choose(cache.clips, count)
    contact_sheet(cache, clips, out)
    print(f"{len(clips)} of {len(cache.clips)} clips in {out}")
    return 0


def pack_it(directory: Path, out: Path, codec: str | None, parts: int) -> int:
    """Pack a cache; say where it is."""
    for folder in pack(directory, out, as_jpeg=codec and codec == "jpeg", parts=parts):
        total = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {total:,} bytes, ready to be uploaded as it is")
    return 0


def fetch_it(address: str, directory: Path, actors: list[int], jobs: int) -> int:
    """Fetch a cache; tell how it went."""
    from cache.fetch import fetch

    outcome = fetch(address, directory, actors=actors, jobs=jobs)
    print(
        f"{len(outcome.downloaded)} shards fetched, {len(outcome.there)} there already, "
        f"{len(outcome.failures)} failed"
    )
    for name, reason in sorted(outcome.failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if (directory / MANIFEST_NAME).exists():
        manifest = Cache(directory).manifest
        print(f"{directory}: {len(manifest['clips'])} clips, under {manifest['license']}")
        print(f"Cite: {manifest['citation']}")
    return 1 if outcome.failures else 0


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        status = _run(args)
        sys.stdout.flush()
        return status
    except (CacheError, ValueError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, DownloadError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as exc:
        print(lack(exc, "share"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what is done is kept, run again to go on", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    if args.command == "fetch":
        return fetch_it(args.address, args.directory, args.only, args.jobs)
    if args.command == "diff":
        return compare(args.directory, args.other)
    if args.command == "pack":
        return pack_it(args.directory, args.out, args.codec, args.parts)
    try:
        cache = Cache(args.directory)
    except CacheError as exc:
        if args.command != "verify" or not (args.directory / MANIFEST_NAME).exists():
            raise
        print(f"error: {exc}", file=sys.stderr)
        return 1
    if args.command == "info":
        info(cache)
        return 0
    if args.command == "verify":
        return verify(cache, quick=args.quick)
    return inspect(cache, args.out, args.clips)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=does)

    def directory(to: argparse.ArgumentParser, name: str, does: str, dest: str) -> None:
        to.add_argument(dest, type=Path, metavar=name, help=does)

    info = command("info", "what is in it")
    directory(info, "DIR", "the cache", "directory")
    verify = command("verify", "is it what its manifest says?")
    directory(verify, "DIR", "the cache", "directory")
    verify.add_argument(
        "--quick",
        action="store_true",
        help="sizes and structure only: a changed byte of a frame goes unseen",
    )
    inspect = command("inspect", "a contact sheet of its faces, as PNG")
    directory(inspect, "DIR", "the cache", "directory")
    inspect.add_argument(
        "--out",
        type=_png,
        default=Path("contact_sheet.png"),
        metavar="PNG",
        help="the file to write (default: contact_sheet.png)",
    )
    inspect.add_argument(
        "--clips",
        type=positive,
        default=24,
        metavar="N",
        help="how many, of all actors and emotions in turn (default: 24)",
    )
    diff = command("diff", "where two caches differ, and by how much")
    directory(diff, "A", "a cache", "directory")
    directory(diff, "B", "another", "other")
    pack = command("pack", "a folder that can be uploaded as it is")
    directory(pack, "DIR", "the cache", "directory")
    directory(pack, "OUT", "the folder to write", "out")
    pack.add_argument(
        "--codec",
        choices=("raw", "jpeg"),
        help="jpeg: frames as JPEG, an eighth of the bytes, a little lossy (default: as they are)",
    )
    pack.add_argument(
        "--parts",
        type=positive,
        default=1,
        metavar="N",
        help="share the actors among OUT/part_1 .. OUT/part_N",
    )
    fetch = command("fetch", "a published cache, from a web server or a folder")
    fetch.add_argument("address", metavar="URL", help="of the folder, or its path")
    directory(fetch, "DIR", "where the cache goes", "directory")
    add_only(fetch)
    fetch.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 17),
        default=4,
        metavar="N",
        help="downloads side by side, 1..16 (default: 4)",
    )
    return parser


def _png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a name that ends in .png")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
