"""Download RAVDESS from Zenodo and verify it: `python -m preprocess.download --out DIR`.

The zips stay packed: `python -m preprocess` reads them as they are.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cache.command import add_only, run
from cache.ravdess import FULL_AV_ORIGIN
from cache.transfer import RemoteFile, download_all

AUDIO, LANDMARKS = "Audio_Speech_Actors_01-24.zip", "FacialTracking_Actors_01-24.zip"

# How the files in an archive are named.
_LOOSE = {AUDIO: "03-01-*.[wf]*", LANDMARKS: "01-01-*.csv"}


def video_name(actor: int) -> str:
    """The zip of an actor's 60 clips with sound (01-01-*) and the same without (02-01-*)."""
    return f"Video_Speech_Actor_{actor:02d}.zip"


def zenodo_files() -> dict[str, RemoteFile]:
    """The files of RAVDESS at Zenodo by name, as listed in `zenodo.csv`."""
    files = {}
    with Path(__file__).with_name("zenodo.csv").open(encoding="ascii", newline="") as opened:
        for record, name, size, md5 in list(csv.reader(opened))[1:]:
            address = f"https://zenodo.org/records/{record}/files/{name}?download=1"
            files[name] = RemoteFile(name, address, int(size), f"md5:{md5}")
    return files


def download(files: Sequence[RemoteFile], folder: Path, *, jobs: int) -> int:
    """Download `files` into `folder`, print what happened; returns the exit status."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    done, failures = download_all(files, folder, jobs=jobs)
    kept = list(done.values()).count("kept")
    if len(done) > kept:
        terms = f"RAVDESS is under {FULL_AV_ORIGIN['license']}"
        print(f"{len(done) - kept} files downloaded, {kept} already there. {terms}")
    elif not failures:
        print(f"{kept} files already there, nothing to download")
    for name, state in sorted(done.items()):
        if state == "replaced":
            print(f"{name} had the wrong MD5 and was replaced")
    for name, reason in sorted(failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.download",
        description="Download RAVDESS from Zenodo and verify it; interrupted downloads resume.",
    )
    add, flag = parser.add_argument, partial(parser.add_argument, action="store_true")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to download into")
    flag("--audio", help="also download the recordings as WAV (0.2 GB)")
    flag("--landmarks", help="also download the landmarks as CSV (0.4 GB)")
    add_only(parser)
    flag("--no-video", help="skip the videos (12.4 GiB)")
    flag("--missing", help="skip recordings or landmarks that DIR has as loose files anywhere")
    jobs = "number of simultaneous downloads, 1..8 (default: 2)"
    add("--jobs", type=int, choices=range(1, 9), default=2, metavar="N", help=jobs)
    args = parser.parse_args(argv)
    names = [] if args.no_video else [video_name(actor) for actor in sorted(set(args.only))]
    names += [AUDIO] * args.audio + [LANDMARKS] * args.landmarks
    if not names:
        parser.error("--no-video without --audio or --landmarks leaves nothing to download")
    for name in [name for name in names if args.missing and name in _LOOSE]:
        if count := len(list(args.out.rglob(_LOOSE[name]))):
            print(f"{args.out} has {count} files {_LOOSE[name]}: {name} is not needed")
            names.remove(name)
    if not names:
        return 0
    files = [zenodo_files()[name] for name in names]
    return run(lambda: download(files, args.out, jobs=args.jobs), extras="features")


if __name__ == "__main__":
    sys.exit(main())
