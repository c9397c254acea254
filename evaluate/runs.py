"""Find and read finished runs and their checkpoints, and decide which may be averaged.

models, left_out = read_runs("runs")  # or one folder per seed
models["cfn_sr"][0].predictions.accuracy
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from cache.diff import settings_apart
from cache.ravdess import Clip, actors_of, expected_clips, headline_folds, is_recordings
from cache.reader import Cache
from model.paper import ROWS
from model.registry import NAMES, inputs
from train import record
from train.record import Run, RunConfig, RunError

UNKNOWN_START = "a file of unknown actors"
NOT_RECORDED = "not recorded"

# Of config.json: what is not a setting, or is shown elsewhere.
_NOT_SETTINGS = {
    *("model", "fold", "validation", "parameters", "init", "cache", "command", "versions"),
    *("train_actors", "test_actors", "train_clips", "test_clips", "source"),
}
_FIRST = ("preset", "split", "recipe", "epochs", "batch_size", "learning_rate", "seed", "device")
# Settings in which models may differ and still answer the same question.
_MODELS_MAY_DIFFER = {"seed", "device", "precision", "deterministic", "code of the network"}


@dataclass(frozen=True)
class LeftOut:
    """A run, or a whole model, that is excluded from the report, with the reasons."""

    name: str  # such as `cfn_sr/fold_0` or `cfn_sr`
    state: str  # "unfinished", "damaged", "not averaged" or "not comparable"
    problems: tuple[str, ...]

    def lines(self) -> list[str]:
        """One line per reason."""
        return [f"{self.name} is {self.state}: {problem}" for problem in self.problems]


def read_runs(*folders: Path | str) -> tuple[dict[str, list[Run]], list[LeftOut]]:
    """Read all runs `<model>/fold_<k>` in one folder, or in several, of one seed per model each.

    Returns the usable runs of each model, in the order of the paper's tables and sorted by seed
    and fold; and what is left out: a whole model if its headline folds or its seeds must not be
    averaged, a fold outside the headline if it differs from them, and a headline fold that not
    every seed has. ValueError if a folder is not a folder or contains no run.
    """
    models: dict[str, list[Run]] = {}
    left_out: list[LeftOut] = []
    for folder in map(Path, folders):
        found, excluded = _read_folder(folder)
        for model, runs in found.items():
            kept, others = _averaged(runs)
            excluded += others
            if kept:
                models.setdefault(model, []).extend(kept)
        prefix = f"{printable(folder.resolve().name)}/" if len(folders) > 1 else ""
        left_out += [replace(each, name=prefix + each.name) for each in excluded]

    usable = {}
    for model, runs in models.items():
        kept, excluded = _averaged_over_seeds(runs)
        left_out += excluded
        if kept:
            usable[model] = kept
    names = [name for name in ROWS if name in usable] + sorted(set(usable) - set(ROWS))
    return {name: usable[name] for name in names}, left_out


def _read_folder(folder: Path) -> tuple[dict[str, list[Run]], list[LeftOut]]:
    """The runs of each model in one folder, and those that cannot be read."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder, expected one with <model>/fold_<k>/")
    found = sorted(path for path in folder.glob("*/fold_*") if path.is_dir())
    if not found:
        raise ValueError(f"{str(folder)!r} contains no runs, expected folders <model>/fold_<k>")

    models: dict[str, list[Run]] = {}
    left_out: list[LeftOut] = []
    for path in found:
        name = printable(f"{path.parent.name}/{path.name}")
        try:
            run = record.read_run(path)
        except record.UnfinishedRunError as exc:
            left_out.append(LeftOut(name, "unfinished", (str(exc),)))
        except RunError as exc:
            left_out.append(LeftOut(name, "damaged", (str(exc),)))
        except OSError as exc:  # without the absolute path, since reports are passed on
            problem = f"{Path(exc.filename or path).name} cannot be read: {exc.strerror}"
            left_out.append(LeftOut(name, "damaged", (problem,)))
        else:
            models.setdefault(run.model, []).append(run)
    return models, left_out


def headline(runs: list[Run]) -> list[Run]:
    """The runs over which the result is the mean: those of the split's headline folds."""
    return [run for run in runs if run.fold in headline_folds(run.config.split)]


