"""How the models were trained: settings side by side, and the commands to train them again."""

import shlex
from collections.abc import Iterable
from typing import Any

from evaluate.runs.config import UNKNOWN_START, setting, start_of
from evaluate.runs.reading import shown
from evaluate.runs.run import Run

NOT_RECORDED = "not recorded"

_FIRST = {
    "preset": "preset",
    "split": "split",
    "recipe": "recipe",
    "epochs": "epochs",
    "batch size": "batch_size",
    "learning rate": "learning_rate",
    "seed": "seed",
    "device": "device",
    "dataset": "cache.dataset",
    "cache fingerprint": "cache.fingerprint",
}
# Of config.json: what is no setting, or is shown in rows of its own.
_NO_SETTING = {
    *("model", "fold", "parameters", "train_actors", "test_actors", "train_clips", "test_clips"),
    *("init", "cache", "versions"),
}
# Settings in which models may differ and still answer the same question.
_OF_THE_MACHINE = {"seed", "device", "precision", "deterministic"}

# Arguments of train.py for what config.json records.
_ARGUMENTS = {
    **{name: f"--{name}" for name in ("preset", "split", "recipe", "epochs")},
    **{"batch_size": "--batch-size", "learning_rate": "--lr"},
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("warmup", "cosine", "weight_decay", "label_smoothing", "ema", "mfcc_normalise"),
            *("mfcc_style", "vocal_tract", "mfcc_shift", "mfcc_mask_steps"),
            *("mfcc_mask_coefficients", "mixup", "modality_dropout", "precision", "seed"),
        )
    },
}


def rows(models: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Every setting that some run records, for each model.

    Returns:
        Rows with `title`, `of_models` (one text a model; all values where its folds differ),
        `same`, whether these are equal, and `differ`, whether models that recorded the setting
        recorded different values. Last come the versions.
    """
    configs = {model: [run.config for run in runs] for model, runs in models.items()}
    every = [config for of_model in configs.values() for config in of_model]
    known = {name.split(".")[0] for name in _FIRST.values()}
    names = {**_FIRST, **{_title(name): name for name in _others(every, known)}}
    table = [
        _row(title, [[_value(config, name) for config in each] for each in configs.values()])
        for title, name in names.items()
    ]
    table.append(
        _row("starting weights", [[start_of(config) for config in c] for c in configs.values()])
    )
    packages = sorted({package for config in every for package in config["versions"]})
    return table + [
        _row(
            package,
            [[config["versions"].get(package) for config in each] for each in configs.values()],
        )
        for package in packages
    ]


def differing(models: dict[str, list[Run]]) -> list[str]:
    """Titles of the settings by which models answer different questions.

    What a run did not record is not held against it: older ones recorded less.
    """
    titles = {title: name for title, name in _FIRST.items() if name not in _OF_THE_MACHINE}
    configs = [runs[0].config for runs in models.values()]
    known = {name.split(".")[0] for name in _FIRST.values()}
    others = _others(configs, known | _OF_THE_MACHINE)
    titles |= {_title(name): name for name in others}
    return [
        title
        for title, name in titles.items()
        if len({_value(config, name) for config in configs} - {None}) > 1
    ] + ["starting weights"] * (len(set(map(start_of, configs))) > 1)


def command(runs: list[Run]) -> str:
    """The shell command that trains a model's folds again, from what its runs recorded.

    CACHE, RUNS and FILE stand for paths, which no run records.
    """
    config = runs[0].config
    words = ["python train.py --cache CACHE --runs RUNS", f"--model {runs[0].model} --fold $fold"]
    words += [
        _argument(flag, config[name])
        for name, flag in _ARGUMENTS.items()
        if isinstance(config.get(name), int | float) or _is_plain(config.get(name))
    ]
    if config.get("deterministic") is True:
        words.append("--deterministic")
    if config.get("compiled") is True:
        words.append("--compile")
    for part, record in sorted(config.get("init", {}).items(), reverse=True):
        run = record["run"]
        # The name is another run's, and need not be a plain one.
        path = f"RUNS/{shlex.quote(run['model'])}/fold_$fold/last.pt" if run else "FILE"
        words.append(f"--init-{part} {path}")
    folds = " ".join(str(run.fold) for run in runs)
    return f"for fold in {folds}; do\n  " + " \\\n    ".join(_lines(words)) + "\ndone"


def starts_from_unknown(runs: list[Run]) -> bool:
    """Whether a model's weights come from a file of which nothing is known, at once or not."""
    return any(UNKNOWN_START in start_of(run.config) for run in runs)


def _others(configs: Iterable[dict[str, Any]], known: set[str]) -> list[str]:
    """Names of settings beyond the known ones, sorted."""
    return sorted({name for config in configs for name in config} - known - _NO_SETTING)


def _title(name: str) -> str:
    """A setting's name as shown; configs come from others, so names may hold anything."""
    return name.replace("_", " ") if _is_plain(name) else shown(name)


def _value(config: dict[str, Any], name: str) -> str | None:
    """A setting as text, None where it is not recorded; the same value gives the same text."""
    try:
        # A name from a config may hold a dot of its own.
        value = config[name] if name in config else setting(config, name)
    except (KeyError, TypeError):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if _is_plain(value) else shown(value)
    return shown(value)


def _row(title: str, values: list[list[str | None]]) -> dict[str, Any]:
    recorded = {value for of_model in values for value in of_model} - {None}
    texts = [
        ", ".join(dict.fromkeys(NOT_RECORDED if value is None else value for value in of_model))
        for of_model in values
    ]
    same = len(set(texts)) == 1
    return {
        "title": title,
        "of_models": texts,
        "same": same,
        "differ": not same and len(recorded) > 1,
    }


def _is_plain(value: Any) -> bool:
    """Whether a value is text that can stand in a line as it is."""
    return isinstance(value, str) and 0 < len(value) <= 80 and value.isprintable()


def _argument(flag: str, value: Any) -> str:
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {shlex.quote(str(value))}"


def _lines(words: list[str], width: int = 88) -> list[str]:
    """Words joined into lines of about `width` characters."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
