"""The command line of comparisons: a table as Markdown, and as files with a picture."""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cache.command import FailedError, fail, run, warn
from cache.files import atomic_path, write_text
from evaluate.compare.rows import compare, read_settings
from evaluate.report.figures import Row
from evaluate.report.write import csv_text, markdown_table

_CAPTION = (
    "Accuracy after the last epoch on {actors} actors: the mean over seeds of the mean over folds, "
    "with its standard error over seeds. UAR: over the clips of all folds, as a mean over seeds. "
    "Difference: to row 1, as a mean over pairs of runs with the same fold, seed and clips, with "
    "its standard error over these pairs, as if they were independent."
)
_LOOKED = (
    "These runs were tested on the TEST actors. A setting that is chosen by this table is chosen "
    "on the test actors, so its accuracy is not a result. Record that they were looked at."
)
# Columns after the settings: the name in a row, the title, and the format of shares in percent.
_COLUMNS = (
    *(("folds", "folds", ""), ("seeds", "seeds", ""), ("runs", "runs", "")),
    *(("accuracy", "accuracy (%)", ".2f"), ("standard_error", "standard error", ".2f")),
    *(("uar", "UAR (%)", ".2f"), ("difference", "difference (points)", "+.2f")),
    *(("difference_standard_error", "standard error", ".2f"), ("pairs", "pairs", "")),
    ("folders", "folders", ""),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table of settings; returns the exit status, 1 if a run is left out."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.compare",
        description="Compare settings by their validation runs, paired with the first setting.",
    )
    add = parser.add_argument
    folders = "folders with <model>/validation_<k>/ at any depth; row 1 is of the first"
    add("folders", metavar="DIR", nargs="+", type=Path, help=folders)
    files = "folder for compare.md, compare.csv and compare.png"
    add("--out", metavar="DIR", type=Path, help=files)
    add("--test", action="store_true", help="read <model>/fold_<k>/, which looks at test actors")
    args = parser.parse_args(argv)
    return run(lambda: _compare(args.folders, args.out, test=args.test), extras="report")


def _compare(folders: Sequence[Path], out: Path | None, *, test: bool) -> int:
    settings, problems = read_settings(folders, "fold" if test else "validation")
    if test:
        warn(_LOOKED)
    for problem in problems:
        fail(problem, 1)
    if not settings:
        raise FailedError("no run is usable, so there is nothing to compare")
    differing, rows, notes = compare(settings)
    actors = "TEST" if test else "validation"
    table = markdown_table(
        title=f"Settings compared on {actors} actors",
        caption=_CAPTION.format(actors=actors),
        header=["row", *differing, *(title for _, title, _ in _COLUMNS)],
        rows=[
            [_text(row[name]) for name in ("row", *differing)]
            + [_text(row[name], form) for name, _, form in _COLUMNS]
            for row in rows
        ],
        notes=[*([_LOOKED] if test else []), *notes, *problems],
    )
    print(table, end="")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "compare.md", table)
        texts = [{name: _text(value) for name, value in row.items()} for row in rows]
        write_text(out / "compare.csv", csv_text(texts))
        with atomic_path(out / "compare.png") as temporary:
            figure = picture(rows, differing, actors)
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    return 1 if problems else 0


def _text(value: Any, form: str = "") -> str:
    """A value as text: in percent with a format, else a share with 6 digits; lists by spaces."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if form:
        return f"{100 * value:{form}}"
    return str(round(value, 6) if type(value) is float else value)


def picture(rows: Sequence[Row], differing: Sequence[str], actors: str) -> Figure:
    """Accuracies with their standard errors, and beside them the differences to the first row."""
    labels = []
    for row in rows:  # the settings in which a row differs from the first
        own = [name for name in differing if row is rows[0] or row[name] != rows[0][name]]
        text = ", ".join(f"{name} {_text(row[name]):.80}" for name in own)
        labels.append(textwrap.fill(f"{row['row']}: {text}", 44).replace("$", r"\$"))
    num_lines = len(rows) + sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(10, 1.1 + 0.2 * num_lines), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        seeds = [100 * share for share in row["per_seed"]]
        left.plot(seeds, [place] * len(seeds), ".", color="0.6")
        for axes, name, error in (
            (left, "accuracy", row["standard_error"]),
            (right, "difference", row["difference_standard_error"]),
        ):
            if row[name] is not None:
                bar = None if error is None else 100 * error
                axes.errorbar(100 * row[name], place, xerr=bar, fmt="o", color="C0", capsize=3)
    left.set_yticks(range(len(rows)), labels, fontsize=8)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel(f"accuracy on {actors} actors (%), by seed in gray\n± standard error")
    right.set_xlabel("difference to row 1 (points)\n± standard error")
    right.axvline(0, color="0.5", linewidth=0.8)
    for axes in (left, right):
        axes.grid(axis="x", color="0.9")
    return figure
