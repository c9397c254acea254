"""The steady square crop around a face."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from cache.schema import DURATION_S, FRAME_COUNT, FRAME_SIZE
from preprocess.decode import ClipError
from preprocess.settings import FaceSettings

# A face of fewer pixels shows nothing; the detector finds none, but landmarks may say anything.
MIN_SIDE = 16

# How swscale converts and resizes: the mean of the area under each pixel (bilinear where it
# enlarges), colour kept at full resolution, and the same bytes whatever the processor can do.
_SCALING = "area+full_chroma_inp+full_chroma_int+accurate_rnd+bitexact"


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

    Raises:
        ClipError: if the boxes are too small to be a face.
    """
    longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    side = int(min(round(settings.margin * np.median(longer)), height, width))
    if side < MIN_SIDE:
        raise ClipError(f"a face of {side} pixels, expected {MIN_SIDE} or more")
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    sigma = settings.smoothing_s / (DURATION_S / FRAME_COUNT)
    distance = np.arange(FRAME_COUNT)[:, None] - np.arange(FRAME_COUNT)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    centres = (weights @ centres) / weights.sum(axis=1, keepdims=True)
    # The last digits are noise; at the middle between two pixels they would make the crop jump.
    corner = np.rint(np.round(centres - side / 2, 3))
    corner = np.clip(corner, 0, (width - side, height - side))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def crop(frames: Sequence[av.VideoFrame], boxes: np.ndarray) -> np.ndarray:
    """Cut out each frame's box, and resize and convert no more than that.

    The file's own matrix (RAVDESS: BT.709, limited range) decides the colours.

    Args:
        frames: 30 frames of one size and format.
        boxes: (30, 4), whole x1, y1, x2, y2 in pixels, squares of equal side within the frames.

    Returns:
        uint8 RGB (30, 224, 224, 3).
    """
    side = int(boxes[0, 2] - boxes[0, 0])
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frames[0].width,
        height=frames[0].height,
        format=frames[0].format.name,
        time_base=Fraction(1, 1000),
    )
    # Exact: a video's colour has half the resolution of its light, and at odd pixels it lies half
    # of its pixel off. The alternative are crops that jump by two pixels, which is worse.
    cut = graph.add("crop", f"{side}:{side}:0:0:exact=1")
    scale = graph.add("scale", f"{FRAME_SIZE}:{FRAME_SIZE}:flags={_SCALING}")
    to_rgb, sink = graph.add("format", "rgb24"), graph.add("buffersink")
    graph.link_nodes(source, cut, scale, to_rgb, sink).configure()
    crops = np.empty((len(frames), FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    for out, frame, (left, top) in zip(crops, frames, boxes[:, :2].astype(int), strict=True):
        cut.process_command("x", str(left))
        cut.process_command("y", str(top))
        graph.push(frame)
        out[:] = graph.pull().to_ndarray()
    return crops
