"""Where the face is, and the steady square crop around it."""

import warnings
from collections.abc import Sequence
from functools import lru_cache

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from facenet_pytorch import MTCNN
from torch.nn import functional

from cache.schema import DURATION_S, FRAME_COUNT, FRAME_SIZE
from preprocess.decode import ClipError
from preprocess.settings import MIN_FOUND, FaceSettings


@lru_cache(maxsize=1)
def _detector(min_face_size: int) -> MTCNN:
    """The detector of this process. `detect` alone is used: `forward` fails without a face."""
    detector = MTCNN(keep_all=True, min_face_size=min_face_size, post_process=False, device="cpu")
    # Its pooling takes half of the time in the default layout.
    return detector.to(memory_format=torch.channels_last)


def detect_faces(
    frames: Sequence[av.VideoFrame], settings: FaceSettings
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Find the speaker's face in every `settings.every`-th frame and interpolate between.

    Args:
        frames: 30 frames of one size.
        settings: see `FaceSettings`.

    Returns:
        Boxes float64 (30, 4), x1, y1, x2, y2 in pixels of the frames; scores float32 (30,), 0
        where interpolated; notes for the manifest.

    Raises:
        ClipError: if fewer than half of the frames looked at show a face.
    """
    looked_at = sorted({*range(0, FRAME_COUNT, settings.every), FRAME_COUNT - 1})
    scale = settings.detect_height / frames[0].height
    width = max(1, round(frames[0].width * scale))
    small = [
        frames[index]
        .reformat(width, settings.detect_height, "rgb24", interpolation=Interpolation.AREA)
        .to_ndarray()
        for index in looked_at
    ]
    with torch.inference_mode(), warnings.catch_warnings():
        # facenet-pytorch stacks ragged arrays in ways that newer numpy versions warn about.
        warnings.simplefilter("ignore")
        detected, probabilities = _detector(settings.min_face_size).detect(np.stack(small))
    candidates = [
        _probable(boxes, scores, settings.score)
        for boxes, scores in zip(detected, probabilities, strict=True)
    ]
    found = [number for number, boxes in enumerate(candidates) if len(boxes)]
    if len(found) < MIN_FOUND * len(looked_at):
        raise ClipError(f"a face in {len(found)} of {len(looked_at)} frames, expected half or more")
    largest = [max(candidates[number], key=_area) for number in found]
    typical = np.median([_centre(box) for box in largest], axis=0)
    chosen = np.array(
        [
            min(candidates[number], key=lambda box: np.abs(_centre(box) - typical).sum())
            for number in found
        ]
    )
    at = [looked_at[number] for number in found]
    boxes = np.column_stack(
        [np.interp(range(FRAME_COUNT), at, chosen[:, side] / scale) for side in range(4)]
    )
    scores = np.zeros(FRAME_COUNT, np.float32)
    scores[at] = chosen[:, 4]
    notes = []
    if len(found) < len(looked_at):
        notes.append(f"face found in {len(found)} of {len(looked_at)} frames looked at")
    crowd = max(len(boxes) for boxes in candidates)
    if crowd > 1:
        notes.append(f"up to {crowd} faces in a frame: the largest, most central in time, was kept")
    return boxes, scores, tuple(notes)


def crop_boxes(boxes: np.ndarray, height: int, width: int, settings: FaceSettings) -> np.ndarray:
    """Turn face boxes into the steady square crops that are cut out, whole pixels in the frame.

    One side length for the clip, `settings.margin` times the median of the boxes' longer sides;
    centres smoothed over time by a Gaussian of `settings.smoothing_s`, so that the crop follows
    the head and does not tremble with the detector; shifted inside where it would leave the frame.

    Args:
        boxes: (30, 4), x1, y1, x2, y2 in pixels.
        height, width: of the frame in pixels.
        settings: see `FaceSettings`.

    Returns:
        float32 (30, 4), whole numbers, squares of equal side within the frame.
    """
    longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    side = int(min(round(settings.margin * np.median(longer)), height, width))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sigma = settings.smoothing_s / (DURATION_S / FRAME_COUNT)
    distance = np.arange(FRAME_COUNT)[:, None] - np.arange(FRAME_COUNT)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    centres = (weights @ centres) / weights.sum(axis=1, keepdims=True)
    corner = np.rint(centres - side / 2)
    corner = np.clip(corner, 0, (width - side, height - side))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def crop(frames: Sequence[av.VideoFrame], boxes: np.ndarray) -> np.ndarray:
    """Cut out each frame's box and resize it, bilinear and antialiased.

    Only one frame is RGB at a time. The file's own matrix (RAVDESS: BT.709, limited range)
    decides the colours.

    Args:
        frames: 30 frames.
        boxes: (30, 4), whole x1, y1, x2, y2 in pixels, within the frames.

    Returns:
        uint8 RGB (30, 224, 224, 3).
    """
    crops = np.empty((len(frames), FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    for out, frame, (x1, y1, x2, y2) in zip(crops, frames, boxes.astype(int), strict=True):
        part = torch.from_numpy(frame.to_ndarray(format="rgb24")[y1:y2, x1:x2])
        part = part.permute(2, 0, 1)[None]  # (h, w, 3) -> (1, 3, h, w)
        size = (FRAME_SIZE, FRAME_SIZE)
        part = functional.interpolate(part, size, mode="bilinear", antialias=True)
        out[:] = part[0].permute(1, 2, 0).numpy()
    return crops


def _probable(boxes: np.ndarray | None, scores: np.ndarray, least: float) -> np.ndarray:
    """The detector's faces of one frame as (n, 5): x1, y1, x2, y2, probability >= least."""
    if boxes is None:  # the detector's way to say: no face
        return np.empty((0, 5))
    faces = np.column_stack([boxes.astype(float), scores.astype(float)])
    return faces[faces[:, 4] >= least]


def _area(box: np.ndarray) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:4]) / 2
