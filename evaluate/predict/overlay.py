"""What a prediction looks like: the face, the probabilities over time, and where sound points."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from warnings import catch_warnings, filterwarnings

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from torch.nn import functional

from cache.files import atomic_path
from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S, FRAME_COUNT
from evaluate.predict.files import printable
from evaluate.predict.prediction import Prediction, Window

# One colour an emotion, the same in all pictures; Paul Tol's "light" and "bright" schemes, which
# people of all colour vision tell apart.
COLOURS = dict(
    zip(
        EMOTIONS,
        ("#777777", "#66ccee", "#ccbb44", "#4477aa", "#ee6677", "#aa3377", "#228833", "#ee8866"),
        strict=True,
    )
)
BOX = "#ffee55"  # of a face's box
STRONGEST = 2.0  # times the mean attention: from here on the overlay is opaque
_COLUMNS = 6
_WORDED = 40  # windows of a time line in which words have room


def over_mean(attention: torch.Tensor, frames: int = FRAME_COUNT) -> np.ndarray:
    """An attention map (S, h, w) that sums to 1, as multiples of its mean, for each frame.

    Returns:
        float32 (frames, h, w).
    """
    height, width = attention.shape[1:]
    relative = attention.float() * attention.numel()
    sized = functional.interpolate(
        relative[None, None], (frames, height, width), mode="trilinear", align_corners=False
    )
    return sized[0, 0].cpu().numpy()


def overlaid(crop: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A face with the attention over it: grey where it is low, glowing where it is high.

    Args:
        crop: uint8 RGB (H, W, 3).
        attention: float (h, w), over its mean.

    Returns:
        uint8 RGB (H, W, 3).
    """
    size = crop.shape[:2]
    sized = functional.interpolate(
        torch.from_numpy(attention)[None, None], size, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    strength = np.clip(sized / STRONGEST, 0, 1)
    glow = 255 * colormaps["inferno"](strength)[..., :3]
    grey = np.repeat(crop.mean(axis=2, keepdims=True), 3, axis=2)
    share = 0.65 * strength[..., None]
    return np.rint((1 - share) * grey + share * glow).astype(np.uint8)


def draw(name: str, prediction: Prediction, path: Path, *, warnings: Sequence[str] = ()) -> None:
    """Write a PNG: the frame with its face box, the probabilities, the faces and the attention.

    Args:
        name: of the file, for the title.
        prediction: with at least one usable window.
        path: the PNG; appears whole or not at all.
        warnings: what whoever looks at the picture should know of the network.
    """
    shown = [window for window in prediction.usable if window.crops is not None][:_COLUMNS]
    guided = any(window.attention is not None for window in shown)
    rows = 1 + bool(shown) + guided
    figure = Figure(figsize=(12, 3.6 + 2.3 * (rows - 1)), layout="constrained", dpi=110)
    heights = [3.6, 2.3 * (rows - 1)] if shown else [3.6]
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    best = int(prediction.probabilities.argmax())
    title = f"{printable(name)}: {EMOTIONS[best]}, {prediction.probabilities[best]:.0%}"
    # parse_math: a file may be called anything, "$" and "_" too
    figure.suptitle(
        "\n".join([textwrap.shorten(title, 110), *map(printable, warnings)]),
        fontweight="bold",
        parse_math=False,
    )
    framed = [window for window in prediction.usable if window.frame is not None]
    axes = parts[0].subplots(1, 1 + len(framed), squeeze=False)[0]
    for place, window in zip(axes, framed, strict=False):
        _draw_frame(place, window)
    if len(prediction.windows) == 1:
        _draw_bars(axes[-1], prediction.probabilities)
    else:
        _draw_time_line(axes[-1], prediction.windows)
    if shown:
        _draw_faces(parts[1], shown, guided)
    with atomic_path(path) as temporary, catch_warnings():
        filterwarnings("ignore", "Glyph", UserWarning)  # names of other scripts
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_faces(figure: SubFigure, windows: Sequence[Window], guided: bool) -> None:
    """A row of faces, and below it one of the same with the attention over them."""
    axes = figure.subplots(1 + guided, _COLUMNS, squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for column, (label, crop, attention) in enumerate(_faces(windows)):
        axes[0, column].imshow(crop)
        axes[0, column].set_title(label, fontsize=9)
        if attention is not None:
            axes[1, column].imshow(overlaid(crop, attention))
            axes[1, column].set_title(f"up to {attention.max():.1f} x the mean", fontsize=9)
    if guided:
        figure.supxlabel(
            "lower row: where the sound makes the network look, bright from "
            f"{STRONGEST:.0f} times the mean on",
            fontsize=9,
        )


def _faces(windows: Sequence[Window]) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Time, crop and attention of the faces to show: of one window several, of several one each."""
    faces = []
    for window in windows:
        for number, crop in zip(window.crop_numbers, window.crops, strict=True):
            time_s = window.start_s + (number + 0.5) * DURATION_S / FRAME_COUNT
            attention = None if window.attention is None else window.attention[number]
            faces.append((f"{time_s:.2f} s", crop, attention))
    return faces[:_COLUMNS]


def _draw_frame(axes: Axes, window: Window) -> None:
    axes.imshow(window.frame)
    axes.axis("off")
    x1, y1, x2, y2 = window.frame_box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BOX, linewidth=2))


def _draw_bars(axes: Axes, probabilities: np.ndarray) -> None:
    bars = axes.barh(EMOTIONS, probabilities, color=list(COLOURS.values()))
    axes.bar_label(bars, [f"{share:.1%}" for share in probabilities], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_time_line(axes: Axes, windows: Sequence[Window]) -> None:
    """Probabilities around the middle of each window, stacked; empty where there are none."""
    middles = np.array([window.middle_s for window in windows])
    hop_s = min(np.diff(middles), default=DURATION_S)
    edges = np.repeat(np.append(middles - hop_s / 2, middles[-1] + hop_s / 2), 2)[1:-1]
    shares = np.array(
        [np.zeros(8) if w.probabilities is None else w.probabilities for w in windows]
    )  # (windows, 8)
    tops = np.repeat(shares.cumsum(axis=1), 2, axis=0)  # one column of steps an emotion
    for index, emotion in enumerate(EMOTIONS):
        below = tops[:, index - 1] if index else 0
        axes.fill_between(
            edges, below, tops[:, index], color=COLOURS[emotion], label=emotion, linewidth=0
        )
    if len(windows) <= _WORDED:
        for window in windows:
            if window.probabilities is None:
                axes.text(
                    window.middle_s, 0.5, "none", rotation=90, ha="center", va="center", fontsize=8
                )
    axes.set_ylim(0, 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"seconds (middle of a window of {DURATION_S} s)")
    axes.set_ylabel("probability")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, reverse=True)
