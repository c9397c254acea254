"""`python -m evaluate.compare DIR ...`: validation runs side by side, one row per setting.

Validation actors are compared, so that a choice between settings does not use test actors.
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cache.command import FailedError, fail, launch, run, warn
from cache.files import atomic_path, write_text
from evaluate.measures import emotion_scores
from evaluate.report.figures import Row
from evaluate.report.templates import markdown_table
from evaluate.report.write import csv_text
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
# Of config.json: what is not a setting, or follows from the fold.
_NOT_SETTINGS = {
    *("fold", "seed", "validation", "device", "versions", "command"),
    *("train_actors", "test_actors", "train_clips", "test_clips"),
}


@dataclass(frozen=True, eq=False)
class Setting:
    """The runs that differ only in fold and seed, by these; the settings by name; the folders."""

    values: dict[str, Any]
    runs: dict[tuple[int, int], Run] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)


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
        header=_header(differing),
        rows=[_cells(row, differing) for row in rows],
        notes=[*([_LOOKED] if test else []), *notes, *problems],
    )
    print(table, end="")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "compare.md", table)
        flat = [{name: _csv_cell(value) for name, value in row.items()} for row in rows]
        write_text(out / "compare.csv", csv_text(flat))
        with atomic_path(out / "compare.png") as temporary:
            figure = picture(rows, differing, actors)
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    return 1 if problems else 0


def read_settings(folders: Sequence[Path], kind: str) -> tuple[list[Setting], list[str]]:
    """Read all runs below some folders; a run that is below two of them is read once.

    Args:
        folders: folders that contain `<model>/<kind>_<k>` at any depth.
        kind: "validation" or "fold".

    Returns:
        The settings in the order of the folders; and one line per run that is left out.

    Raises:
        ValueError: if a folder is not a folder or contains no run of this kind.
    """
    settings: dict[str, Setting] = {}
    problems, seen = [], set()
    for folder in folders:
        found = sorted(path for path in folder.rglob(f"{kind}_*") if path.is_dir())
        if not found:
            raise ValueError(
                f"{str(folder)!r} contains no runs, expected a folder with <model>/{kind}_<k>"
            )
        for path in found:
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                run = read_run(path)
            except (RunError, OSError) as exc:
                problems.append(f"{path} is left out: {exc}")
                continue
            values = settings_of(run)
            setting = settings.setdefault(json.dumps(values, sort_keys=True), Setting(values))
            twin = setting.runs.setdefault((run.fold, run.config.seed), run)
            if twin is not run:
                same = np.array_equal(twin.predictions.predicted, run.predictions.predicted)
                problems.append(
                    f"{path} is left out: it has the settings, fold and seed of {twin.folder}, and "
                    f"{'the same' if same else 'other'} predictions. Keep one of the two"
                )
            runs_folder = path.parents[2 if path.parents[1].name.startswith("seed_") else 1]
            setting.folders[str(runs_folder)] = None
    return list(settings.values()), problems


def settings_of(run: Run) -> dict[str, Any]:
    """The settings of a run that a comparison may be about, flat, with dots in nested names."""
    content = {k: v for k, v in run.config.to_json().items() if k not in _NOT_SETTINGS}
    return _flat(content | {"init": _start(run.config.init)})


def _start(init: dict[str, Any]) -> str:
    """What the encoders of a run started from, without what differs from fold to fold."""
    starts = []
    for part, start in sorted(init.items()):
        run, source = start["run"], f"{start['file']} (sha256 {start['sha256'][:8]})"
        if run:
            kind = "validation run of " if run["validation"] else ""
            names = ("model", "preset", "split", "recipe")
            source = f"{kind}{' '.join(run[each] for each in names)}, {run['epochs']} epochs"
            source += f" ({_start(run['init'])})" if run["init"] else ""
        starts.append(f"{part}: {source}")
    return "; ".join(starts) or "random weights"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    inner = (_flat(each, f"{name}.{key}".lstrip(".")) for key, each in value.items())
    return {path: leaf for each in inner for path, leaf in each.items()}


def compare(settings: Sequence[Setting]) -> tuple[list[str], list[Row], list[str]]:
    """Compare settings, at least one, with the first.

    Returns:
        The names of the settings that differ, the model always first; one row per setting; and
        one line per setting whose runs do not match those of the first. In a row, shares are 0..1,
        and None where they are undefined:

        - `accuracy`: the mean of `per_seed`, the means over folds of the last epoch's accuracy;
          `standard_error` is over seeds.
        - `uar`: over the clips of all folds of a seed, as a mean over seeds.
        - `difference`: to the first setting, as a mean over the `pairs` of runs with the same
          fold, seed and clips; `difference_standard_error` is over these pairs.
    """
    names = dict.fromkeys(name for setting in settings for name in setting.values)
    found = {name: {repr(each.values.get(name)) for each in settings} for name in names}
    differing = ["model", *(name for name in names if name != "model" and len(found[name]) > 1)]
    first, rows, notes = settings[0], [], []
    for number, setting in enumerate(settings, start=1):
        seeds = sorted({seed for _, seed in setting.runs})
        of_seeds = [[run for run in setting.runs.values() if run.config.seed == s] for s in seeds]
        per_seed = [float(np.mean([run.predictions.accuracy for run in own])) for own in of_seeds]
        folds = sorted({fold for fold, _ in setting.runs})
        complete = len(setting.runs) == len(folds) * len(seeds)
        pairs = _paired(setting.runs, first.runs)
        rows.append(
            {
                "row": number,
                **{name: setting.values.get(name) for name in differing},
                **{"folds": folds, "seeds": seeds, "runs": len(setting.runs)},
                "accuracy": float(np.mean(per_seed)),
                "standard_error": _standard_error(per_seed) if complete else None,
                "per_seed": per_seed,
                "uar": float(np.mean([_uar(own) for own in of_seeds])),
                "difference": float(np.mean(pairs)) if pairs and number > 1 else None,
                "difference_standard_error": _standard_error(pairs) if number > 1 else None,
                "pairs": len(pairs),
                "folders": list(setting.folders),
            }
        )
        if not complete:
            notes.append(
                f"Row {number}: {len(setting.runs)} runs, expected {len(folds) * len(seeds)}: not "
                f"every seed has the folds {folds}. The means of its seeds are over different "
                "actors, so they have no standard error."
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
    tested = [run.predictions for run in runs]
    labels = np.concatenate([each.labels for each in tested])
    predicted = np.concatenate([each.predicted for each in tested])
    return float(np.nanmean(emotion_scores(labels, predicted)[0]))


def _header(differing: Sequence[str]) -> list[str]:
    return [
        *("row", *(name.replace("_", " ") for name in differing), "folds", "seeds", "runs"),
        *("accuracy (%)", "standard error", "UAR (%)"),
        *("difference (points)", "standard error", "pairs", "folders"),
    ]


def _cells(row: Row, differing: Sequence[str]) -> list[str]:
    shares = (
        *(("accuracy", ".2f"), ("standard_error", ".2f"), ("uar", ".2f")),
        *(("difference", "+.2f"), ("difference_standard_error", ".2f")),
    )
    return [
        *(str(row["row"]), *(_text(row[name]) for name in differing)),
        *(_csv_cell(row[name]) for name in ("folds", "seeds")),
        str(row["runs"]),
        *("" if row[name] is None else f"{100 * row[name]:{form}}" for name, form in shares),
        *("" if row["row"] == 1 else str(row["pairs"]), ", ".join(row["folders"])),
    ]


def _csv_cell(value: Any) -> Any:
    """A value as it is written: 6 digits, lists joined by spaces."""
    if isinstance(value, list):
        return " ".join(str(_csv_cell(each)) for each in value)
    return round(value, 6) if isinstance(value, float) else value


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def picture(rows: Sequence[Row], differing: Sequence[str], actors: str) -> Figure:
    """Accuracies with their standard errors, and beside them the differences to the first row."""
    labels = []
    for row in rows:  # the settings in which a row differs from the first
        own = [name for name in differing if row is rows[0] or row[name] != rows[0][name]]
        text = ", ".join(f"{name.replace('_', ' ')} {_text(row[name])}" for name in own)
        labels.append(textwrap.fill(f"{row['row']}: {text}", 44).replace("$", r"\$"))
    num_lines = len(rows) + sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(10, 1.1 + 0.2 * num_lines), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, share, error, what in (
        *(
            (
                left,
                "accuracy",
                "standard_error",
                f"accuracy on {actors} actors (%), by seed in gray",
            ),
        ),
        *((right, "difference", "difference_standard_error", "difference to row 1 (points)"),),
    ):
        for place, row in enumerate(rows):
            if row[share] is not None:
                bar = None if row[error] is None else 100 * row[error]
                axes.errorbar(100 * row[share], place, xerr=bar, fmt="o", color="C0", capsize=3)
        axes.set_xlabel(f"{what}\n± standard error")
        axes.grid(axis="x", color="0.9")
    for place, row in enumerate(rows):
        left.plot(
            [100 * each for each in row["per_seed"]], [place] * len(row["seeds"]), ".", color="0.6"
        )
    right.axvline(0, color="0.5", linewidth=0.8)
    left.set_yticks(range(len(rows)), labels, fontsize=8)
    left.set_ylim(len(rows) - 0.5, -0.5)
    return figure


if __name__ == "__main__":
    launch("evaluate.compare", "report")
