"""Find the trainer's runs, and say which of them may be averaged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import ravdess
from evaluate.runs.config import setting, start_of
from evaluate.runs.reading import shown, shown_name
from evaluate.runs.run import DamagedRunError, Run, UnfinishedRunError, read_run
from evaluate.tables import in_order

# Settings that runs must share before their accuracies are averaged. Device and versions may
# differ: the report lists them.
SHARED_SETTINGS = (
    *("preset", "split", "recipe", "epochs", "batch_size", "learning_rate", "seed"),
    *("parameters", "cache.dataset", "cache.fingerprint", "cache.schema_version"),
)
# What belongs to a fold, or to the machine that trained it.
_OF_A_FOLD = {
    *("model", "fold", "train_actors", "test_actors", "train_clips", "test_clips", "init"),
    *("device", "versions"),
}


@dataclass(frozen=True)
class LeftOut:
    """A run, or a whole model, that is in no mean: its name, `state` in one word, and why."""

    name: str
    state: str
    problems: tuple[str, ...]


def find_runs(runs: Path) -> list[Path]:
    """The folders `<runs>/<model>/fold_<k>`, sorted, whatever their state.

    Raises:
        ValueError: if `runs` is not a folder or holds no run.
    """
    if not runs.is_dir():
        raise ValueError(f"runs is {str(runs)!r}, which is not a folder. Train first: train.py")
    found = sorted(folder for folder in runs.glob("*/fold_*") if folder.is_dir())
    if not found:
        raise ValueError(f"{str(runs)!r} holds no run: expected folders <model>/fold_<k> in it")
    return found


def read_runs(runs: Path) -> tuple[dict[str, list[Run]], list[LeftOut]]:
    """Read all runs under a folder.

    Args:
        runs: folder with `<model>/fold_<k>/`.

    Returns:
        The usable runs of each model, in the order of the paper's tables and sorted by fold; and
        what had to be left out.
        A model whose runs must not be averaged is left out whole; a fold outside the headline
        that differs from the rest is left out alone.

    Raises:
        ValueError: if `runs` is not a folder or holds no run.
    """
    models: dict[str, list[Run]] = {}
    left_out: list[LeftOut] = []
    for folder in find_runs(runs):
        name = shown_name(folder)
        try:
            run = read_run(folder)
        except UnfinishedRunError as unfinished:
            left_out.append(LeftOut(name, "unfinished", (str(unfinished),)))
        except DamagedRunError as damaged:
            left_out.append(LeftOut(name, "damaged", damaged.problems))
        else:
            models.setdefault(run.model, []).append(run)
    for model, of_model in list(models.items()):
        models[model] = sorted(of_model, key=lambda run: run.fold)
        averaged = [run for run in models[model] if _in_headline(run)] or models[model]
        problems = disagreements(averaged)
        if problems:
            del models[model]
            left_out.append(LeftOut(model, "not averaged", tuple(problems)))
            continue
        for run in of_model:  # a fold that is in no mean cannot spoil one
            problems = [] if run in averaged else disagreements([*averaged, run])
            if problems:
                models[model].remove(run)
                left_out.append(LeftOut(run.name, "not comparable", tuple(problems)))
    return in_order(models), left_out


def _in_headline(run: Run) -> bool:
    return run.fold in ravdess.HEADLINE_FOLDS[run.config["split"]]


def _shared(one: Run, two: Run) -> list[tuple[str, Any, Any]]:
    """Name and both values of each setting that runs must share, those of recipes too."""
    known = {name.split(".")[0] for name in SHARED_SETTINGS}
    others = sorted(one.config.keys() & two.config.keys() - known - _OF_A_FOLD)
    return [
        (name, setting(one.config, name), setting(two.config, name)) for name in SHARED_SETTINGS
    ] + [
        # The names are as others wrote them.
        (name if name.isprintable() else ascii(name), one.config[name], two.config[name])
        for name in others
    ]


def disagreements(runs: list[Run]) -> list[str]:
    """Why the runs of one model must not be averaged; empty if they may be.

    Args:
        runs: runs of one model, sorted by fold, at least one.

    Returns:
        One line for each setting that differs from the first run's, for each clip tested in two
        folds, and for a model without any of its split's headline folds.
    """
    first = runs[0]
    problems = [
        f"{first.name} and {run.name}: {name} is {shown(one)} and {shown(other)}, so they must not "
        "be averaged. Keep them in different runs folders, or train one again"
        for run in runs[1:]
        for name, one, other in _shared(first, run)
        if one != other
    ]
    problems += [
        f"{first.name} and {run.name}: they started from {start_of(first.config)} and from "
        f"{start_of(run.config)}, so they must not be averaged. Train one again"
        for run in runs[1:]
        if start_of(first.config) != start_of(run.config)
    ]
    tested: dict[str, Run] = {}
    for run in runs:
        twice = [clip_id for clip_id in run.clip_ids if clip_id in tested]
        if twice:
            problems.append(
                f"{tested[twice[0]].name} and {run.name}: clip {twice[0]} is tested in both "
                f"({len(twice)} such clips), expected each clip in one fold. Train one again"
            )
        tested.update(dict.fromkeys(run.clip_ids, run))
    split = first.config["split"]
    headline = ravdess.HEADLINE_FOLDS[split]
    if not any(_in_headline(run) for run in runs):
        problems.append(
            f"{', '.join(run.name for run in runs)}: none of the folds {headline[0]}.."
            f"{headline[-1]} that the result of split {split!r} is made of. Train one of them"
        )
    return problems
