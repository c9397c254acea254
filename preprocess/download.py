"""`python -m preprocess.download --out DIR`: fetch RAVDESS from Zenodo, verify it, unpack it."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cache.arguments import add_only
from cache.ravdess import FULL_AV_ORIGIN
from cache.transfer import DownloadError, Outcome, fetch_all
from preprocess.unpack import unpack
from preprocess.zenodo import ADDRESS, AUDIO, LANDMARKS, VIDEO, ZenodoFile


def run(
    files: Sequence[ZenodoFile],
    folder: Path,
    *,
    unpacked: bool,
    jobs: int,
    address: str = ADDRESS,
    pause_s: float = 1.0,
) -> int:
    """Download `files` into `folder`, unpack them if asked, tell how it went; the exit status."""
    if folder.exists() and not folder.is_dir():
        print(f"error: {folder} is a file, expected a folder", file=sys.stderr)
        return 2
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        print(f"error: {folder}: cannot be made ({exc})", file=sys.stderr)
        return 1
    to_come = sum(file.bytes for file in files if not (folder / file.name).exists())
    free = shutil.disk_usage(folder).free
    if to_come > free:
        print(
            f"warning: {to_come / 1e9:.1f} GB may be downloaded, {free / 1e9:.1f} GB are free "
            f"in {folder}",
            file=sys.stderr,
        )
    remote = [file.remote(address) for file in files]
    try:
        outcome = fetch_all(remote, folder, jobs=jobs, pause_s=pause_s)
        _tell(outcome)
        if unpacked:
            whole = [file for file in files if file.name not in outcome.failures]
            outcome.failures |= _unpack_all(whole, folder)
    except KeyboardInterrupt:
        print("interrupted: what is there is kept, run again to go on", file=sys.stderr)
        return 1
    for name, reason in sorted(outcome.failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if outcome.failures else 0


def _tell(outcome: Outcome) -> None:
    if outcome.downloaded:
        print(
            f"{len(outcome.downloaded)} files downloaded, {len(outcome.there)} there already. "
            f"RAVDESS is under {FULL_AV_ORIGIN['license']}"
        )
    elif not outcome.failures:
        print(f"{len(outcome.there)} files there already, nothing to download")
    for name in outcome.replaced:
        print(f"{name} was there with another MD5: replaced")


def _unpack_all(files: Sequence[ZenodoFile], folder: Path) -> dict[str, str]:
    """Unpack each file below `folder`; name to reason of those that could not be."""
    written = there = 0
    failures = {}
    for file in tqdm(files, desc="unpack", unit="zip"):
        try:
            new, old = unpack(
                folder / file.name,
                folder / file.folder,
                members=file.members,
                most_bytes=file.growth * file.bytes,
            )
        except DownloadError as exc:
            failures[file.name] = str(exc)
        except OSError as exc:
            failures[file.name] = f"cannot be unpacked ({exc})"
        else:
            written, there = written + new, there + old
    if written:
        print(f"{written} recordings unpacked, {there} there already")
    elif not failures:
        print(f"{there} recordings there already, nothing to unpack")
    return failures


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.no_video and not (args.audio or args.landmarks):
        print("error: --no-video without --audio or --landmarks leaves nothing", file=sys.stderr)
        return 2
    files = [] if args.no_video else [VIDEO[actor] for actor in sorted(set(args.only))]
    files += [AUDIO] * args.audio + [LANDMARKS] * args.landmarks
    return run(files, args.out, unpacked=args.unpack, jobs=args.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preprocess.download", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where files go")
    parser.add_argument("--audio", action="store_true", help="also the recordings as WAV (0.2 GB)")
    parser.add_argument(
        "--landmarks", action="store_true", help="also the tracked faces, as CSV (0.4 GB)"
    )
    add_only(parser, "videos of these actors, 1..24 (default: all, 13.4 GB)")
    parser.add_argument("--no-video", action="store_true", help="leave the videos out")
    parser.add_argument(
        "--unpack",
        action="store_true",
        help="unpack the zips as well; `python -m preprocess` also reads them as they are",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 9),
        default=2,
        metavar="N",
        help="downloads side by side, 1..8 (default: 2)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
