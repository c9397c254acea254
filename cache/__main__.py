"""Inspect, verify and share caches."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from cache.command import add_only, fail, positive, printable, run
from cache.diff import differences
from cache.inspect import choose, contact_sheet
from cache.manifest import FAILURES_NAME, MANIFEST_NAME
from cache.ravdess import EMOTIONS, expected_clips, is_recordings
from cache.reader import Cache
from cache.schema import POINT_COUNT
from cache.shard import CacheError
from cache.share import fetch, pack


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run(lambda: args.work(args), extras="share")


def _info(args: argparse.Namespace) -> int:
    cache = Cache(args.directory)
    manifest = cache.manifest
    print(f"dataset      {manifest['dataset']} ({manifest['license']})")
    print(f"clips        {len(cache.clips)} in {len(manifest['shards'])} shards")
    print(f"bytes        {sum(shard['bytes'] for shard in manifest['shards']):,}")
    print(f"fingerprint  {manifest['fingerprint']}")
    if points := manifest["config"].get("landmarks"):
        print(f"landmarks    {POINT_COUNT} points a frame, from {points['source']}")
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
    if is_recordings(manifest["dataset"]):
        missing = len(expected_clips()) - len(cache.clips)
        print(f"{missing} clips of RAVDESS are missing")
    if (listed := args.directory / FAILURES_NAME).exists():
        failures = json.loads(listed.read_text(encoding="utf-8"))
        print(f"{len(failures)} files failed, listed in {listed}")
        for name, reason in sorted(failures.items())[:20]:
            print(f"  {printable(name)}: {printable(reason)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    try:
        cache = Cache(args.directory)
    except CacheError as exc:  # a damaged manifest is what this command looks for
        return fail(exc, 1 if (args.directory / MANIFEST_NAME).exists() else 2)
    shards = len(cache.manifest["shards"])
    checks = tqdm(cache.problems(), "verify", shards, unit="shard")
    problems = [problem for problem in checks if problem]
    for problem in problems:
        fail(problem, 1)
    print(f"{shards} shards checked, {len(problems)} problems")
    return 1 if problems else 0


def _inspect(args: argparse.Namespace) -> int:
    cache = Cache(args.directory)
    if args.out.is_dir():
        raise ValueError(f"--out is the folder {args.out}, expected a file such as sheet.png")
    clips = choose(cache.clips, args.clips)
    contact_sheet(cache, clips, args.out)
    print(f"{len(clips)} of {len(cache.clips)} clips in {args.out}")
    return 0


def _diff(args: argparse.Namespace) -> int:
    lines = list(differences(Cache(args.directory), Cache(args.other)))
    print("\n".join(lines) or "no difference: the same settings, versions, clips and arrays")
    return 1 if lines else 0


def _pack(args: argparse.Namespace) -> int:
    as_jpeg = args.codec and args.codec == "jpeg"
    for folder in pack(args.directory, args.out, as_jpeg=as_jpeg, parts=args.parts):
        total = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {total:,} bytes, ready to upload")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    done, failures = fetch(args.address, args.directory, actors=args.only, jobs=args.jobs)
    kept = list(done.values()).count("kept")
    print(f"{len(done) - kept} shards fetched, {kept} already there, {len(failures)} failed")
    for name, reason in sorted(failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if (args.directory / MANIFEST_NAME).exists():
        manifest = Cache(args.directory).manifest
        print(f"{args.directory}: {len(manifest['clips'])} clips, license {manifest['license']}")
        print(f"Cite: {manifest['citation']}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, work: Callable, does: str, *paths: str) -> argparse.ArgumentParser:
        """Add a command; each of `paths` is `attribute METAVAR meaning`."""
        added = commands.add_parser(name, help=does, description=does)
        added.set_defaults(work=work)
        for attribute, metavar, meaning in (path.split(maxsplit=2) for path in paths):
            added.add_argument(attribute, type=Path, metavar=metavar, help=meaning)
        return added

    cache = "directory DIR the cache"
    command("info", _info, "show what a cache contains", cache)
    command("verify", _verify, "check a cache against its manifest", cache)
    inspect = command("inspect", _inspect, "save a contact sheet of face crops as PNG", cache)
    out, sheet = "the file to write (default: contact_sheet.png)", Path("contact_sheet.png")
    inspect.add_argument("--out", type=Path, default=sheet, metavar="PNG", help=out)
    clips = "number of clips, spread over actors and emotions (default: 24)"
    inspect.add_argument("--clips", type=positive, default=24, metavar="N", help=clips)
    does = "show where two caches differ, and by how much"
    command("diff", _diff, does, "directory A a cache", "other B another cache")
    does = "package a cache for upload"
    packing = command("pack", _pack, does, cache, "out OUT the folder to write")
    codec = "jpeg: a sixth of the cache's size, slightly lossy (default: frames as they are)"
    packing.add_argument("--codec", choices=("raw", "jpeg"), help=codec)
    parts = "split the actors into N folders, OUT/part_1 .. (default: 1, no split)"
    packing.add_argument("--parts", type=positive, default=1, metavar="N", help=parts)
    fetching = command("fetch", _fetch, "download a published cache")
    add = fetching.add_argument
    add("address", metavar="URL", help="URL or path of the published folder")
    add("directory", type=Path, metavar="DIR", help="destination folder")
    add_only(fetching)
    jobs = "number of simultaneous downloads, 1..16 (default: 4)"
    add("--jobs", type=int, choices=range(1, 17), default=4, metavar="N", help=jobs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
