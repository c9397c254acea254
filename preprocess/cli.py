"""Extract features from raw RAVDESS clips into a cache of HDF5 shards."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

from joblib import cpu_count

from cache.command import FailedError, add_only, positive, run, warn
from cache.files import locked
from cache.manifest import FAILURES_NAME
from cache.ravdess import Clip, expected_clips, is_recordings
from preprocess.dataset import concerns, find_clips, has_videos, origin
from preprocess.pipeline import Outcome, build
from preprocess.settings import Settings

_SHOWN = 20  # the number of failures that are printed


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _features(args), extras="features,landmarks")


def _features(args: argparse.Namespace) -> int:
    if args.faces == "landmarks" and args.landmarks in (None, "dlib"):
        raise ValueError("--faces landmarks requires --landmarks DIR")
    if args.modality == "landmarks" and args.landmarks is None:
        raise ValueError("--modality landmarks requires --landmarks DIR or --landmarks dlib")
    if args.modality == "audio" and args.landmarks is not None:
        raise ValueError("--modality audio has no faces, so no --landmarks")
    if (args.backend == "dask") != (args.scheduler is not None):
        raise ValueError("--backend dask and --scheduler ADDRESS require each other")
    # Absolute paths, because the workers of a cluster run in other folders.
    raw, cache = args.raw.resolve(), args.cache.resolve()
    settings = _settings(args, raw)
    tables = Path(args.landmarks).resolve() if settings.has_tables else None
    found = find_clips(raw, settings, tables)
    more = [f"and {len(found.warnings) - 10} more such files"] * (len(found.warnings) > 10)
    for line in [*found.warnings[:10], *more]:
        warn(line)
    if found.skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.skipped.items()))
        kept = "full-AV" if settings.has_video else "audio-only"
        print(f"files skipped, because this cache is of {kept} speech: {kinds}")
    names = [*(source.name for source in found.sources), *found.failures]
    if not any(concerns(name, args.only) for name in names):
        expected = "01-01-*.mp4" if settings.has_video else "03-01-*.wav or .flac"
        has_recordings = settings.has_video and found.skipped["audio-only"]
        advice = ". For its recordings use --modality audio" if has_recordings else ""
        raise ValueError(
            f"{args.raw} has no clip of the selected actors, expected {expected} in Actor_NN "
            f"folders or RAVDESS's zips{advice}"
        )
    started = time.monotonic()
    clips = origin(raw, args.modality)
    what = {"only": args.only, "origin": clips, "settings": settings}
    try:
        with locked(cache):
            outcome = build(found, cache, **what, jobs=args.jobs, scheduler=args.scheduler)
    except OSError as exc:
        raise FailedError(f"{args.cache} cannot be written ({exc})") from exc
    _report(outcome, args, time.monotonic() - started, is_recordings(clips["dataset"]))
    return 1 if outcome.failures else 0


def _settings(args: argparse.Namespace, raw: Path) -> Settings:
    """The settings of the cache that the command line asks for."""
    points = "dlib" if args.landmarks == "dlib" else args.landmarks and "csv"
    settings = Settings(args.modality, args.faces, args.audio, args.waveform, points)
    if (args.modality, points) == ("landmarks", "csv"):
        # Without pixels no face is searched, and without a video the sound is that of recordings.
        audio = args.audio if has_videos(raw) else "wav"
        settings = replace(settings, faces="landmarks", audio=audio)
    return settings


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
        actors = sorted({Clip.parse(PurePosixPath(name).stem).actor for name in names})
        same = f"the same bytes under different names: {', '.join(names)}"
        if len(actors) > 1:
            warn(f"{same}. One of the actors {actors} has another actor's file: replace it")
        else:
            print(f"note: {same}")
    for names in outcome.same_landmarks[:10]:
        print(f"note: the same landmarks in different clips: {', '.join(names)}")
    if outcome.kept:
        print(
            f"note: {len(outcome.kept)} clips of {args.cache} are not in {args.raw}, such as "
            f"{outcome.kept[0]}. They stay; to leave them out, build another cache"
        )
    if outcome.excluded_failures:
        listed = args.cache / FAILURES_NAME
        print(f"note: failures of other actors, in {listed}: {outcome.excluded_failures}")
    for name, reason in sorted(outcome.failures.items())[:_SHOWN]:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if (more := len(outcome.failures) - _SHOWN) > 0:
        print(f"failed: {more} more, listed in {args.cache / FAILURES_NAME}", file=sys.stderr)
    for what, option in (("recording", "--audio"), ("landmarks", "--landmarks")):
        if count := sum(why.startswith(f"no {what}") for why in outcome.failures.values()):
            download = f"python -m preprocess.download --out DIR {option} --no-video"
            print(f"note: {count} clips have no {what}. Download: {download}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preprocess", description=__doc__)
    add = parser.add_argument
    add("--raw", type=Path, required=True, metavar="DIR", help="Actor_NN folders, or Zenodo's zips")
    add("--cache", type=Path, required=True, metavar="DIR", help="folder for shards and manifest")
    jobs = "worker processes, about 0.6 GB of memory each (default: one per CPU)"
    add("--jobs", type=positive, default=cpu_count(), metavar="N", help=jobs)
    add_only(parser)
    kind = "audio: only the recordings 03-01-*; landmarks: no pixels, but facial points and sound "
    kind += "of videos, or of recordings with CSVs (default: av)"
    add("--modality", choices=("av", "audio", "landmarks"), default="av", help=kind)
    faces = "face detector: MTCNN, or published landmarks (default: mtcnn)"
    add("--faces", choices=("mtcnn", "landmarks"), default="mtcnn", help=faces)
    points = "store 68 facial points: from CSVs in OpenFace's columns (folder or zip), or by dlib "
    points += "(its model is for non-commercial use only)"
    add("--landmarks", metavar="DIR|dlib", help=points)
    sound = "sound of the video, or of its recording 03-01-* in --raw (default: mp4)"
    add("--audio", choices=("mp4", "wav"), default="mp4", help=sound)
    add("--waveform", action="store_true", help="also store the samples, as erann requires")
    where = "where to run: local processes, or a dask cluster (default: loky)"
    add("--backend", choices=("loky", "dask"), default="loky", help=where)
    add("--scheduler", metavar="ADDRESS", help="dask scheduler, for example tcp://host:8786")
    return parser
