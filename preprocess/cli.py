"""Extract features from raw RAVDESS clips into a cache of HDF5 shards."""

import argparse
import sys
import time
from pathlib import Path

from joblib import cpu_count

from cache.command import FailedError, add_only, positive, run, warn
from cache.files import locked
from cache.ravdess import expected_clips, is_recordings
from preprocess.dataset import find_clips, origin
from preprocess.pipeline import Outcome, build
from preprocess.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _features(args), extras="features")


def _features(args: argparse.Namespace) -> int:
    if (args.faces == "landmarks") != (args.landmarks is not None):
        raise ValueError("--faces landmarks and --landmarks DIR require each other")
    if (args.backend == "dask") != (args.scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS require each other")
    settings = Settings(args.modality, args.faces, args.audio, args.waveform)
    # Absolute paths, because the workers of a cluster run in other folders.
    raw, cache = args.raw.resolve(), args.cache.resolve()
    found = find_clips(raw, settings, args.landmarks and args.landmarks.resolve())
    for line in found.warnings[:10]:
        warn(line)
    if len(found.warnings) > 10:
        warn(f"and {len(found.warnings) - 10} more such files")
    if found.skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.skipped.items()))
        kept = "full-AV" if args.modality == "av" else "audio-only"
        print(f"files skipped, because this cache is of {kept} speech: {kinds}")
    if not found.failures and not any(s.clip.actor in args.only for s in found.sources):
        expected = "01-01-*.mp4" if args.modality == "av" else "03-01-*.wav or .flac"
        raise ValueError(
            f"{args.raw} has no clip of the selected actors, expected {expected} in Actor_NN "
            "folders or RAVDESS's zips"
        )
    started = time.monotonic()
    clips = origin(raw, args.modality)
    try:
        with locked(cache):
            outcome = build(
                found,
                cache,
                only=args.only,
                origin=clips,
                settings=settings,
                jobs=args.jobs,
                scheduler=args.scheduler,
            )
    except OSError as exc:
        raise FailedError(f"{args.cache} cannot be written ({exc})") from exc
    _report(outcome, args, time.monotonic() - started, is_recordings(clips["dataset"]))
    return 1 if outcome.failures else 0


def _report(outcome: Outcome, args: argparse.Namespace, seconds: float, from_ravdess: bool) -> None:
    if outcome.made:
        print(
            f"{outcome.made} clips processed in {seconds:.0f} s ({outcome.made / seconds:.1f} per "
            f"second), {len(outcome.failures)} failed; {args.cache} has {outcome.total} clips"
        )
    elif outcome.total:
        print(f"nothing to do: {args.cache} already has {outcome.total} clips")
    else:
        print(f"no clip could be processed, so {args.cache} has none")
    expected = len(args.only) * len(expected_clips(1))
    if outcome.total < expected and from_ravdess:
        print(f"note: RAVDESS has {expected} clips of the {len(args.only)} selected actors")
    for names in outcome.duplicates[:10]:
        print(f"note: the same bytes under different names: {', '.join(names)}")
    for name, reason in sorted(outcome.failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preprocess", description=__doc__)
    add = parser.add_argument
    add("--raw", type=Path, required=True, metavar="DIR", help="Actor_NN folders, or Zenodo's zips")
    add("--cache", type=Path, required=True, metavar="DIR", help="folder for shards and manifest")
    jobs = "worker processes, about 0.6 GB of memory each (default: one per CPU)"
    add("--jobs", type=positive, default=cpu_count(), metavar="N", help=jobs)
    add_only(parser)
    add(
        "--modality",
        choices=("av", "audio"),
        default="av",
        help="audio: use only the audio recordings 03-01-* (default: %(default)s)",
    )
    add(
        "--faces",
        choices=("mtcnn", "landmarks"),
        default="mtcnn",
        help="face detector: MTCNN, or published landmarks (default: %(default)s)",
    )
    add("--landmarks", type=Path, metavar="DIR", help="OpenFace CSVs or their zip, for --faces")
    add(
        "--audio",
        choices=("mp4", "wav"),
        default="mp4",
        help="sound of the video, or of its recording 03-01-* in --raw (default: %(default)s)",
    )
    add("--waveform", action="store_true", help="also store the samples, as erann requires")
    add(
        "--backend",
        choices=("loky", "dask"),
        default="loky",
        help="where to run: local processes, or a dask cluster (default: %(default)s)",
    )
    add("--scheduler", metavar="ADDRESS", help="dask scheduler, for example tcp://host:8786")
    return parser
