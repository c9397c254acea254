"""What a trained network says about any video, window by window."""

import bisect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cache.ravdess import is_recordings
from cache.schema import DURATION_S, FRAME_COUNT
from model.inference import TrainedNetwork
from preprocess.clip import window_arrays
from preprocess.decode import ClipError, open_video
from preprocess.settings import Settings, from_config
from preprocess.windows import Plan, read_windows
from train.record import load_checkpoint

# A picture shows the faces of this many windows; nothing is kept of the pictures of others.
SHOWN_WINDOWS = 6
MIDDLE = FRAME_COUNT // 2


@dataclass(frozen=True)
class Predictor:
    """A trained network, the settings of its features, and what readers should know about it."""

    trained: TrainedNetwork
    settings: Settings
    warnings: tuple[str, ...] = ()

    @property
    def sees(self) -> bool:
        return "frames" in self.trained.fields

    @property
    def hears(self) -> bool:
        return bool({"mfcc", "waveform"} & set(self.trained.fields))


@dataclass(frozen=True)
class WindowPrediction:
    """What was found in 2.45 s of a file.

    Attributes:
        start_s: where the window starts, in seconds from the start of the file.
        probabilities: of the eight emotions, float32 (8,); None where `problem` says why.
        problem: such as that no face was found; None where there are probabilities.
        boxes: float32 (30, 4), x1, y1, x2, y2 in pixels; None for networks without a picture.
        attention: float32 (30, h, w), how much the network looks at each part of each face crop,
            as multiples of the mean; None for networks without the cross-modal block.
        crops: uint8 RGB (30, 224, 224, 3), of the first windows of a file.
        frame: frame 15 of the window as decoded, of the first windows of a file.
        notes: what was padded, repeated or unusual.
    """

    start_s: float
    probabilities: np.ndarray | None = None
    problem: str | None = None
    boxes: np.ndarray | None = None
    attention: np.ndarray | None = None
    crops: np.ndarray | None = None
    frame: av.VideoFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def end_s(self) -> float:
        return self.start_s + DURATION_S

    @property
    def middle_s(self) -> float:
        return self.start_s + DURATION_S / 2


@dataclass(frozen=True)
class Prediction:
    """All windows of one file, in the order of time."""

    windows: Sequence[WindowPrediction]

    @cached_property
    def usable(self) -> list[WindowPrediction]:
        """The windows with probabilities."""
        return [window for window in self.windows if window.probabilities is not None]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The mean over the windows that have probabilities, float (8,)."""
        return np.mean([window.probabilities for window in self.usable], axis=0)

    @property
    def problem(self) -> str | None:
        """How many windows have no probabilities, and the first reason; None if all have."""
        without = [window for window in self.windows if window.problem is not None]
        if not without:
            return None
        count = f"{len(without)} of {len(self.windows)} windows without probabilities"
        return f"{count}: {without[0].problem} (at {without[0].start_s:.2f} s)"

    def at(self, time_s: float) -> tuple[WindowPrediction, float] | None:
        """The window whose middle is nearest to a moment, and the number of its frame then.

        The number is 0..29, fractional between two frames. None if no window with probabilities
        contains the moment.
        """
        after = bisect.bisect(self.usable, time_s, key=lambda window: window.middle_s)
        near = self.usable[max(0, after - 1) : after + 1]
        window = min(near, key=lambda each: abs(each.middle_s - time_s))
        if not window.start_s <= time_s <= window.end_s:
            return None
        number = (time_s - window.start_s) / DURATION_S * FRAME_COUNT - 0.5
        return window, min(max(number, 0.0), FRAME_COUNT - 1.0)


def load(path: Path, device: torch.device | str = "cpu") -> Predictor:
    """Read a checkpoint, with the settings of the features that its network was trained on.

    Raises:
        ValueError: if it cannot be used.
        FileNotFoundError: if it is missing.
    """
    checkpoint = load_checkpoint(path, device)
    trained, config = checkpoint.network(device), checkpoint.config
    settings, warnings = from_config(config.cache["config"]), []
    if not is_recordings(dataset := config.cache["dataset"]):
        warnings.append(f"trained on {dataset}: its predictions for people are meaningless")
    if checkpoint.epoch != config.epochs:
        progress = f"{checkpoint.epoch} of {config.epochs} epochs"
        warnings.append(f"trained for {progress}: finish that run with train.py --resume")
    if "frames" in trained.fields and settings.faces == "landmarks":
        warnings.append("trained on crops from published landmarks, here a detector finds faces")
    return Predictor(trained, settings, tuple(warnings))


def predict(predictor: Predictor, path: Path, plan: Plan) -> Iterator[WindowPrediction]:
    """Yield what the network says about each window of a file, and what it looked at.

    Args:
        predictor: as from `load`.
        path: a video, or a sound file for a network that needs no picture.
        plan: as from `preprocess.windows.plan`.

    Raises:
        ClipError: if the file lacks what the network needs, or cannot be read.
    """
    shown = 0
    with open_video(path, picture=predictor.sees, sound=predictor.hears) as video:
        for window in read_windows(video, plan):
            # The same functions as for the features that the network was trained on.
            try:
                if window.problem:
                    raise ClipError(window.problem)
                arrays, notes = window_arrays(window, predictor.settings)
                probabilities, attention = _classify(predictor.trained, arrays)
            except ClipError as exc:
                yield WindowPrediction(window.start_s, problem=str(exc), notes=window.notes)
                continue
            shown += 1
            keep = predictor.sees and shown <= SHOWN_WINDOWS
            yield WindowPrediction(
                window.start_s,
                probabilities,
                boxes=arrays.get("face_box"),
                attention=attention,
                crops=arrays["frames"] if keep else None,
                frame=window.frames[MIDDLE] if keep else None,
                notes=(*window.notes, *notes),
            )


def _classify(
    trained: TrainedNetwork, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (8,) of one window, and where the sound made the network look, if it does."""
    device = next(trained.net.parameters()).device
    fields = {name: torch.from_numpy(arrays[name])[None].to(device) for name in trained.fields}
    maps: list[Tensor] = []
    hook = nullcontext()
    block = getattr(trained.net, "cross_modal", None)
    if block is not None and block.guided == "video":
        hook = block.register_forward_hook(lambda *call: maps.append(call[-1][1]))
    with hook:
        probabilities = trained.probabilities(fields)
    if not probabilities.isfinite().all():
        raise ClipError("the network returns NaN or Inf: its weights are damaged")
    attention = None
    if maps:
        # Multiples of the mean, for each frame: (1, S, h, w) -> (1, 1, S, h, w) -> (30, h, w)
        relative = maps[0][None].float() * maps[0].numel()
        size = (FRAME_COUNT, *relative.shape[-2:])
        attention = functional.interpolate(relative, size, mode="trilinear")[0, 0].cpu().numpy()
    return probabilities[0].cpu().numpy(), attention
