"""What was found in a file, window by window, and the line that says so."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S


@dataclass(frozen=True)
class Window:
    """What was found in 2.45 s of a file.

    Attributes:
        start_s: in the time of the file.
        probabilities: of the eight emotions, float32 (8,); None where `problem` says why not.
        problem: such as that there is no face; None where there are probabilities.
        boxes: float32 (30, 4), x1, y1, x2, y2 in pixels; None for networks that see no face.
        attention: float32 (30, h, w), how much the network looks at each place of each face crop,
            over the mean; None for networks without the cross-modal block.
        crops: uint8 RGB (n, 224, 224, 3), the frames `crop_numbers` of 0..29; few, or none.
        frame, frame_box: uint8 RGB (H, W, 3), the whole frame 15, reduced, and the box in it, (4,);
            of one window of a file alone.
        notes: what was odd.
    """

    start_s: float
    probabilities: np.ndarray | None = None
    problem: str | None = None
    boxes: np.ndarray | None = None
    attention: np.ndarray | None = None
    crops: np.ndarray | None = None
    crop_numbers: tuple[int, ...] = ()
    frame: np.ndarray | None = None
    frame_box: np.ndarray | None = None
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

    windows: list[Window] = field(default_factory=list)

    @property
    def usable(self) -> list[Window]:
        return [window for window in self.windows if window.probabilities is not None]

    @property
    def probabilities(self) -> np.ndarray:
        """The mean over the windows that have any, float (8,)."""
        return np.mean([window.probabilities for window in self.usable], axis=0)

    @property
    def problem(self) -> str | None:
        """Which windows have no probabilities, and each reason once; None if all have."""
        without = [window for window in self.windows if window.problem is not None]
        if not without:
            return None
        reasons: dict[str, Window] = {}
        for window in without:
            reasons.setdefault(window.problem, window)
        said = "; ".join(f"{why} (from {w.start_s:.2f} s on)" for why, w in reasons.items())
        return f"{len(without)} of {len(self.windows)} windows without probabilities: {said}"


def as_line(prediction: Prediction) -> dict[str, Any]:
    """What a JSON line says of a file with probabilities: of all of it, and of each window."""
    return {
        "predicted": EMOTIONS[int(prediction.probabilities.argmax())],
        "probabilities": _named(prediction.probabilities),
        "windows": [_window_entry(window) for window in prediction.windows],
    }


def _window_entry(window: Window) -> dict[str, Any]:
    entry: dict[str, Any] = {"start_s": round(window.start_s, 3), "end_s": round(window.end_s, 3)}
    if window.problem is not None:
        entry["problem"] = window.problem
    else:
        entry["probabilities"] = _named(window.probabilities)
    if window.boxes is not None:
        entry["face_box"] = np.median(window.boxes, axis=0).round(1).tolist()
    if window.notes:
        entry["notes"] = list(window.notes)
    return entry


def _named(probabilities: np.ndarray) -> dict[str, float]:
    return {
        emotion: round(float(share), 6)
        for emotion, share in zip(EMOTIONS, probabilities, strict=True)
    }
