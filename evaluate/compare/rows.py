"""One row per setting: its runs, their mean accuracy, and the difference to the first setting."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.measures import emotion_scores
from evaluate.report.figures import Row
from evaluate.runs import settings
from train.record import Run, RunError, read_run


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
        below = sorted(path for path in folder.rglob(f"{kind}_*") if path.is_dir())
        if not below:
            raise ValueError(f"{str(folder)!r} contains no runs, expected <model>/{kind}_<k>")
        for path in below:
            paths.setdefault(path.resolve(), path)
    for path in paths.values():
        try:
            run = read_run(path)
        except (RunError, OSError) as exc:
            problems.append(f"{path} is left out: {exc}")
            continue
        values = {"model": run.model, "parameters": run.config.parameters, **settings(run.config)}
        del values["seed"], values["device"]
        setting = found.setdefault(repr(values), Setting(values))
        twin = setting.runs.setdefault((run.fold, run.config.seed), run)
        if twin is not run:
            same = np.array_equal(twin.predictions.predicted, run.predictions.predicted)
            problems.append(
                f"{path} is left out: it has the settings, fold and seed of {twin.folder}, and "
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
    differing = [
        title
        for title in first.values
        if title == "model" or len({repr(each.values[title]) for each in settings}) > 1
    ]
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
