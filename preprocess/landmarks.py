"""Face boxes from the OpenFace landmarks that are published for RAVDESS (Zenodo 3255102)."""

import io

import numpy as np

from preprocess.decode import ClipError
from preprocess.settings import MIN_CONFIDENCE, MIN_FOUND

POINTS = 68


def landmark_boxes(
    content: bytes, frame_index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The boxes around the 68 points of the wanted frames.

    Args:
        content: a CSV with a header and one row per frame: `frame` from 1, `confidence`,
            `x_0`..`x_67` and `y_0`..`y_67` in pixels; other columns are ignored.
        frame_index: uint16 (30,), numbers of the wanted frames, from 0.

    Returns:
        Boxes float64 (30, 4), x1, y1, x2, y2 in pixels; scores float32 (30,), 1, or 0 where the
        box was interpolated; notes for the manifest.

    Raises:
        ClipError: if the file is not such a CSV, or has points for fewer than half of the frames.
    """
    found, boxes = _read(content)
    order = np.searchsorted(found, frame_index)
    known = (order < len(found)) & (found[np.minimum(order, len(found) - 1)] == frame_index)
    if known.sum() < MIN_FOUND * len(frame_index):
        raise ClipError(
            f"landmarks for {known.sum()} of {len(frame_index)} frames, expected half or more"
        )
    chosen = np.column_stack([np.interp(frame_index, found, boxes[:, side]) for side in range(4)])
    notes = () if known.all() else (f"landmarks for {known.sum()} of {len(frame_index)} frames",)
    return chosen, known.astype(np.float32), notes


def _read(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers from 0, int (n,), rising, and boxes (n, 4) of the frames with a face."""
    wanted = ["frame", "confidence"]
    wanted += [f"{axis}_{point}" for axis in "xy" for point in range(POINTS)]
    header, _, rows = content.partition(b"\n")
    names = [name.strip() for name in header.decode("ascii", "replace").split(",")]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ClipError(f"the landmark file has no column {missing[0]}: not OpenFace's 2D points")
    if not rows.strip():
        raise ClipError("the landmark file has no frame with a face")
    columns = [names.index(name) for name in wanted]
    try:
        table = np.loadtxt(io.BytesIO(rows), delimiter=",", usecols=columns, ndmin=2)
    except ValueError as exc:
        raise ClipError(f"the landmark file is damaged ({exc})") from exc
    good = np.isfinite(table).all(axis=1) & (table[:, 1] >= MIN_CONFIDENCE)
    table = table[good][np.argsort(table[good, 0], kind="stable")]
    if not len(table):
        raise ClipError("the landmark file has no frame with a face")
    x, y = table[:, 2 : 2 + POINTS], table[:, 2 + POINTS :]
    boxes = np.column_stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)])
    return table[:, 0].astype(int) - 1, boxes
