"""`python -m evaluate.predict CLIP ... --checkpoint FILE`: any video to eight probabilities."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import model
from cache.schema import FRAME_COUNT
from evaluate.clip_files import SOUNDS, VIDEOS, listed, picture_names, printable
from evaluate.overlay import draw, over_mean
from evaluate.prediction import Prediction, Window, as_line
from evaluate.tables import is_ravdess
from evaluate.video import annotate
from model.checkpoint import CheckpointError, Trained, load_trained
from model.device import pick_device
from preprocess.audio import mfcc, to_int16
from preprocess.decode import ClipError
from preprocess.detect import detect_faces
from preprocess.face import crop, crop_boxes
from preprocess.settings import Settings, from_config
from preprocess.windows import (
    Plan,
    picture_windows,
    plan,
    sound_pieces,
    sound_windows,
    upright_frames,
)

# Faces that a picture shows: of a file's one window several, of a longer file one of each.
_SHOWN_OF_ONE = (2, 7, 12, 17, 22, 27)
_MIDDLE = FRAME_COUNT // 2
_SHOWN_OF_MANY = (_MIDDLE,)
_FRAME_HEIGHT = 360
_KEPT_WINDOWS = 6


@dataclass(frozen=True)
class Predictor:
    """A trained network, and how the features that it was trained on were made."""

    trained: Trained
    settings: Settings

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields that the network looks at."""
        return model.inputs(self.trained.config["model"])

    @property
    def sees(self) -> bool:
        return "frames" in self.needs

    @property
    def hears(self) -> bool:
        return bool({"mfcc", "waveform"} & set(self.needs))


def load_predictor(path: Path, device: torch.device | str = "cpu") -> Predictor:
    """Read a checkpoint, with the settings of the features that its network was trained on.

    Raises:
        CheckpointError: if it cannot be used.
        FileNotFoundError: if there is none.
    """
    trained = load_trained(path, device)
    try:
        return Predictor(trained, from_config(trained.config["cache"]["config"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"{path}: {exc}") from exc


def predict(predictor: Predictor, path: Path, windows: Plan) -> Iterator[Window]:
    """Yield what the network says of each window of a file, and what it looked at.

    A window of a clip goes through the very functions that made the features for training.

    Args:
        predictor: as from `load_predictor`.
        path: a video, or sound alone for a network that sees nothing.
        windows: as from `preprocess.windows.plan`.

    Raises:
        ClipError: if the file lacks what the network needs, or cannot be read.
    """
    sounds = sound_windows(path, windows) if predictor.hears else None
    pictures = picture_windows(path, windows) if predictor.sees else None
    shown_numbers = _SHOWN_OF_ONE if windows.hop_s is None else _SHOWN_OF_MANY
    kept = 0
    for start_s in windows.starts_s():
        waveform, heard = next(sounds, (None, ())) if sounds else (None, ())
        picture = next(pictures, None) if pictures else None
        ended = [
            name
            for name, stream, found in (
                ("sound", sounds, waveform),
                ("picture", pictures, picture),
            )
            if stream and found is None
        ]
        if ended:
            if sounds and pictures and len(ended) == 1:
                problem = f"the {ended[0]} ends before this window does; nothing from here on"
                yield Window(start_s, problem=problem)
            return
        notes = (*heard, *(picture.notes if picture else ()))
        boxes = crops = None
        try:
            if picture:
                if picture.problem:
                    raise ClipError(picture.problem)
                boxes, crops, found = _faces(picture.frames, predictor.settings)
                notes += found
            fields = {
                "frames": lambda crops=crops: crops,
                "mfcc": lambda waveform=waveform: mfcc(waveform),
                "waveform": lambda waveform=waveform: to_int16(waveform),
            }
            probabilities, attention = _classify(
                predictor.trained,
                {name: torch.from_numpy(fields[name]())[None] for name in predictor.needs},
            )
        except ClipError as exc:
            yield Window(start_s, problem=str(exc), notes=notes)
            continue
        keep = crops is not None and kept < _KEPT_WINDOWS
        kept += keep
        yield Window(
            start_s,
            probabilities=probabilities,
            boxes=boxes,
            attention=attention,
            crops=crops[list(shown_numbers)] if keep else None,
            crop_numbers=shown_numbers if keep else (),
            **(_whole(picture.frames[_MIDDLE], boxes[_MIDDLE]) if keep and kept == 1 else {}),
            notes=notes,
        )


def _faces(
    frames: list[av.VideoFrame], settings: Settings
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Boxes float32 (30, 4), crops uint8 (30, 224, 224, 3) and notes, as for the features."""
    threads = torch.get_num_threads()
    try:
        boxes, _, notes = detect_faces(frames, settings.crop)
    finally:
        torch.set_num_threads(threads)  # the detector takes one, the network all
    boxes = crop_boxes(boxes, frames[0].height, frames[0].width, settings.crop)
    return boxes, crop(frames, boxes), notes


def _whole(frame: av.VideoFrame, box: np.ndarray) -> dict[str, np.ndarray]:
    """A whole frame for `Window`, reduced to 360 pixels' height, and the box of its face in it."""
    scale = _FRAME_HEIGHT / frame.height
    reduced = frame.reformat(max(1, round(frame.width * scale)), _FRAME_HEIGHT, "rgb24")
    return {"frame": reduced.to_ndarray(), "frame_box": box * scale}


def _classify(trained: Trained, fields: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (8,) of one clip, and where in the video the sound made the network look."""
    maps: list[Tensor] = []
    block = getattr(trained.net, "cross_modal", None)
    if block is not None and block.guided == "video":
        with block.register_forward_hook(lambda *call: maps.append(call[-1][1])):
            probabilities = trained.probabilities(fields)
    else:
        probabilities = trained.probabilities(fields)
    if not probabilities.isfinite().all():
        raise ClipError("the network gives no numbers here: its weights are damaged")
    return probabilities[0].cpu().numpy(), over_mean(maps[0][0]) if maps else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print a JSON line for each file, and draw what was found.

    Returns:
        0 when every file has probabilities, 1 when some have not, 2 for wrong use.
    """
    args = _parser().parse_args(argv)
    try:
        return _main(args)
    except KeyboardInterrupt:
        print("predict: interrupted", file=sys.stderr)
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
        print(f"predict: {printable(exc)}", file=sys.stderr)
        return 2
    for warning in _warnings(predictor):
        print(f"warning: {printable(warning)}", file=sys.stderr)
    for note in (*notes, *problems):
        print(f"predict: {note}", file=sys.stderr)
    failed = bool(problems)
    names = picture_names(paths, args.out or Path())
    with tqdm(total=len(paths), unit="file", disable=None) as bar:
        for path in paths:
            line, problem = _predict_file(predictor, path, names[path], args)
            failed |= "error" in line
            if problem:
                tqdm.write(f"predict: {printable(path)}: {printable(problem)}", file=sys.stderr)
            try:
                # In ASCII, because names of files may hold what is no text.
                tqdm.write(json.dumps(line, allow_nan=False), file=sys.stdout)
                sys.stdout.flush()
            except OSError as exc:
                sys.stdout = None  # or Python tries to write what is left, and fails again
                if not isinstance(exc, BrokenPipeError):  # whoever reads has enough
                    print(f"predict: standard output: {exc.strerror}", file=sys.stderr)
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
    if not is_ravdess(dataset):
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


if __name__ == "__main__":
    sys.exit(main())
