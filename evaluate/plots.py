"""The report's figures, drawn once for a light and once for a dark page."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from cache.clips import EMOTIONS
from evaluate.run_files import Run

_DOTS_PER_INCH = 144


@dataclass(frozen=True)
class Theme:
    """The colours of a page: background, text, secondary text, lines, and three for data."""

    paper: str
    ink: str
    muted: str
    line: str
    test: str
    train: str
    best: str
    shades: tuple[str, ...]  # of a share from 0 to 1
    ink_on_high: str  # text on shades where `ink` is hard to read


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d2126",
    muted="#59626c",
    line="#d9dde2",
    test="#1f5a99",
    train="#9aa5b1",
    best="#b3541e",
    shades=("#f8fafc", "#c3d7ec", "#5f97cc", "#1f5a99", "#123a66"),
    ink_on_high="#ffffff",
)
DARK = Theme(
    paper="#1a1e23",
    ink="#e7eaed",
    muted="#a7b0ba",
    line="#3a424b",
    test="#83b7ee",
    train="#6d7884",
    best="#f0a36b",
    shades=("#1f242a", "#264361", "#35689c", "#7db0e3", "#cfe3f7"),
    ink_on_high="#0f1318",
)


def confusion_figure(counts: np.ndarray, theme: Theme = LIGHT) -> Figure:
    """A confusion matrix: colour and percent by row, the number of clips above.

    Args:
        counts: int (8, 8), clips of true emotion `row` predicted as `column`.
        theme: colours.
    """
    of_row = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_row, out=np.zeros(counts.shape), where=of_row > 0)
    figure = Figure(figsize=(7.2, 6.4), dpi=_DOTS_PER_INCH, layout="constrained")
    figure.set_facecolor(theme.paper)
    axes = figure.add_subplot()
    shades = LinearSegmentedColormap.from_list("shades", theme.shades)
    image = axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        colour = _most_readable((theme.ink, theme.ink_on_high), on=shades(shares[row, column]))
        if counts[row, column] == 0:
            colour = theme.muted
        axes.annotate(
            f"{counts[row, column]}",
            (column, row),
            xytext=(0, 5.5),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9.5,
            color=colour,
        )
        axes.annotate(
            f"{100 * shares[row, column]:.0f} %" if of_row[row, 0] else "no clip",
            (column, row),
            xytext=(0, -6.5),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=colour,
        )
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set_xlabel("predicted emotion")
    axes.set_ylabel("true emotion")
    bar = figure.colorbar(image, ax=axes, shrink=0.82, aspect=32, pad=0.02)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0 %", "25 %", "50 %", "75 %", "100 %"])
    bar.set_label("share of the true emotion's clips")
    for each in (axes, bar.ax):
        _dress(each, theme)
        each.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar.outline.set_visible(False)
    return figure


def curves_figure(runs: list[Run], theme: Theme = LIGHT) -> Figure:
    """Learning curves: accuracy above, loss below, a column for each fold.

    A disc marks the last epoch, which is the result; a ring the epoch that was best on the test
    actors, which is not.

    Args:
        runs: finished runs of one model, at least one.
        theme: colours.
    """
    columns = len(runs)
    figure = Figure(
        figsize=(max(4.2, 0.9 + 1.95 * columns), 4.6), dpi=_DOTS_PER_INCH, layout="constrained"
    )
    figure.set_facecolor(theme.paper)
    grid = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for column, run in enumerate(runs):
        epoch = np.array([line["epoch"] for line in run.epochs])
        accuracy, loss = grid[:, column]
        for axes, quantity, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
            for part, colour, width in (("train", theme.train, 1.1), ("test", theme.test, 1.5)):
                values = np.array([line[f"{part}_{quantity}"] for line in run.epochs], dtype=float)
                axes.plot(epoch, scale * values, color=colour, linewidth=width, label=part)
            _dress(axes, theme)
            axes.grid(axis="y", color=theme.line, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        test = 100 * np.array([line["test_accuracy"] for line in run.epochs])
        best = int(test.argmax())
        mark = {"linestyle": "none", "marker": "o", "clip_on": False, "zorder": 3}
        accuracy.plot(
            epoch[best],
            test[best],
            **mark,
            markersize=7.5,
            markerfacecolor="none",
            markeredgecolor=theme.best,
            markeredgewidth=1.5,
            label="best-on-test",
        )
        accuracy.plot(
            epoch[-1], test[-1], **mark, markersize=4.5, color=theme.test, label="last epoch"
        )
        accuracy.set_ylim(0, 100)
        accuracy.set_title(f"fold {run.fold}", fontsize=9.5, color=theme.ink)
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True, nbins=4)
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel("loss")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.ink,
    )
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    # Matplotlib would else write its version into the file.
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


def width_px(image: bytes) -> int:
    """The width in CSS pixels (96 an inch) at which a PNG of `png` has its intended size."""
    (dots,) = struct.unpack_from(">I", image, 16)  # the first field of the PNG's header
    return round(96 * dots / _DOTS_PER_INCH)


def _most_readable(inks: Sequence[str], on: tuple[float, ...]) -> str:
    """The ink with the highest contrast on a colour, as WCAG 2 defines contrast."""

    def luminance(colour: str | tuple[float, ...]) -> float:
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    def contrast(ink: str) -> float:
        lower, higher = sorted((luminance(ink), luminance(on)))
        return (higher + 0.05) / (lower + 0.05)

    return max(inks, key=contrast)


def _dress(axes: Axes, theme: Theme) -> None:
    """Give axes the theme's colours and quiet ticks."""
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.muted, labelcolor=theme.ink, labelsize=8.5, width=0.6)
    axes.spines[:].set_color(theme.line)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(theme.muted)
        axis.label.set_size(9)
