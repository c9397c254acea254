"""The 68 facial points of a clip: from a CSV in the columns of OpenFace, or by dlib.

CSVs are as published for RAVDESS (Zenodo 3255102, OpenFace 2.1.0), or have only the columns named
here. dlib's model was trained on iBUG 300-W, whose license forbids commercial use of the model too.
It is the file inside the package face-recognition-models.

Source of dlib's: Kazemi & Sullivan 2014; Sagonas et al. 2016.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import files
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from cache.ravdess import FRAME_RATE_HZ
from cache.schema import POINT_COUNT, POINT_LIMIT
from preprocess import settings
from preprocess.limits import ClipError
from preprocess.windows import frame_times_s

# Limits of a CSV. That of a RAVDESS clip has 12 kB in its longest line, and 1 MB in all.
MAX_TABLE_BYTES = 16 * 2**20
MAX_FRAMES = 7200  # one minute at 120 frames per second
MAX_LINE_BYTES = 2**16

_WANTED = ("frame", "confidence", *(f"{xy}_{p}" for xy in "xy" for p in range(POINT_COUNT)))

# To all 256 values of brightness, from 16 to 235 as videos have them.
_STRETCH = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Track:
    """The points of a clip over time."""

    frames: np.ndarray  # the number of the video's frame of each row, from 0, int (rows,), rising
    times_s: np.ndarray | None  # when each is shown, float64 (rows,); None if the CSV does not say
    found: np.ndarray  # the numbers of the frames with a face, int (n,), rising
    points: np.ndarray  # x, y in pixels of the video, float64 (n, 68, 2)

    def frame_index(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The frames on the screen at the 30 times of a clip without its video.

        Times are those of RAVDESS, 30000/1001 frames per second, or of the CSV, if one of them is
        half a frame or more away. Returns the numbers of the frames, uint16 (30,), from 0, and
        notes for the manifest. ClipError if the CSV has no times, or ends more than 0.25 s early.
        """
        if self.times_s is None:
            raise ClipError("the landmark file has no column timestamp, and there is no video")
        wanted_s, last_s = frame_times_s(), (self.frames[-1] + 1) / FRAME_RATE_HZ
        if (np.abs(self.times_s - self.frames / FRAME_RATE_HZ) * FRAME_RATE_HZ < 0.5).all():
            index = np.minimum(np.floor(wanted_s * FRAME_RATE_HZ), self.frames[-1])
        else:
            if not (np.diff(self.times_s) > 0).all():
                raise ClipError("the timestamps of the landmark file are not increasing")
            index = self.frames[np.maximum(np.searchsorted(self.times_s, wanted_s, "right") - 1, 0)]
            last_s = self.times_s[-1] + np.diff(self.times_s[-2:]).sum()
        if last_s < (least_s := wanted_s[-1] - settings.SHORTFALL_S):
            raise ClipError(
                f"the landmarks end at {last_s:.2f} s ({len(self.frames)} frames), expected at "
                f"least {least_s:.2f} s"
            )
        late = (wanted_s > last_s).sum()
        note = f"landmarks end at {last_s:.3f} s: last frame repeated {late} times"
        return index.astype(np.uint16), (note,) if late else ()

    def at(
        self, frame_index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
        """The points of the wanted frames, uint16 (30,), from 0, and the boxes around them.

        Returns boxes float64 (30, 4), x1, y1, x2, y2 in pixels; scores float32 (30,), 1, or 0 where
        interpolated; points float32 (30, 68, 2); and notes for the manifest. ClipError if fewer
        than half of these frames have points.
        """
        known = np.isin(frame_index, self.found)
        count = f"landmarks for {known.sum()} of {len(frame_index)} frames"
        if known.sum() < settings.MIN_FOUND * len(frame_index):
            raise ClipError(f"{count}, expected half or more")
        # (n, 68, 2) -> (n, 4 + 136)
        corners = self.points.min(axis=1), self.points.max(axis=1)
        values = np.concatenate([*corners, self.points.reshape(len(self.found), -1)], axis=1)
        values = np.column_stack([np.interp(frame_index, self.found, each) for each in values.T])
        points = values[:, 4:].reshape(-1, POINT_COUNT, 2).astype(np.float32)
        return values[:, :4], known.astype(np.float32), points, () if known.all() else (count,)


def read_track(content: bytes) -> Track:
    """Read the bytes of a CSV with a header and one row per frame.

    Columns are `frame` from 1, `timestamp` in seconds (not needed with a video), `confidence` 0..1,
    `x_0`..`x_67` and `y_0`..`y_67` in pixels; others are ignored. Frames of low confidence count as
    frames without a face. ClipError if it is not such a CSV, has points that are not finite or far
    from any picture, or has no frame with a face.
    """
    # Before anything is made of them: a number takes many times the bytes of its text.
    num_lines = max(content.count(b"\n"), content.count(b"\r"))
    if len(content) > MAX_TABLE_BYTES or num_lines > MAX_FRAMES:
        raise ClipError(
            f"the landmark file has {len(content)} bytes in {num_lines} lines, expected at most "
            f"{MAX_TABLE_BYTES} in {MAX_FRAMES} for one short clip"
        )
    if (longest := max(map(len, content.split(b"\n")))) > MAX_LINE_BYTES:
        most = f"expected at most {MAX_LINE_BYTES}"
        raise ClipError(f"the landmark file has a line of {longest} bytes, {most}")
    header, _, rows = content.partition(b"\n")
    names = [name.strip() for name in header.decode("ascii", "replace").split(",")]
    if missing := [name for name in _WANTED if name not in names]:
        raise ClipError(f"the landmark file has no column {missing[0]}: not OpenFace's 2D points")
    if not rows.strip():
        raise ClipError("the landmark file has no frame with a face")
    columns = [names.index(name) for name in (*_WANTED, "timestamp") if name in names]
    try:
        table = np.loadtxt(io.BytesIO(rows), delimiter=",", usecols=columns, ndmin=2)
    except ValueError as exc:
        raise ClipError(f"the landmark file is damaged ({exc})") from exc
    if not ((table[:, 0] >= 1) & (table[:, 0] <= 2**16)).all():  # they are kept as uint16, from 0
        raise ClipError(f"the landmark file has frame numbers other than 1 to {2**16}")
    table = table[np.argsort(table[:, 0], kind="stable")]
    frames = table[:, 0].astype(int) - 1
    good = table[:, 1] >= settings.MIN_CONFIDENCE
    if not good.any():
        raise ClipError("the landmark file has no frame with a face")
    # Columns (n, x_0..x_67 y_0..y_67) -> (n, 68, 2)
    points = table[good, 2 : 2 + 2 * POINT_COUNT].reshape(-1, 2, POINT_COUNT).swapaxes(1, 2)
    bad = ~(np.abs(points) <= POINT_LIMIT).all(axis=(1, 2))
    if bad.any():
        raise ClipError(
            f"the landmarks of frame {frames[good][bad][0] + 1} contain NaN, Inf or numbers beyond "
            f"{POINT_LIMIT} pixels"
        )
    times_s = table[:, -1] if "timestamp" in names else None
    return Track(frames, times_s, frames[good], points)


def predict_landmarks(
    frames: Sequence[av.VideoFrame], boxes: np.ndarray, crops: np.ndarray
) -> np.ndarray:
    """The points of a face in 30 frames of one size: x, y in whole pixels, float32 (30, 68, 2).

    `boxes` are those of `detect_faces`; `crops`, of `crop_boxes`, the parts to look at: (30, 4),
    x1, y1, x2, y2 in pixels.
    """
    import dlib

    predict = _predictor()
    size = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + size[:, 1:] * (0, settings.DLIB_SHIFT)
    half = settings.DLIB_SIDE / 2 * np.sqrt(size.prod(axis=1, keepdims=True))
    squares = np.concatenate([center - half, center + half], axis=1) - np.tile(crops[:, :2], 2)
    points = []
    for frame, crop, square in zip(frames, crops.astype(int), np.rint(squares), strict=True):
        shape = predict(_brightness(frame, *crop), dlib.rectangle(*square.astype(int).tolist()))
        points.append([(point.x, point.y) for point in shape.parts()])
    return np.array(points, np.float32) + crops[:, None, :2]


def _brightness(frame: av.VideoFrame, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A part of a frame from `Video.shown` in gray, uint8 (H, W), 0..255."""
    if not frame.format.name.startswith("yuv"):
        frame = frame.reformat(format="gray")
    plane = frame.planes[0]  # brightness, one byte per pixel; all 256 values in gray and yuvj
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    part = rows[top:bottom, left:right]
    is_limited = frame.format.name.startswith("yuv4") and frame.color_range != ColorRange.JPEG
    return np.take(_STRETCH, part) if is_limited else np.ascontiguousarray(part)


@lru_cache(maxsize=1)
def _predictor() -> Any:
    """The shape predictor of this process, of 100 MB."""
    import dlib

    # Found by its metadata: the package cannot be imported where setuptools lacks pkg_resources.
    packaged = files("face-recognition-models")
    model = next(file for file in packaged if file.name == settings.DLIB_MODEL)
    return dlib.shape_predictor(str(model.locate()))
