"""What a trained network says of any video, through the preprocessing that it was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from model.checkpoint import CheckpointError, Trained, load_trained
from torch import Tensor

import model
from cache.schema import FRAME_COUNT
from evaluate.predict.overlay import over_mean
from evaluate.predict.prediction import Window
from preprocess.audio import mfcc, to_int16
from preprocess.decode import ClipError
from preprocess.detect import detect_faces
from preprocess.face import crop, crop_boxes
from preprocess.settings import Settings, from_config
from preprocess.windows import Plan, picture_windows, sound_windows

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
                problem = f"the {ended[0]} ends before this window does"
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