def settings(config: RunConfig) -> dict[str, Any]:
    """The settings of a run by their titles; the device and seed too, but no versions."""
    content = config.to_json()
    others = sorted(set(content) - _NOT_SETTINGS - set(_FIRST))
    return {
        **{name.replace("_", " "): content[name] for name in _FIRST},
        "dataset": config.cache["dataset"],
        "cache fingerprint": config.cache["fingerprint"],
        "cache contents": config.cache.get("contents", NOT_RECORDED),
        **{name.replace("_", " "): content[name] for name in others},
        "starting weights": start_in_words(config),
        "code of the network": " ".join([*config.source.values()]) or "of this project",
    }


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Titles of the settings that make the results of different models incomparable.

    A recipe stands for its settings. Unimodal networks may start otherwise than those that start
    from them, as in the paper.
    """
    recorded = [settings(config) for config in configs]
    for config, own in zip(configs, recorded, strict=True):
        for name in asdict(config.settings).keys() - config.changed.keys():
            own[name.replace("_", " ")] = "as in the recipe"
        if config.model in NAMES and len(inputs(config.model)) == 1:
            own["starting weights"] = NOT_RECORDED
    titles = [title for title in recorded[0] if title not in _MODELS_MAY_DIFFER]
    return [
        title for title in titles if len({each[title] for each in recorded} - {NOT_RECORDED}) > 1
    ]


def shortfalls(configs: Sequence[RunConfig]) -> list[str]:
    """What makes runs of one model less than the full result, such as `trained 16 of 70 epochs`.

    The clips are the fewest of a run, out of all that RAVDESS has of the actors of its fold.
    """
    missing = []
    for what in ("train", "test"):
        counted = [(getattr(each, f"{what}_clips"), full_clips(each, what)) for each in configs]
        fewest, full = min(counted, key=lambda pair: pair[0] / pair[1])
        if fewest < full:
            missing.append(f"{what}ed on {fewest} of {full} clips")
    schedules = {config.changed["epochs"] for config in configs if "epochs" in config.changed}
    missing += [f"trained {own} of {full} epochs" for own, full in sorted(schedules) if own < full]
    starts = [s["run"]["seed"] for each in configs for s in each.init.values() if s["run"]]
    if len({config.seed for config in configs}) > 1 == len(set(starts)):
        missing.append("starting weights of one seed only")
    contents = {config.cache.get("contents") for config in configs} - {None}
    programs = {config.versions.get("cfn-sr") for config in configs} - {None}
    for what, found in (("contents of the cache", contents), ("versions of CFN-SR", programs)):
        if len(found) > 1:
            missing.append(f"runs of {len(found)} different {what}")
    return missing


def full_clips(config: RunConfig, what: str) -> int:
    """The number of clips that RAVDESS has of the actors of a fold, to "train" or to "test" on.

    Only the recordings have a full number of clips; otherwise it is that of the run.
    """
    if not is_recordings(config.cache["dataset"]):
        return getattr(config, f"{what}_clips")
    trained, tested = actors_of(config.split, config.fold, validate=config.validation)
    return sum(len(expected_clips(actor)) for actor in (trained if what == "train" else tested))


def start_in_words(config: RunConfig) -> str:
    """What the encoders of a run started from, in words, alike for all folds."""
    starts = []
    for part, start in sorted(config.init.items(), reverse=True):
        run = start["run"]
        source = _run_in_words(run, config) if run else UNKNOWN_START
        if run and record.is_unknown(start):
            source += f", itself from {UNKNOWN_START}"
        starts.append(f"{part}: {source}")
    return "; ".join(starts) or "random weights"


def _run_in_words(run: dict[str, Any], config: RunConfig) -> str:
    """A run that weights come from; `config` is that of the run that starts from them."""
    words, cache = f"{run['model']}, {run['epochs']} epochs", config.cache
    if run["validation"] and not config.validation:
        words += " of a validation run"
    for name in ("preset", "split"):
        if run[name] != getattr(config, name):
            words += f" of {name} {run[name]}"
    if run["recipe"] != "paper":
        words += f" of recipe {run['recipe']}"
    changed = run.get("changed", {}).items()  # earlier runs do not record it
    words += "".join(f", {n.replace('_', ' ')} {own}" for n, own in changed if n != "epochs")
    theirs = run.get("cache") or cache
    if theirs["dataset"] != cache["dataset"]:
        words += f", on {theirs['dataset']}"
    elif theirs["fingerprint"] != cache["fingerprint"]:
        words += f", on features with fingerprint {theirs['fingerprint'][:12]}"
    return words


def add_code(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-code [FILE.py]`, without which no code of others runs."""
    code = "run the code of networks from files: the copies beside checkpoints, or FILE.py"
    options = {"nargs": "?", "const": True, "default": False, "type": Path, "metavar": "FILE.py"}
    parser.add_argument("--allow-code", help=code, **options)


def load_result(path: Path | str) -> record.Checkpoint:
    """Read the checkpoint of the last epoch of a run that tested its fold; RunError for others."""
    path = Path(path)
    if not path.exists():
        raise RunError(f"{path}: no such file")
    checkpoint = record.load_checkpoint(path)
    epoch, config = checkpoint.epoch, checkpoint.config
    if config.validation:
        raise RunError(f"{path}: from a run with --validate, expected one with a test fold")
    if epoch != config.epochs:
        raise RunError(
            f"{path}: {epoch} of {config.epochs} epochs are done, and only the last is a result. "
            "Finish the run with train.py --resume"
        )
    return checkpoint


