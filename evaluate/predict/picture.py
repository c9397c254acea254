"""What a prediction looks like: the face, the probabilities over time, and where sound points."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from warnings import catch_warnings, filterwarnings

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from torch.nn import functional

from cache.command import printable
from cache.files import atomic_path
from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S, FRAME_COUNT
from evaluate.predict.predictor import MIDDLE, SHOWN_WINDOWS, Prediction, WindowPrediction
from model.landmarks import PARTS, PLACES

# One color per emotion, the same in all pictures; Paul Tol's "light" and "bright" schemes, which
# people of all color vision tell apart.
_TINTS = ("#777777", "#66ccee", "#ccbb44", "#4477aa", "#ee6677", "#aa3377", "#228833", "#ee8866")
COLORS = dict(zip(EMOTIONS, _TINTS, strict=True))
BOX = "#ffee55"  # the color of a face's box
STRONGEST = 2.0  # times the mean attention: from here on the overlay is opaque
_ROLES = (*PLACES, "pose")  # what attention over landmarks is about
_FRAME_HEIGHT = 360  # of the whole frame, in pixels


def overlay(crop: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A face, uint8 RGB (H, W, 3), gray where the attention is low and glowing where it is high.

    The attention is float (h, w), as multiples of its mean; each entry is a cell of the face.
    """
    weights = torch.from_numpy(attention)[None, None]
    sized = functional.interpolate(weights, crop.shape[:2], mode="nearest")[0, 0].numpy()
    strength = np.clip(sized / STRONGEST, 0, 1)
    glow = 255 * colormaps["inferno"](strength)[..., :3]
    share = 0.65 * strength[..., None]
    return np.rint((1 - share) * crop.mean(axis=2, keepdims=True) + share * glow).astype(np.uint8)


def glowing(face: np.ndarray, window: WindowPrediction, number: int) -> np.ndarray:
    """A face of a window with the attention over it, or over its points if it has those.

    `face` is the face box of frame `number`, 0..29, as uint8 RGB (H, H, 3) of any size.
    """
    if window.points is None:
        return overlay(face, window.attention[number])
    left, top, right, _ = window.boxes[number]
    points = (window.points[number] - (left, top)) * (len(face) / (right - left))
    strength = np.clip(window.attention[number] / STRONGEST, 0, 1)
    image = Image.fromarray(np.repeat(face.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8))
    for share, own in zip(strength, PLACES.values(), strict=False):  # the pose has no points
        color = tuple(int(255 * each) for each in colormaps["inferno"](share)[:3])
        dot(image, points[list(own)], len(face) / 224 * (1 + 3 * share), color)
    return np.asarray(image)


def dot(image: Image.Image, points: np.ndarray, radius: float, color: str | tuple) -> None:
    """Draw points (n, 2), x, y in pixels, as filled circles on an image."""
    pen = ImageDraw.Draw(image)
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def draw(name: str, prediction: Prediction, path: Path, *, warnings: Sequence[str] = ()) -> None:
    """Write a PNG of a prediction, see `figure_of`; it appears whole or not at all."""
    with atomic_path(path) as temporary, catch_warnings():
        filterwarnings("ignore", "Glyph", UserWarning)  # names in other scripts
        figure = figure_of(name, prediction, warnings)
        figure.savefig(temporary, format="png", metadata={"Software": None})


