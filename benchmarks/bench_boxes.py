"""The crops beside those of MTCNN on every frame at full size.

`python -m benchmarks.bench_boxes --raw DIR` (default: the real clips in CFNSR_REAL_DATA). The
reference looks at each of the 30 frames as it is, with `min_face_size=20`, and crops around each
box by itself. Both are squares of the same margin. Takes some seconds a clip.
"""

import argparse
import json
import statistics
import warnings
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import MTCNN
from tqdm import tqdm

from benchmarks.clips import find_sources
from preprocess.face import crop_boxes, detect_faces
from preprocess.settings import Settings
from preprocess.windows import decode


def reference_squares(pictures: list[np.ndarray], margin: float) -> np.ndarray:
    """float (30, 4): the largest face of each picture (H, W, 3), made square, with a margin."""
    detector = MTCNN(keep_all=True, min_face_size=20, post_process=False, device="cpu")
    squares = []
    for picture in pictures:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            boxes, _ = detector.detect(picture)
        if boxes is None:
            raise RuntimeError("the reference finds no face in a frame")
        x1, y1, x2, y2 = max(boxes.astype(float), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
        half = margin * max(x2 - x1, y2 - y1) / 2
        center = (x1 + x2) / 2, (y1 + y2) / 2
        squares.append([center[0] - half, center[1] - half, center[0] + half, center[1] + half])
    return np.array(squares)


def overlap(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Intersection over union, (n,), of boxes (n, 4)."""
    low, high = np.maximum(ours[:, :2], theirs[:, :2]), np.minimum(ours[:, 2:], theirs[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ours, theirs)]
    return common / (areas[0] + areas[1] - common)


def jitter(boxes: np.ndarray) -> float:
    """Mean absolute second difference over time of the center, in pixels."""
    return float(np.abs(np.diff((boxes[:, :2] + boxes[:, 2:]) / 2, 2, axis=0)).mean())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_boxes")
    parser.add_argument("--raw", type=Path, metavar="DIR", help="clips to measure on")
    args = parser.parse_args(argv)
    _, sources = find_sources(parser, args.raw, None)
    settings = Settings()
    overlaps, ours_jitter, reference_jitter = [], [], []
    for source in tqdm(sources):
        frames = decode(source.file.read()).frames
        boxes, _, _ = detect_faces(frames, settings.crop)
        ours = crop_boxes(boxes, frames[0].height, frames[0].width, settings.crop)
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        theirs = reference_squares(pictures, settings.crop.margin)
        overlaps += [*overlap(ours, theirs)]
        ours_jitter.append(jitter(ours))
        reference_jitter.append(jitter(theirs))
    result = {
        "clips": len(ours_jitter),
        "iou_median": statistics.median(overlaps),
        "iou_min": min(overlaps),
        "jitter_px": statistics.mean(ours_jitter),
        "reference_jitter_px": statistics.mean(reference_jitter),
        "jitter_lower_in_clips": sum(np.less(ours_jitter, reference_jitter).tolist()),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
