"""Download RAVDESS from Zenodo and verify it: `python -m preprocess.download --out DIR`.

The zips stay packed: `python -m preprocess` reads them as they are.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cache.command import add_only, run
from cache.ravdess import FULL_AV_ORIGIN
from cache.transfer import RemoteFile, download_all

RAVDESS_RECORD, LANDMARKS_RECORD = 1188976, 3255102


def _at_zenodo(record: int, name: str, size: int, md5: str) -> RemoteFile:
    address = f"https://zenodo.org/records/{record}/files/{name}?download=1"
    return RemoteFile(name, address, size, f"md5:{md5}")


# Actor: bytes, MD5. 60 clips with sound (01-01-*) and the same 60 without (02-01-*) in each.
_VIDEO = {
    1: (552_968_353, "3c8ececaf392b4a9b11b32271f4f6d01"),
    2: (570_673_024, "a6f40d413b2e6ef25b3a595099e59abb"),
    3: (567_824_665, "68fa240ddd8a3cc410c64efe5fb2b0e4"),
    4: (546_560_009, "013eed832af1f7e97082aae398a00dbe"),
    5: (562_966_425, "b00e17d61374ef6ba86fef35d50a20fb"),
    6: (568_517_859, "3c42877921cc08cfb5c841a0f2cb94a7"),
    7: (565_652_404, "bdd29bfe082f80361ec6b589845c283d"),
    8: (562_573_079, "bed5f43d9c18e177e34d4bc1ed9b6d77"),
    9: (523_489_249, "775da349c50bf915a1bbcb37379bd092"),
    10: (565_580_163, "70199d1c6902f76e17df308d5c41fa01"),
    11: (518_634_370, "824504aa41a8fd575e5459d5701dd378"),
    12: (557_928_718, "2a1f0ddc0ca207beedee6ce2ea863ad7"),
    13: (501_877_549, "c5f2fd4fd77941636947620368c612b5"),
    14: (552_484_059, "466d31f4cce92a14b1f4ee884bbdf7d7"),
    15: (525_205_576, "4b3b9bc8473e86f884630f2506684887"),
    16: (562_416_513, "a63c54570ebbe6bd616d0dced5630f7e"),
    17: (551_688_845, "8b7ae3e5a85d2874ac8e1195e722e047"),
    18: (565_655_520, "fef2131ac361da182c0cb85f3d8e8a6c"),
    19: (581_121_687, "abb97d97d8c4e88c866cee1cea9d06d6"),
    20: (561_349_264, "5ddfb22770093bafebdefe8faa449f48"),
    21: (590_292_896, "d810cf2ff6863ef91306fc7a16d74fbb"),
    22: (560_907_466, "fee55f72c9871401f23d4b167de3217d"),
    23: (545_177_865, "b31e8c8904e66102e7a951694db752d6"),
    24: (595_799_165, "eef90e806c9179bc5b4b098d03647ae3"),
}
VIDEO = {
    actor: _at_zenodo(RAVDESS_RECORD, f"Video_Speech_Actor_{actor:02d}.zip", *size_and_md5)
    for actor, size_and_md5 in _VIDEO.items()
}
_RECORDINGS = ("Audio_Speech_Actors_01-24.zip", 208_468_073, "bc696df654c87fed845eb13823edef8a")
AUDIO = _at_zenodo(RAVDESS_RECORD, *_RECORDINGS)
_TRACKING = ("FacialTracking_Actors_01-24.zip", 417_163_019, "5753bbc64a9a790f8a8d3e03cba526ee")
LANDMARKS = _at_zenodo(LANDMARKS_RECORD, *_TRACKING)

# How the files in an archive are named.
_LOOSE = {AUDIO.name: "03-01-*.[wf]*", LANDMARKS.name: "01-01-*.csv"}


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
    files = [] if args.no_video else [VIDEO[actor] for actor in sorted(set(args.only))]
    files += [AUDIO] * args.audio + [LANDMARKS] * args.landmarks
    if not files:
        parser.error("--no-video without --audio or --landmarks leaves nothing to download")
    for file in [file for file in files if args.missing and file.name in _LOOSE]:
        if count := len(list(args.out.rglob(_LOOSE[file.name]))):
            print(f"{args.out} has {count} files {_LOOSE[file.name]}: {file.name} is not needed")
            files.remove(file)
    if not files:
        return 0
    return run(lambda: download(files, args.out, jobs=args.jobs), extras="features")


if __name__ == "__main__":
    sys.exit(main())