def figure_of(name: str, prediction: Prediction, warnings: Sequence[str] = ()) -> Figure:
    """Draw the frame with its face box, the probabilities, the faces and the attention."""
    first = prediction.usable[0]
    rows = (first.crops is not None) + (first.attention is not None)  # of faces
    wide = first.frame is not None or len(prediction.windows) > 1  # else bars are all there is
    width, columns = (12, 110) if wide else (6.5, 60)
    figure = Figure(figsize=(width, 3.6 + 2.3 * rows), layout="constrained", dpi=110)
    heights = [3.6, 2.3 * rows] if rows else [3.6]
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    best = int(prediction.probabilities.argmax())
    title = f"{printable(name)}: {EMOTIONS[best]}, {prediction.probabilities[best]:.0%}"
    # parse_math=False: the name of a file may contain anything, "$" and "_" too.
    lines = [textwrap.shorten(title, columns)]
    lines += [line for each in warnings for line in textwrap.wrap(printable(each), columns)]
    figure.suptitle("\n".join(lines), fontweight="bold", parse_math=False)
    # Above: the whole frame, if there is one, and the probabilities.
    axes = parts[0].subplots(1, 1 + (first.frame is not None), squeeze=False)[0]
    if first.frame is not None:
        scale = _FRAME_HEIGHT / first.frame.height
        pixels = max(1, round(first.frame.width * scale))
        axes[0].imshow(first.frame.reformat(pixels, _FRAME_HEIGHT, "rgb24").to_ndarray())
        x1, y1, x2, y2 = first.boxes[MIDDLE] * scale
        axes[0].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=BOX, lw=2))
        if first.points is not None:
            axes[0].scatter(*(first.points[MIDDLE] * scale).T, s=3, color=BOX)
        axes[0].axis("off")
    if len(prediction.windows) == 1:
        _draw_bars(axes[-1], prediction.probabilities)
    else:
        _draw_timeline(axes[-1], prediction.windows)
    if rows:
        _draw_faces(parts[1].subplots(rows, SHOWN_WINDOWS, squeeze=False), prediction)
    if rows == 2:
        note = "Lower row: attention guided by the sound, per part that the network tells apart"
        brightness = f"1 x is the mean, {STRONGEST:.0f} x and more is brightest"
        parts[1].supxlabel(f"{note}; {brightness}", fontsize=9)
    return figure


def _draw_faces(axes: np.ndarray, prediction: Prediction) -> None:
    """Draw up to six faces, and below each the same face with the attention over it."""
    # The middle face of each window; several of a single window, of landmarks one per part of time.
    numbers = [MIDDLE]
    if len(prediction.windows) == 1:
        count = SHOWN_WINDOWS if prediction.usable[0].points is None else PARTS
        numbers = [int((n + 0.5) * FRAME_COUNT / count) for n in range(count)]
    shown = [(window, number) for window in prediction.usable for number in numbers]
    for place in axes.flat:
        place.axis("off")
    for (window, number), places in zip(shown, axes.T, strict=False):
        time_s = window.start_s + (number + 0.5) * DURATION_S / FRAME_COUNT
        places[0].imshow(window.crops[number])
        places[0].set_title(f"{time_s:.2f} s", fontsize=9)
        if window.attention is not None:
            attention = window.attention[number]
            places[1].imshow(glowing(window.crops[number], window, number))
            title = f"up to {attention.max():.1f} x the mean"
            if window.points is not None:
                most = _ROLES[attention.argmax()]
                title = f"{most} {attention.max():.1f} x, pose {attention[-1]:.1f} x"
            places[1].set_title(title, fontsize=9)


def _draw_bars(axes: Axes, probabilities: np.ndarray) -> None:
    bars = axes.barh(EMOTIONS, probabilities, color=list(COLORS.values()))
    axes.bar_label(bars, [f"{share:.1%}" for share in probabilities], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_timeline(axes: Axes, windows: Sequence[WindowPrediction]) -> None:
    """Stack the probabilities around the middle of each window; empty where there are none."""
    middles = np.array([window.middle_s for window in windows])
    hop_s = min(np.diff(middles), default=DURATION_S)
    edges = np.repeat(np.append(middles - hop_s / 2, middles[-1] + hop_s / 2), 2)[1:-1]
    none = np.zeros(len(EMOTIONS))
    shares = np.array([none if w.problem else w.probabilities for w in windows])  # (windows, 8)
    # One shape of steps per emotion, because thousands of windows would make too many bars.
    tops = np.repeat(shares.cumsum(axis=1), 2, axis=0)  # (2 * windows, 8)
    for index, (emotion, color) in enumerate(COLORS.items()):
        below = tops[:, index - 1] if index else 0
        axes.fill_between(edges, below, tops[:, index], color=color, label=emotion, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"seconds (middle of a window of {DURATION_S} s)")
    axes.set_ylabel("probability")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, reverse=True)