def check_same_run(checkpoint: record.Checkpoint, run: Run) -> None:
    """Raise RunError unless a checkpoint was trained with the settings of a run."""
    if differences := run.config.differences(checkpoint.config):
        wrong = f"{record.CONFIG} and {checkpoint.path.name} are from different runs"
        raise RunError(f"{wrong}: {differences[0]}")


def tested_clips(cache: Cache, config: RunConfig) -> list[Clip]:
    """The clips of a run's test actors, sorted; RunError for another cache, or one without any."""
    if cache.manifest["fingerprint"] != config.cache["fingerprint"]:
        apart = "; ".join(settings_apart("", config.cache["config"], cache.manifest["config"]))
        raise RunError(
            f"{cache.directory} has other settings than the cache of the run (recorded and "
            f"current: {apart:.200}). Use the cache of the run"
        )
    clips = cache.of_actors(config.test_actors)
    if not clips:
        raise RunError(f"{cache.directory} has no clip of the test actors {config.test_actors}")
    return clips


def printable(text: str) -> str:
    """Text from others, escaped if it contains characters that do not print."""
    return text if text.isprintable() else ascii(text)


def _averaged(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The usable runs of one model, sorted by fold, and what is left out."""
    runs = sorted(runs, key=lambda run: run.fold)
    averaged = headline(runs)
    problems = _disagreements(averaged or runs)
    if not averaged:
        split = runs[0].config.split
        folds = headline_folds(split)
        problems.append(
            f"{', '.join(run.name for run in runs)}: none of the folds {folds[0]}..{folds[-1]}, "
            f"over which the result of split {split!r} is the mean. Train one of them"
        )
    if problems:
        return [], [LeftOut(runs[0].model, "not averaged", tuple(problems))]
    kept, left_out = [], []
    for run in runs:  # a fold outside the headline cannot spoil the mean
        problems = [] if run in averaged else _disagreements([*averaged, run])
        if problems:
            left_out.append(LeftOut(run.name, "not comparable", tuple(problems)))
        else:
            kept.append(run)
    return kept, left_out


def _averaged_over_seeds(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The runs of one model from all folders, sorted by seed and fold, and what is left out."""
    runs = sorted(runs, key=lambda run: (run.config.seed, run.fold))
    problems = [
        f"{_place(one)} and {_place(two)} have the same seed, {one.config.seed}. Give one of them"
        for one, two in pairwise(runs)
        if (one.config.seed, one.fold) == (two.config.seed, two.fold)
    ]
    first_of_folder: dict[Path, Run] = {}
    for run in runs:
        first_of_folder.setdefault(run.folder.parent, run)
    problems += _disagreements(list(first_of_folder.values()), seeds=True)
    # Every fold of the result needs a run of every seed.
    used = headline(runs)
    seeds = {run.config.seed for run in used}
    lacking: dict[int, set[int]] = {run.fold: set(seeds) for run in used}  # seeds by fold
    for run in used:
        lacking[run.fold].discard(run.config.seed)
    if all(lacking.values()):
        problems.append("no fold has a usable run of every seed")
    if problems:
        return [], [LeftOut(runs[0].model, "not averaged", tuple(problems))]
    left_out = []
    for run in used:
        if missing := sorted(lacking[run.fold]):
            problem = f"fold {run.fold} has no usable run of seeds {missing}"
            advice = "Train it for every seed"
            left_out.append(LeftOut(_place(run), "not averaged", (f"{problem}. {advice}",)))
    return [run for run in runs if not lacking.get(run.fold)], left_out


def _place(run: Run) -> str:
    """The name of a run with the folder of its seed, such as `seed_0/cfn_sr/fold_0`."""
    return printable("/".join(run.folder.absolute().parts[-3:]))


def _disagreements(runs: list[Run], *, seeds: bool = False) -> list[str]:
    """Why runs of one model, of one seed or several, must not be averaged; one line per reason."""
    may_differ = {"device", "cache contents"} | ({"seed"} if seeds else set())
    names = [_place(run) if seeds else run.name for run in runs]
    recorded = [{**settings(run.config), "parameters": run.config.parameters} for run in runs]
    return [
        f"{names[0]} and {name}: {title} is {recorded[0][title]!r} and {found[title]!r}, so they "
        "must not be averaged. Keep them in different folders, or train one again"
        for name, found in zip(names[1:], recorded[1:], strict=True)
        for title in found
        if title not in may_differ and recorded[0][title] != found[title]
    ]
