"""The command line of predictions: a JSON line, and a picture, for each file."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache.command import add_device, discard, fail, printable, results, run, warn
from cache.ravdess import EMOTIONS
from evaluate.predict.picture import draw
from evaluate.predict.predictor import Prediction, Predictor, WindowPrediction, load, predict
from evaluate.predict.video import annotate
from evaluate.runs import add_code
from evaluate.shipped import BEST, files_of
from model.device import pick_device
from preprocess.decode import open_video
from preprocess.limits import ClipError
from preprocess.windows import plan
from preprocess.workers import check_machine

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
VIDEOS += (".3gp", ".ogv")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg")
_MARK = ".emotions"  # before the suffix of each picture of a prediction, which is not an input
_LONGEST_NAME = 100
_WEIGHTS = (".pt", ".pth", ".safetensors")  # suffixes of weights


def main(argv: Sequence[str] | None = None) -> int:
    """Print a JSON line for each file, and draw what was found."""
    args = _arguments(argv)
    return run(lambda: _predict_all(args), extras="features,landmarks,report,weights")


def _predict_all(args: argparse.Namespace) -> int:
    # Everything that could be wrong with the command, before the first file.
    if args.hop is not None and not 0.1 <= args.hop <= 3600:
        raise ValueError(f"--hop is {args.hop:g}, expected 0.1 to 3600 seconds")
    if args.video and args.out is None:
        raise ValueError("--video requires --out DIR")
    results()
    try:
        shipped = not args.checkpoint
        paths = args.checkpoint or files_of(args.model or BEST)
        options = {"device": pick_device(args.device), "allow_code": args.allow_code}
        predictor = load(*paths, shipped=shipped, **options)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ValueError(exc) from exc
    check_machine(predictor.settings)
    suffixes = VIDEOS if predictor.sees else (*VIDEOS, *SOUNDS)
    paths, warnings, errors = list_files(args.clips, suffixes)
    for warning in (*predictor.warnings, *warnings):
        warn(printable(warning))
    for error in errors:
        fail(printable(error), 1)
    # One file at a time; an error in one does not stop the others.
    failed = bool(errors)
    names = picture_names(paths)
    for path in tqdm(paths, unit="file", disable=None):
        line, problem = _predict_file(predictor, path, names[path], args)
        failed |= "error" in line
        if problem:
            kind = "error" if "error" in line else "warning"
            tqdm.write(f"{kind}: {printable(path)}: {printable(problem)}", file=sys.stderr)
        _print(line)
        if "predicted" in line:
            tqdm.write(_in_words(line), file=sys.stderr)
    return int(failed)


def _predict_file(
    predictor: Predictor, path: Path, name: str, args: argparse.Namespace
) -> tuple[dict[str, Any], str | None]:
    """The JSON line of one file, with `error` if something failed; and what to tell the user."""
    line: dict[str, Any] = {"file": str(path), "model": predictor.name}
    predictor, seen = predictor.for_file(path)
    warnings = [*predictor.warnings, *seen]
    windows: list[WindowPrediction] = []
    try:
        if not path.is_file():
            raise ClipError("not a regular file" if path.exists() else "no such file")
        if path.stem.endswith(_MARK):
            raise ClipError("is the output of a prediction, expected an input video")
        for window in predict(predictor, path, plan(path, args.hop)):
            windows.append(window)
    except Exception as exc:
        line["error"] = _reason(exc)
    prediction = Prediction(windows)
    if not prediction.usable:
        line.setdefault("error", prediction.problem)
        return line, line["error"]
    warnings += prediction.notes
    line |= {
        "predicted": EMOTIONS[int(prediction.probabilities.argmax())],
        "probabilities": _by_emotion(prediction.probabilities),
        "windows": [_entry(window) for window in windows],
    }
    if warnings:
        line["warnings"] = warnings
    try:
        if args.out is not None:
            picture, annotated = (args.out / f"{name}{suffix}" for suffix in (".png", ".mp4"))
            draw(path.name, prediction, picture, warnings=warnings)
            line["picture"] = str(picture)
        if args.video:
            with open_video(path, sound=predictor.hears) as video:
                annotate(video, prediction, annotated, warnings=warnings)
            line["video"] = str(annotated)
    except Exception as exc:
        line["error"] = f"the picture could not be drawn: {_reason(exc)}"
    told = "; ".join([*seen, *prediction.notes, *filter(None, [prediction.problem])])
    return line, line.get("error", told or None)


def list_files(
    given: Sequence[str], suffixes: tuple[str, ...]
) -> tuple[list[Path], list[str], list[str]]:
    """List the given files, those of given folders, and those that standard input names for `-`.

    From folders, files with these suffixes are taken, in lower case. Returns the files, each once;
    a warning for each folder with other files; and an error for each that cannot be read.
    ValueError if there is no file, or standard input is closed.
    """
    paths: list[Path] = []
    warnings: list[str] = []
    errors: list[str] = []
    for each in given:
        if each == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed, expected a list of files")
            paths += [Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip()]
        elif Path(each).is_dir():
            walk = os.walk(each, onerror=lambda exc: errors.append(f"cannot be read: {exc}"))
            inside = sorted(Path(root, file) for root, _, files in walk for file in files)
            found = [path for path in inside if path.suffix.lower() in suffixes]
            found = [path for path in found if not path.stem.endswith(_MARK)]
            paths += found
            if len(found) < len(inside):
                warnings.append(
                    f"{each}: takes {len(found)} of {len(inside)} files, those that end in "
                    f"{' '.join(suffixes)} and are not pictures of predictions"
                )
        else:
            paths.append(Path(each))
    if not paths:
        raise ValueError(f"no file in {', '.join(given)}, expected videos")
    return list(dict.fromkeys(paths)), warnings, errors


def picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name without suffix for each file's pictures: its own, numbered if others have the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name = own = printable(path.stem)[:_LONGEST_NAME]
        number = 1
        while name in taken:
            number += 1
            name = f"{own}_{number}"
        taken.add(name)
        names[path] = f"{name}{_MARK}"
    return names


def _entry(window: WindowPrediction) -> dict[str, Any]:
    entry: dict[str, Any] = {"start_s": round(window.start_s, 3), "end_s": round(window.end_s, 3)}
    if window.problem:
        entry["problem"] = window.problem
    else:
        entry["probabilities"] = _by_emotion(window.probabilities)
    if window.boxes is not None:
        entry["face_box"] = np.median(window.boxes, axis=0).round(1).tolist()
    return entry | ({"notes": window.notes} if window.notes else {})


def _in_words(line: dict[str, Any]) -> str:
    """A JSON line with probabilities for people: the file, and the three most probable emotions."""
    shares = sorted(line["probabilities"].items(), key=lambda item: -item[1])[:3]
    count = sum("probabilities" in window for window in line["windows"])
    windows = f" (mean of {count} windows)" if count > 1 else ""
    likely = ", ".join(f"{emotion} {share:.0%}" for emotion, share in shares)
    return f"{printable(line['file'])}: {likely}{windows}"


def _by_emotion(probabilities: np.ndarray) -> dict[str, float]:
    return dict(zip(EMOTIONS, probabilities.astype(float).round(6).tolist(), strict=True))


def _reason(exc: Exception) -> str:
    if isinstance(exc, ClipError | OSError) and str(exc):
        return str(exc)
    return f"unexpected error: {type(exc).__name__}: {exc}".splitlines()[0]


def _print(line: dict[str, Any]) -> None:
    stream = results()
    try:
        # In ASCII, because the name of a file may contain bytes that are not text.
        tqdm.write(json.dumps(line, allow_nan=False), file=stream)
        stream.flush()
    except OSError:
        discard(stream)
        raise


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; clips may also follow `--checkpoint FILE`, where their names tell them."""
    parser = _parser()
    args = parser.parse_args(argv)
    checkpoints = []
    for first, *others in args.checkpoint or []:
        weights = [each for each in others if Path(each).suffix.lower() in _WEIGHTS]
        args.clips += [each for each in others if each not in weights]
        checkpoints += map(Path, (first, *weights))
    args.checkpoint = checkpoints
    if not args.clips:
        parser.error("the following arguments are required: CLIP")
    if args.model and args.checkpoint:
        parser.error("--model names the weights that come with the project, not --checkpoint")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.predict",
        description="Predict emotion probabilities for videos: one JSON line per file on standard "
        "output, and the three most probable emotions on standard error. Files of up to 6 s are "
        "treated as one clip (0.5 to 2.95 s, as in training). Longer files are split into "
        "overlapping windows of 2.45 s, and their probabilities are averaged.",
    )
    add = parser.add_argument
    clips = "a video, a folder of videos, or - for a list on standard input, one per line"
    add("clips", metavar="CLIP", nargs="*", help=clips)
    files = (
        "last.pt or exported weights of runs, whose predictions are averaged (default: the weights "
    )
    files += "that come with the project, of --model)"
    add("--checkpoint", metavar="FILE", nargs="+", action="append", help=files)
    name = f"the network whose weights come with the project (default: {BEST})"
    add("--model", metavar="NAME", help=name)
    out = "also save a PNG per file in DIR: face, probabilities, cross-modal attention"
    add("--out", metavar="DIR", type=Path, help=out)
    add("--video", action="store_true", help="also write an annotated mp4 beside each PNG")
    hop = "seconds from one window to the next (default: 1.225; one window for files of up to 6 s)"
    add("--hop", metavar="S", type=float, help=hop)
    add_code(parser)
    add_device(parser)
    return parser
