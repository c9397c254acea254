"""The 68 facial points of any video, by dlib's shape predictor on the face that was detected.

Its model was trained on iBUG 300-W, whose license forbids commercial use of the model too. It is
the file inside the package face-recognition-models.

Source: Kazemi & Sullivan 2014; Sagonas et al. 2016.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import files
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from preprocess.settings import DLIB_MODEL, DLIB_SHIFT, DLIB_SIDE

# Formats whose first plane is brightness, a byte per pixel. Those with j use all 256 values.
_LIMITED = ("yuv420p", "yuv422p", "yuv444p", "nv12")
_FULL = ("yuvj420p", "yuvj422p", "yuvj444p", "gray")
_STRETCH = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


def predict_landmarks(
    frames: Sequence[av.VideoFrame], boxes: np.ndarray, crops: np.ndarray
) -> np.ndarray:
    """The points of a face in each frame.

    Args:
        frames: 30 frames of one size and format.
        boxes: (30, 4), x1, y1, x2, y2 of the face in pixels, as from `detect_faces`.
        crops: (30, 4), the part of each frame to look at, as from `crop_boxes`.

    Returns:
        x, y in whole pixels of the frames, float32 (30, 68, 2).
    """
    import dlib

    predict = _predictor()
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + size[:, 1:] * (0, DLIB_SHIFT)
    half = DLIB_SIDE / 2 * np.sqrt(size.prod(axis=1, keepdims=True))
    squares = np.concatenate([center - half, center + half], axis=1) - np.tile(crops[:, :2], 2)
    points = []
    for frame, crop, square in zip(frames, crops.astype(int), np.rint(squares), strict=True):
        shape = predict(_brightness(frame, *crop), dlib.rectangle(*square.astype(int).tolist()))
        points.append([(point.x, point.y) for point in shape.parts()])
    return np.array(points, np.float32) + crops[:, None, :2]


def _brightness(frame: av.VideoFrame, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A part of a frame in gray, uint8 (H, W), 0..255; of common formats without converting it."""
    if frame.format.name not in (*_LIMITED, *_FULL):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    part = rows[top:bottom, left:right]
    is_full = frame.format.name in _FULL or frame.color_range == ColorRange.JPEG
    return np.ascontiguousarray(part) if is_full else np.take(_STRETCH, part)


@lru_cache(maxsize=1)
def _predictor() -> Any:
    """The shape predictor of this process, of 100 MB."""
    import dlib

    # Found by its metadata: the package cannot be imported where setuptools lacks pkg_resources.
    (model,) = [file for file in files("face-recognition-models") if file.name == DLIB_MODEL]
    return dlib.shape_predictor(str(model.locate()))
