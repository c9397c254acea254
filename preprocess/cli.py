"""The command line of the features: raw RAVDESS clips to HDF5 shards."""

import argparse
import sys
import time
from pathlib import Path

from joblib import cpu_count

from cache.arguments import add_only, positive
from cache.files import BusyError, locked
from cache.ravdess import expected_clips, is_recordings
from cache.shard import CacheError
from preprocess.dataset import find_clips, origin
from preprocess.pipeline import build, update_failures
from preprocess.settings import Settings
from preprocess.workers import LostWorkersError


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if (args.faces == "landmarks") != (args.landmarks is not None):
        return _refuse("--faces landmarks and --landmarks DIR go together")
    if (args.backend == "dask") != (args.scheduler is not None):
        return _refuse("--backend dask and --scheduler ADDRESS go together")
    settings = Settings(
        modality=args.modality, faces=args.faces, audio=args.audio, waveform=args.waveform
    )
    try:
        landmarks = args.landmarks and args.landmarks.resolve()
        found = find_clips(args.raw.resolve(), settings, landmarks)
        raw_origin = origin(args.raw, args.modality)
    except (OSError, ValueError) as exc:
        return _refuse(str(exc))
    for line in found.warnings[:10]:
        print(f"warning: {line}", file=sys.stderr)
    if len(found.warnings) > 10:
        print(f"warning: and {len(found.warnings) - 10} more such files", file=sys.stderr)
    for kind, count in sorted(found.left_out.items()):
        held = "full-AV" if args.modality == "av" else "audio-only"
        files = "file" if count == 1 else "files"
        print(f"{count} {kind} {files} left out: this cache holds {held} speech")
    sources = [source for source in found.sources if source.clip.actor in args.only]
    if not sources and not found.failures:
        return _refuse(
            f"{args.raw}: no clip of the wanted actors, expected "
            f"{'01-01-*.mp4' if args.modality == 'av' else '03-01-*.wav or .flac'} in Actor_NN "
            "folders or RAVDESS's zips"
        )
    started = time.monotonic()
    try:
        aside = {source.name for source in found.sources} - {source.name for source in sources}
        with locked(args.cache):
            outcome = build(
                sources,
                args.cache.resolve(),  # workers elsewhere have other working folders
                origin=raw_origin,
                settings=settings,
                jobs=args.jobs,
                scheduler=args.scheduler,
            )
            failures = update_failures(args.cache, found.failures | outcome.failures, aside)
    except (CacheError, BusyError) as exc:
        return _refuse(str(exc))
    except LostWorkersError as exc:
        print(f"error: {exc}. What is done is kept: run again to go on", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"error: {args.cache}: cannot be written ({exc})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is done is kept, run again to go on", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    expected = len(args.only) * len(expected_clips(1))
    if outcome.made:
        print(
            f"{outcome.made} clips made in {seconds:.0f} s ({outcome.made / seconds:.1f} a "
            f"second), {len(failures)} failed; {outcome.total} clips in {args.cache}"
        )
    elif outcome.total:
        print(f"nothing to do: {outcome.total} clips in {args.cache} already")
    else:
        print(f"no clip could be made, so {args.cache} holds none")
    if outcome.total < expected and is_recordings(raw_origin["dataset"]):
        print(f"note: RAVDESS has {expected} clips of the {len(args.only)} actors asked for")
    for names in outcome.twins[:10]:
        print(f"note: the same bytes under different names: {', '.join(names)}")
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
        type=positive,
        default=cpu_count(),
        metavar="N",
        help="worker processes, about 0.6 GB of memory each (default: one a CPU)",
    )
    add_only(parser)
    parser.add_argument(
        "--modality",
        choices=("av", "audio"),
        default="av",
        help="audio: a cache of the recordings 03-01-* alone, without frames",
    )
    parser.add_argument(
        "--faces", choices=("mtcnn", "landmarks"), default="mtcnn", help="who finds the face"
    )
    parser.add_argument(
        "--landmarks", type=Path, metavar="DIR", help="OpenFace CSVs or their zip, for --faces"
    )
    parser.add_argument(
        "--audio",
        choices=("mp4", "wav"),
        default="mp4",
        help="wav: the sound of the recording 03-01-* that lies in --raw beside the clip",
    )
    parser.add_argument(
        "--waveform", action="store_true", help="keep the samples beside their MFCCs"
    )
    parser.add_argument(
        "--backend",
        choices=("loky", "dask"),
        default="loky",
        help="who works: processes of this machine, or a dask cluster",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the dask cluster, for example tcp://host:8786"
    )
    return parser


def _refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2
