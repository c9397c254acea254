"""Settings side by side: one row each, paired with the first; as a table and a picture."""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cache.command import FailedError, fail, run, warn
from cache.files import atomic_path, write_text
from evaluate.measures import emotion_scores
from evaluate.report.figures import Row
from evaluate.report.write import csv_text, markdown_table
from evaluate.runs import settings, shortfalls
from train.record import Run, RunError, read_run

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
    found, problems = read_settings(folders, "fold" if test else "validation")
    if test:
        warn(_LOOKED)
    for problem in problems:
        fail(problem, 1)
    if not found:
        raise FailedError("no run is usable, so there is nothing to compare")
    differing, rows, notes = compare(found)
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


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ only in fold and seed: their settings by title, the runs, the folders."""

    values: dict[str, Any]
    runs: dict[tuple[int, int], Run] = field(default_factory=dict)  # by fold and seed
    folders: dict[str, None] = field(default_factory=dict)


def read_settings(folders: Sequence[Path], kind: str) -> tuple[list[Setting], list[str]]:
    """Read all runs `<model>/<kind>_<k>` at any depth below folders, each once.

    Returns the settings in the order of the folders, and one line per run that is left out.
    ValueError if a folder contains no run of this kind.
    """
    found: dict[str, Setting] = {}
    problems, paths = [], {}
    for folder in folders:
        paths_below = folder.rglob(f"{kind}_*")
        below = sorted(p for p in paths_below if p.name[len(kind) + 1 :].isdecimal() and p.is_dir())
        if not below:
            problem = "contains no runs" if folder.is_dir() else "is not a folder"
            raise ValueError(f"{str(folder)!r} {problem}, expected <model>/{kind}_<k>")
        for path in below:
            paths.setdefault(path.resolve(), path)
    for path in paths.values():
        try:
            run = read_run(path)
        except (RunError, OSError) as exc:
            problems.append(f"{path} is excluded: {exc}")
            continue
        values = {"model": run.model, "parameters": run.config.parameters, **settings(run.config)}
        del values["seed"], values["device"]
        setting = found.setdefault(repr(values), Setting(values))
        kept = setting.runs.setdefault((run.fold, run.config.seed), run)
        if kept is not run:
            same = np.array_equal(kept.predictions.predicted, run.predictions.predicted)
            problems.append(
                f"{path} is excluded: it has the settings, fold and seed of {kept.folder}, and "
                f"{'the same' if same else 'other'} predictions. Keep one of the two"
            )
            continue
        setting.folders[str(path.parents[2 if path.parents[1].name[:5] == "seed_" else 1])] = None
    return list(found.values()), problems


def compare(settings: Sequence[Setting]) -> tuple[list[str], list[Row], list[str]]:
    """Compare settings, at least one, with the first.

    Returns:
        The titles of the settings that differ, the model always first; one row per setting; and
        one line per row whose runs are incomplete or do not match those of the first. Shares are
        0..1, and None where they are undefined:

        - `accuracy`: the mean of `per_seed`, the means over folds of the last epoch's accuracy;
          `standard_error` is over seeds.
        - `uar`: over the clips of all folds of a seed, as a mean over seeds.
        - `difference`: to the first setting, as a mean over the `pairs` of runs with the same
          fold, seed and clips; `difference_standard_error` is over these pairs.
    """
    first, rows, notes = settings[0], [], []
    values = {title: {repr(each.values[title]) for each in settings} for title in first.values}
    differing = [title for title in values if title == "model" or len(values[title]) > 1]
    for number, setting in enumerate(settings, start=1):
        folds, seeds = (sorted({key[part] for key in setting.runs}) for part in (0, 1))
        of_seeds = [[run for run in setting.runs.values() if run.config.seed == s] for s in seeds]
        per_seed = [float(np.mean([run.predictions.accuracy for run in own])) for own in of_seeds]
        complete = len(setting.runs) == len(folds) * len(seeds)
        pairs = _paired(setting.runs, first.runs)
        row = {"row": number, **{title: setting.values[title] for title in differing}}
        row |= {"folds": folds, "seeds": seeds, "runs": len(setting.runs)}
        row |= {"accuracy": float(np.mean(per_seed)), "per_seed": per_seed}
        row |= {"standard_error": _standard_error(per_seed) if complete else None}
        row |= {"uar": float(np.mean([_uar(own) for own in of_seeds]))}
        row |= dict.fromkeys(("difference", "difference_standard_error", "pairs"))
        if number > 1:
            row |= {"difference": float(np.mean(pairs)) if pairs else None, "pairs": len(pairs)}
            row |= {"difference_standard_error": _standard_error(pairs)}
        rows.append(row | {"folders": list(setting.folders)})
        if missing := shortfalls([run.config for run in setting.runs.values()]):
            notes.append(f"Row {number}: {', '.join(missing)}: not the full result.")
        if not complete:
            notes.append(
                f"Row {number}: {len(setting.runs)} runs, expected {len(folds) * len(seeds)}: not "
                f"every seed has all of the folds {' '.join(map(str, folds))}. The means of its "
                "seeds are over different actors, so they have no standard error."
            )
        if len(pairs) < max(len(setting.runs), len(first.runs)):
            notes.append(
                f"Row {number}: its {len(setting.runs)} runs and the {len(first.runs)} of row 1 "
                f"make only {len(pairs)} pairs with the same fold, seed and clips. Compare by the "
                "difference; the accuracies are over different runs."
            )
    return differing, rows, notes


def _paired(runs: dict[tuple[int, int], Run], first: dict[tuple[int, int], Run]) -> list[float]:
    """The accuracies of runs minus those of `first` with the same fold, seed and clips."""
    both = [(runs[key].predictions, first[key].predictions) for key in runs if key in first]
    return [one.accuracy - two.accuracy for one, two in both if set(one.clips) == set(two.clips)]


def _standard_error(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _uar(runs: Sequence[Run]) -> float:
    labels = np.concatenate([run.predictions.labels for run in runs])
    predicted = np.concatenate([run.predictions.predicted for run in runs])
    return float(np.nanmean(emotion_scores(labels, predicted)[0]))
