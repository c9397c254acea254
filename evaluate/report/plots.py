"""The figures of the report, and how they become SVG inside a page.

They are drawn in colors that `inline` replaces with those of the page.
"""

import html
import io
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cache.ravdess import EMOTIONS
from evaluate.report.figures import ModelReport
from train.record import Run

# Figures are drawn in these colors, which the page replaces: one figure for light and dark.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
TEST, TRAIN, BEST, HEAT = "#010104", "#010105", "#010106", "#010107"
_SHOWN = {
    **{INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)"},
    **{TEST: "var(--accent)", TRAIN: "var(--train)", BEST: "var(--best)", HEAT: "var(--heat)"},
}

# A disc marks the last epoch, which is the result; a ring the best epoch on the test actors.
_MARK = {"linestyle": "none", "marker": "o", "clip_on": False, "zorder": 3}
_DISC = {**_MARK, "color": TEST, "label": "last epoch: the result"}
_RING = {
    **{**_MARK, "markersize": 7.5, "label": "best-on-test"},
    **{"markerfacecolor": "none", "markeredgecolor": BEST, "markeredgewidth": 1.5},
}


def confusion_figure(confusion: list[list[int]]) -> Figure:
    """Draw a confusion matrix (8, 8): the number of clips, and below it the percentage of the row.

    Rows are true emotions, columns predicted ones.
    """
    counts = np.array(confusion)
    of_row = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_row, out=np.zeros(counts.shape), where=of_row > 0)
    figure = Figure(figsize=(6.6, 5.6), layout="constrained")
    axes = figure.add_subplot()
    size = len(EMOTIONS)
    for row, column in np.ndindex(*counts.shape):
        share, clips = shares[row, column], counts[row, column]
        center = {"ha": "center", "va": "center"}
        if not clips:
            axes.text(column, row, "0", fontsize=9.5, color=MUTED, **center)
            continue
        corner, alpha = (column - 0.5, row - 0.5), 0.1 + 0.9 * share  # a single clip shows too
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=HEAT, alpha=alpha, linewidth=0))
        axes.text(column, row - 0.14, f"{clips}", fontsize=9.5, color=INK, **center)
        axes.text(column, row + 0.22, f"{100 * share:.0f} %", fontsize=8, color=INK, **center)
    axes.set_xticks(range(size), EMOTIONS, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), EMOTIONS)
    axes.set(xlabel="predicted emotion", ylabel="true emotion")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    _dress(axes)
    axes.tick_params(length=0)
    return figure


def curves_figure(runs: list[Run]) -> Figure:
    """Learning curves: accuracy above, loss below, one column per fold, one line per seed.

    Training is dashed, so that the curves differ not only in color.
    """
    folds = list(dict.fromkeys(run.fold for run in runs))
    columns = len(folds)
    figure = Figure(figsize=(max(4.2, 0.9 + 1.75 * columns), 4.4), layout="constrained")
    grid = figure.subplots(2, columns, sharex=True, sharey="row", squeeze=False)
    for run in runs:
        accuracy, loss = grid.T[folds.index(run.fold)]
        epochs = [epoch.epoch for epoch in run.metrics]
        for axes, quantity, scale in ((accuracy, "accuracy", 100), (loss, "loss", 1)):
            for part, label, style in (
                ("train", "training actors", {"color": TRAIN, "linewidth": 1.1, "dashes": (3, 2)}),
                ("test", "test actors", {"color": TEST, "linewidth": 1.5}),
            ):
                values = [scale * getattr(epoch, f"{part}_{quantity}") for epoch in run.metrics]
                axes.plot(epochs, values, label=label, **style)
            _dress(axes)
            axes.grid(axis="y", color=LINE, linewidth=0.6)
            axes.spines[["left", "bottom"]].set_visible(True)
        test = [100 * epoch.test_accuracy for epoch in run.metrics]
        best = test.index(max(test))
        accuracy.plot(epochs[best], test[best], **_RING)
        accuracy.plot(epochs[-1], test[-1], **_DISC, markersize=4.5)
        accuracy.set_ylim(0, 100)
        accuracy.set_title(f"fold {run.fold}", fontsize=9.5, color=INK)
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True, nbins=4)
    grid[0, 0].set_ylabel("accuracy (%)")
    grid[1, 0].set_ylabel("loss")
    _legend(figure, grid[0, 0], columns=4 if columns > 2 else 2)
    return figure


def overview_figure(models: dict[str, ModelReport]) -> Figure:
    """One line per model: its accuracy at the last epoch with the interval, and at its best one."""
    figure = Figure(figsize=(6.6, 0.9 + 0.27 * len(models)), layout="constrained")
    axes = figure.add_subplot()
    for row, model in enumerate(models.values()):
        last, best = model.figures["accuracy_last"], model.figures["accuracy_best_on_test"]
        if last["interval"]:
            bounds = 100 * np.array(last["interval"])
            axes.plot(bounds, [row, row], color=TEST, linewidth=1.5, label="95 % interval")
        axes.plot(100 * best["mean"], row, **_RING)
        axes.plot(100 * last["mean"], row, **_DISC, markersize=5)
    axes.axvline(100 / len(EMOTIONS), color=MUTED, linewidth=0.8, dashes=(3, 2), label="chance")
    names = [f"{name} *" if model.shortfall else name for name, model in models.items()]
    axes.set_yticks(range(len(models)), names)
    axes.set(xlabel="accuracy (%)", xlim=(0, 100), ylim=(len(models) - 0.4, -0.6))
    _dress(axes)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.tick_params(length=0)
    _legend(figure, axes, columns=4)
    return figure


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One entry for each kind of mark, above the figure."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    look = {"frameon": False, "fontsize": 8.5, "labelcolor": INK}
    above = {"loc": "outside upper center", "ncols": columns}
    figure.legend(handles.values(), handles, **above, **look)


def _dress(axes: Axes) -> None:
    """Give axes the colors of the page and quiet ticks."""
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=8.5, width=0.6)
    axes.spines[:].set_visible(False)
    axes.spines[:].set_color(LINE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(MUTED)
        axis.label.set_size(9)
        axis.get_offset_text().set_color(MUTED)


def inline(figure: Figure, slug: str, title: str, description: str) -> str:
    """A figure as an `svg` element; the same figure and words give the same text.

    `slug`, another one for each figure, starts every id. Title and description are read out.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": slug}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", metadata=nothing)
    head, body = re.fullmatch(r".*?<svg([^>]*)>(.*)", drawn.getvalue(), re.DOTALL).groups()
    for pattern, replacement in (
        (r"<style.*?</style>", ""),  # would apply to the whole page
        (r">\s+<", "><"),
        (r'<g id="[^"]*"', "<g"),  # nothing refers to groups
        (r'( id="|url\(#)', rf"\g<1>{slug}-"),
        (r'xlink:href="#', f'href="#{slug}-'),
        (r"font-family: [^;\"]*;? ?", ""),  # the page has its own
        ("#01010[1-7]", lambda found: _SHOWN[found[0]]),
    ):
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    (view,) = re.findall(r'viewBox="[^"]*"', head)
    return (
        f'<svg {view} role="img" aria-labelledby="{slug}-title {slug}-description">'
        f'<title id="{slug}-title">{html.escape(title)}</title>'
        f'<desc id="{slug}-description">{html.escape(description)}</desc>{body}'
    )
