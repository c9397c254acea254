"""`python -m evaluate.predict CLIP ... --checkpoint FILE`: any video to eight probabilities."""

import argparse
import itertools
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
from cache.clips import EMOTIONS
from cache.schema import FRAME_COUNT
from evaluate.overlay import Prediction, Window, draw, over_mean
from evaluate.reading import shown
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

VIDEOS = (
    *(".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"),
    *(".3gp", ".ogv"),
)
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg")

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
    nothing = itertools.repeat((None, ()))
    sounds = sound_windows(path, windows) if predictor.hears else nothing
    pictures = picture_windows(path, windows) if predictor.sees else nothing
    shown_numbers = _SHOWN_OF_ONE if windows.hop_s is None else _SHOWN_OF_MANY
    kept = 0
    for start_s, (waveform, heard), (frames, seen) in zip(
        windows.starts_s(), sounds, pictures, strict=False
    ):
        notes = (*heard, *seen)
        try:
            boxes, crops, found = _faces(frames, predictor.settings) if frames else (None,) * 3
        except ClipError as exc:
            yield Window(start_s, problem=str(exc), notes=notes)
            continue
        fields = {
            "frames": lambda crops=crops: crops,
            "mfcc": lambda waveform=waveform: mfcc(waveform),
            "waveform": lambda waveform=waveform: to_int16(waveform),
        }
        probabilities, attention = _classify(
            predictor.trained,
            {name: torch.from_numpy(fields[name]())[None] for name in predictor.needs},
        )
        keep = crops is not None and kept < _KEPT_WINDOWS
        kept += keep
        yield Window(
            start_s,
            probabilities=probabilities,
            boxes=boxes,
            attention=attention,
            crops=crops[list(shown_numbers)] if keep else None,
            crop_numbers=shown_numbers if keep else (),
            **(_whole(frames[_MIDDLE], boxes[_MIDDLE]) if keep and kept == 1 else {}),
            notes=(*notes, *(found or ())),
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
    return probabilities[0].cpu().numpy(), over_mean(maps[0][0]) if maps else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print a JSON line for each file, and draw what was found.

    Returns:
        0 when every file has probabilities, 1 when some have not, 2 for wrong use.
    """
    args = _parser().parse_args(argv)
    try:
        if args.hop is not None and not 0.1 <= args.hop <= 3600:
            raise ValueError(f"--hop is {args.hop:g}, expected 0.1 to 3600 seconds")
        if args.video and args.out is None:
            raise ValueError("--video needs --out DIR to write to")
        predictor = load_predictor(args.checkpoint, pick_device(args.device))
        paths = _listed(args.clips, predictor)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        print(f"predict: {exc}", file=sys.stderr)
        return 2
    for warning in _warnings(predictor):
        print(f"warning: {warning}", file=sys.stderr)
    names = _picture_names(paths)
    failed = 0
    try:
        with tqdm(total=len(paths), unit="file", disable=None) as bar:
            for path in paths:
                line = _predict_file(predictor, path, names[path], args)
                if "error" in line:
                    failed += 1
                    tqdm.write(f"predict: {path}: {line['error']}", file=sys.stderr)
                tqdm.write(json.dumps(line, ensure_ascii=False), file=sys.stdout)
                sys.stdout.flush()
                bar.update()
    except BrokenPipeError:  # whoever reads the lines has enough
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        print("predict: interrupted", file=sys.stderr)
        return 1
    return 1 if failed else 0


def _predict_file(
    predictor: Predictor, path: Path, name: str, args: argparse.Namespace
) -> dict[str, Any]:
    """The JSON line of one file; `error` says why it has no probabilities, or no picture."""
    line: dict[str, Any] = {"file": str(path), "model": predictor.trained.config["model"]}
    prediction = Prediction()
    try:
        if not path.is_file():
            raise ClipError("no such file")
        windows = plan(path, args.hop)
        for window in predict(predictor, path, windows):
            prediction.windows.append(window)
        if not prediction.usable:
            raise ClipError(prediction.windows[0].problem)
    except ClipError as exc:
        line["error"] = str(exc)
    except Exception as exc:  # whatever a strange file does to a library, the others go on
        line["error"] = f"broke the program: {type(exc).__name__}: {exc}".splitlines()[0]
    if prediction.usable:
        line |= _found(prediction)
        if args.out is not None:
            try:
                draw(path.name, prediction, args.out / f"{name}.png")
                line["picture"] = str(args.out / f"{name}.png")
                if args.video:
                    sound = sound_pieces(path) if predictor.hears else None
                    annotate(upright_frames(path), sound, prediction, args.out / f"{name}.mp4")
                    line["video"] = str(args.out / f"{name}.mp4")
            except (OSError, ClipError, av.FFmpegError) as exc:
                line["error"] = f"the picture could not be made: {exc}"
    return line


def _found(prediction: Prediction) -> dict[str, Any]:
    """What a JSON line says of a file with probabilities: of all of it, and of each window."""
    of_windows = []
    for window in prediction.windows:
        entry = {"start_s": round(window.start_s, 3), "end_s": round(window.end_s, 3)}
        if window.problem is not None:
            entry["problem"] = window.problem
        else:
            entry["probabilities"] = _named(window.probabilities)
        if window.boxes is not None:
            entry["face_box"] = np.median(window.boxes, axis=0).round(1).tolist()
        if window.notes:
            entry["notes"] = list(window.notes)
        of_windows.append(entry)
    return {
        "predicted": EMOTIONS[int(prediction.probabilities.argmax())],
        "probabilities": _named(prediction.probabilities),
        "windows": of_windows,
    }


def _named(probabilities: np.ndarray) -> dict[str, float]:
    return {
        emotion: round(float(share), 6)
        for emotion, share in zip(EMOTIONS, probabilities, strict=True)
    }


def _listed(given: Sequence[str], predictor: Predictor) -> list[Path]:
    """The files that are meant: themselves, those of folders, and those that stdin names for `-`.

    Raises:
        ValueError: if there is none.
    """
    suffixes = VIDEOS if predictor.sees else (*VIDEOS, *SOUNDS)
    paths: list[Path] = []
    for each in given:
        if each == "-":
            paths += [Path(line.rstrip("\n")) for line in sys.stdin if line.strip()]
        elif Path(each).is_dir():
            inside = sorted(path for path in Path(each).rglob("*") if path.is_file())
            found = [path for path in inside if path.suffix.lower() in suffixes]
            if len(found) < len(inside):
                print(
                    f"{each}: {len(found)} of {len(inside)} files, those that end in "
                    f"{' '.join(suffixes)}",
                    file=sys.stderr,
                )
            paths += found
        else:
            paths.append(Path(each))
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise ValueError(f"no file in {', '.join(map(shown, given))}, expected videos")
    return paths


def _picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file's pictures, after its own; numbered where several have the same."""
    names: dict[Path, str] = {}
    for path in paths:
        taken = set(names.values())
        own = f"{path.stem}_emotions"  # never the name of a video that lies there already
        numbered = (f"{own}_{number}" for number in itertools.count(2))
        names[path] = next(name for name in itertools.chain([own], numbered) if name not in taken)
    return names


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
