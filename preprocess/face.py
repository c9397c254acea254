"""Where the face is (MTCNN on a few small frames), and the steady square crop around it."""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from cache.schema import DURATION_S, FRAME_COUNT, FRAME_SIZE
from preprocess.limits import ClipError
from preprocess.settings import MIN_FOUND, FaceSettings
from preprocess.shown import SCALING, filter_graph

# A smaller face shows nothing. The detector never finds one, but landmarks may be anything.
MIN_SIDE = 16


def detect_faces(
    frames: Sequence[av.VideoFrame], settings: FaceSettings
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Find the speaker's face in every `settings.every`-th of 30 frames, interpolate between.

    Returns boxes float64 (30, 4), x1, y1, x2, y2 in pixels of the frames; scores float32 (30,), 0
    where interpolated; and notes for the manifest. ClipError if fewer than half of the frames
    looked at show a face.
    """
    looked_at = sorted({*range(0, FRAME_COUNT, settings.every), FRAME_COUNT - 1})
    scale = settings.detect_height / frames[0].height
    width = max(1, round(frames[0].width * scale))
    reduced = {"width": width, "height": settings.detect_height, "format": "rgb24"}
    reduced["interpolation"] = Interpolation.AREA
    small = [frames[index].reformat(**reduced).to_ndarray() for index in looked_at]
    candidates = _candidates(np.stack(small), settings)
    faces = [each for each in candidates if len(each)]
    at = [index for index, each in zip(looked_at, candidates, strict=True) if len(each)]
    if len(at) < MIN_FOUND * len(looked_at):
        problem = f"a face in {len(at)} of {len(looked_at)} frames, expected half or more"
        raise ClipError(problem + _turn_hint(small[len(small) // 2], settings))
    # Of several faces, take the one nearest to where the largest usually is.
    centers = [(each[:, :2] + each[:, 2:4]) / 2 for each in faces]
    largest = [np.prod(each[:, 2:4] - each[:, :2], axis=1).argmax() for each in faces]
    typical = np.median([own[one] for own, one in zip(centers, largest, strict=True)], axis=0)
    nearest = [np.abs(own - typical).sum(axis=1).argmin() for own in centers]
    chosen = np.array([each[one] for each, one in zip(faces, nearest, strict=True)])
    sides = chosen[:, :4].T / scale
    boxes = np.column_stack([np.interp(range(FRAME_COUNT), at, side) for side in sides])
    scores = np.zeros(FRAME_COUNT, np.float32)
    scores[at] = chosen[:, 4]
    notes = []
    if len(at) < len(looked_at):
        notes.append(f"face found in {len(at)} of {len(looked_at)} frames looked at")
    if (crowd := max(map(len, faces))) > 1:
        notes.append(f"up to {crowd} faces in a frame: the largest, most central in time, was kept")
    return boxes, scores, tuple(notes)


def _turn_hint(picture: np.ndarray, settings: FaceSettings) -> str:
    """How to turn a picture without a face, uint8 RGB (H, W, 3), if it then shows one."""
    turns = {"by 180": 2, "clockwise by 90": 3, "counterclockwise by 90": 1}
    scores = {}
    for turn, quarters in turns.items():
        faces = _candidates(np.rot90(picture, quarters)[None].copy(), settings)[0]
        scores[turn] = faces[:, 4].max(initial=0)
    turn = max(scores, key=scores.get)
    advice = f"A face is found after rotating by {turn} degrees: rotate the video upright first"
    return f". {advice}" if scores[turn] else ""


def _candidates(pictures: np.ndarray, settings: FaceSettings) -> list[np.ndarray]:
    """The faces in each picture, uint8 RGB (n, H, W, 3), as rows x1, y1, x2, y2, probability."""
    # Imported here, because torch takes more memory than all the rest, and runs with published
    # landmarks or only sound do not need it.
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a sum that is split over threads is rounded differently
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # facenet-pytorch stacks ragged arrays in ways that newer numpy versions warn about.
            warnings.simplefilter("ignore")
            detected, probabilities = _detector(settings.min_face_size).detect(pictures)
    finally:
        torch.set_num_threads(threads)
    candidates = []
    for boxes, scores in zip(detected, probabilities, strict=True):
        if boxes is None:  # no face
            boxes, scores = np.empty((0, 4)), np.empty(0)
        faces = np.column_stack([boxes.astype(float), scores.astype(float)])
        candidates.append(faces[faces[:, 4] >= settings.score])
    return candidates


@lru_cache(maxsize=1)
def _detector(min_face_size: int) -> Any:
    """The MTCNN of this process. Only `detect` is used: `forward` fails without a face."""
    import torch
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, min_face_size=min_face_size, post_process=False, device="cpu")
    # Its pooling takes half of the time in the default layout.
    return detector.to(memory_format=torch.channels_last)


def crop_boxes(boxes: np.ndarray, height: int, width: int, settings: FaceSettings) -> np.ndarray:
    """Turn face boxes, (30, 4), into the steady square crops that are cut out.

    One side for the clip, `settings.margin` times the median of the boxes' longer sides; centers
    smoothed over time, so that the crop follows the head and does not tremble with the detector;
    shifted inside where it would leave the frame, of `height` and `width` pixels. Returns x1, y1,
    x2, y2, float32 (30, 4), whole pixels. ClipError if the boxes are too small to be a face.
    """
    longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    side = int(min(round(settings.margin * np.median(longer)), height, width))
    if side < MIN_SIDE:
        raise ClipError(f"a face of {side} pixels, expected {MIN_SIDE} or more")
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    sigma = settings.smoothing_s / (DURATION_S / FRAME_COUNT)
    distance = np.arange(FRAME_COUNT)[:, None] - np.arange(FRAME_COUNT)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    centers = (weights @ centers) / weights.sum(axis=1, keepdims=True)
    # The last digits are noise; at the middle between two pixels they would make the crop jump.
    corner = np.rint(np.round(centers - side / 2, 3))
    corner = np.clip(corner, 0, (width - side, height - side))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def crop(frames: Sequence[av.VideoFrame], boxes: np.ndarray) -> np.ndarray:
    """Cut out each frame's box, and only then resize and convert: uint8 RGB (30, 224, 224, 3).

    `frames` are of one size and format, as from `Video.shown`; `boxes`, (30, 4), whole x1, y1, x2,
    y2 in pixels, are squares of equal side within them. The file's matrix decides the colors.
    """
    side = int(boxes[0, 2] - boxes[0, 0])
    graph, (cut, *_) = filter_graph(
        frames[0],
        # exact=1: color has half the resolution of light, so at odd pixels it is half of its pixel
        # off. Without it, crops would jump by two pixels, which is worse.
        ("crop", f"{side}:{side}:0:0:exact=1"),
        ("scale", f"{FRAME_SIZE}:{FRAME_SIZE}:flags={SCALING}"),
        ("format", "rgb24"),
    )
    crops = np.empty((len(frames), FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    for out, frame, (left, top) in zip(crops, frames, boxes[:, :2].astype(int), strict=True):
        cut.process_command("x", str(left))
        cut.process_command("y", str(top))
        graph.push(frame)
        out[:] = graph.pull().to_ndarray()
    return crops
