"""Where the face is: MTCNN on a few small frames of a clip.

Apart from the crop, so that runs which take published landmarks, or sound alone, need no torch.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from facenet_pytorch import MTCNN

from cache.schema import FRAME_COUNT
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
    torch.set_num_threads(1)
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
