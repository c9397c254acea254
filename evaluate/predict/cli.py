"""The command line of predictions: a JSON line, and a picture, for each file."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache.ravdess import is_recordings
from evaluate.predict.files import SOUNDS, VIDEOS, listed, picture_names, printable
from evaluate.predict.overlay import draw
from evaluate.predict.prediction import Prediction, as_line
from evaluate.predict.predictor import Predictor, load_predictor, predict
from evaluate.predict.video import annotate
from model.device import pick_device
from preprocess.decode import ClipError
from preprocess.windows import plan, sound_pieces, upright_frames


def main(argv: Sequence[str] | None = None) -> int:
    """Print a JSON line for each file, and draw what was found.

    Returns:
        0 when every file has probabilities, 1 when some have not, 2 for wrong use.
    """
    args = _parser().parse_args(argv)
    try:
        return _main(args)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1


def _main(args: argparse.Namespace) -> int:
    try:
        if args.hop is not None and not 0.1 <= args.hop <= 3600:
            raise ValueError(f"--hop is {args.hop:g}, expected 0.1 to 3600 seconds")
        if args.video and args.out is None:
            raise ValueError("--video needs --out DIR to write to")
        if sys.stdout is None:
            raise ValueError("standard output is closed, expected it to take the lines")
        predictor = load_predictor(args.checkpoint, pick_device(args.device))
        paths, notes, problems = listed(
            args.clips, VIDEOS if predictor.sees else (*VIDEOS, *SOUNDS)
        )
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        print(f"error: {printable(exc)}", file=sys.stderr)
        return 2
    for warning in _warnings(predictor):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    failed = bool(problems)
    names = picture_names(paths, args.out or Path())
    with tqdm(total=len(paths), unit="file", disable=None) as bar:
        for path in paths:
            line, problem = _predict_file(predictor, path, names[path], args)
            failed |= "error" in line
            if problem:
                tqdm.write(f"error: {printable(path)}: {printable(problem)}", file=sys.stderr)
            try:
                # In ASCII, because names of files may hold what is no text.
                tqdm.write(json.dumps(line, allow_nan=False), file=sys.stdout)
                sys.stdout.flush()
            except OSError as exc:
                sys.stdout = None  # or Python tries to write what is left, and fails again
                if not isinstance(exc, BrokenPipeError):  # whoever reads has enough
                    print(f"error: standard output: {exc.strerror}", file=sys.stderr)
                return 1
            bar.update()
    return 1 if failed else 0


def _predict_file(
    predictor: Predictor, path: Path, name: str, args: argparse.Namespace
) -> tuple[dict[str, Any], str | None]:
    """The JSON line of one file, in which `error` says what failed; and what to tell a person."""
    line: dict[str, Any] = {"file": str(path), "model": predictor.trained.config["model"]}
    prediction = Prediction()
    try:
        if not path.exists():
            raise ClipError("no such file")
        if not path.is_file():
            raise ClipError("not a regular file")
        for window in predict(predictor, path, plan(path, args.hop)):
            prediction.windows.append(window)
        if not prediction.usable:
            raise ClipError(prediction.problem)
    except Exception as exc:
        line["error"] = _said(exc)
    if prediction.usable:
        line |= as_line(prediction)
        warnings = list(_warnings(predictor))
        if warnings:
            line["warnings"] = warnings
    if prediction.usable and args.out is not None:
        try:
            _draw_all(predictor, path, prediction, args.out / name, line, video=args.video)
        except Exception as exc:
            line["error"] = f"the picture could not be made: {_said(exc)}"
    return line, line.get("error") or prediction.problem


def _draw_all(
    predictor: Predictor,
    path: Path,
    prediction: Prediction,
    out: Path,
    line: dict[str, Any],
    *,
    video: bool,
) -> None:
    """Draw the PNG, and the mp4 if it is asked for, and note in the line where they are."""
    picture, annotated = (out.with_name(out.name + suffix) for suffix in (".png", ".mp4"))
    draw(path.name, prediction, picture, warnings=line.get("warnings", ()))
    line["picture"] = str(picture)
    if video:
        sound = sound_pieces(path) if predictor.hears else None
        annotate(upright_frames(path), sound, prediction, annotated)
        line["video"] = str(annotated)


def _said(exc: Exception) -> str:
    """An error in one line; whatever a strange file does to a library, the others go on."""
    if isinstance(exc, ClipError | OSError) and str(exc):
        return str(exc)
    return f"broke the program: {type(exc).__name__}: {exc}".splitlines()[0]


def _warnings(predictor: Predictor) -> Iterator[str]:
    """What the reader of the predictions should know of the network."""
    config = predictor.trained.config
    dataset = config["cache"]["dataset"]
    if not is_recordings(dataset):
        yield f"trained on {dataset}: what it says of people means nothing"
    if predictor.trained.epoch != config["epochs"]:
        yield (
            f"trained for {predictor.trained.epoch} of {config['epochs']} epochs: finish that run "
            "with train.py --resume"
        )
    if predictor.sees and predictor.settings.faces == "landmarks":
        yield "trained on faces found by published landmarks; here the detector finds them"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.predict",
        description="Print the probabilities of eight emotions for each video, a JSON line a file. "
        "A file of up to 6 s is taken as a RAVDESS clip (0.5 to 2.95 s); of a longer one, a "
        "window of 2.45 s is taken again and again, and their mean is given too.",
    )
    parser.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        help="a video, a folder of videos, or - for a list on standard input, one a line",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="last.pt of a run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="draw a PNG of each file there: face, probabilities, where the sound points",
    )
    parser.add_argument(
        "--video", action="store_true", help="an annotated mp4 beside each PNG as well"
    )
    parser.add_argument(
        "--hop",
        type=float,
        metavar="S",
        help="seconds from window to window, of short files too (default: 1.225 for files of more "
        "than 6 s)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "cpu"),
        default="auto",
        help="auto takes a GPU when there is one (default: auto)",
    )
    return parser
