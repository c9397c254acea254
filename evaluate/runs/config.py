"""Read config.json of a run strictly: how it was trained, and on whom."""

import re
from itertools import pairwise
from typing import Any

from cache import ravdess
from cache.ravdess import ACTORS
from evaluate.runs.reading import is_count, is_number, is_text, shown

UNKNOWN_START = "a file of unknown actors"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STARTS_DEEP = 10  # runs that started from runs that started from ...


def setting(config: dict[str, Any], name: str) -> Any:
    """The value of a setting of config.json; a dot in `name` goes one level down."""
    value: Any = config
    for key in name.split("."):
        value = value[key]
    return value


def start_of(config: dict[str, Any]) -> str:
    """What the weights of a run started from, in words that are the same for all folds."""
    starts = []
    for part, record in sorted(config.get("init", {}).items(), reverse=True):
        run = record["run"]
        source = f"{run['model']}, {run['epochs']} epochs" if run else UNKNOWN_START
        if run and UNKNOWN_START in start_of(run):
            source += f", itself from {UNKNOWN_START}"
        starts.append(f"{part}: {source}")
    return "; ".join(starts) or "random weights"


def problems_of(config: dict[str, Any], model: str, fold: int) -> list[str]:
    """What is wrong with config.json of the folder `<model>/fold_<fold>`, a line each."""
    return _wrong_types(config) or _wrong_values(config, model, fold)


def _wrong_types(config: dict[str, Any]) -> list[str]:
    """What in config.json is missing or of another kind than the report needs."""
    kinds: dict[str, tuple[Any, str]] = {
        **dict.fromkeys(("model", "preset", "split", "recipe", "device"), (is_text, "text")),
        **dict.fromkeys(("fold", "seed"), (is_count, "a whole number")),
        **dict.fromkeys(
            ("epochs", "batch_size", "parameters", "train_clips", "test_clips"),
            (lambda value: is_count(value) and value > 0, "a whole number above 0"),
        ),
        "learning_rate": (is_number, "a number"),
        **dict.fromkeys(("train_actors", "test_actors"), (_is_actors, "rising numbers 1..24")),
        "cache.dataset": (is_text, "text"),
        "cache.fingerprint": (
            lambda value: is_text(value) and _FINGERPRINT.fullmatch(value) is not None,
            "64 hexadecimal digits",
        ),
        "cache.schema_version": (is_count, "a whole number"),
        "versions": (
            lambda value: isinstance(value, dict) and all(map(is_text, [*value, *value.values()])),
            "names with their versions as text",
        ),
    }
    problems = []
    for name, (fits, expected) in kinds.items():
        try:
            value = setting(config, name)
        except (KeyError, TypeError):
            problems.append(
                f"{name} is missing, expected {expected}. Remove the run and train it again"
            )
            continue
        if not fits(value):
            problems.append(
                f"{name} is {shown(value)}, expected {expected}. Remove the run and train it again"
            )
    if not _is_init(config.get("init", {})):
        problems.append(
            f"init is {shown(config['init'])}, expected the weights that the run started from. "
            "Remove the run and train it again"
        )
    return problems


def _wrong_values(config: dict[str, Any], model: str, fold: int) -> list[str]:
    """What in a config.json of the right types contradicts its folder or its split."""
    problems = [
        f"{name} is {shown(config[name])}, the folder says {shown(expected)}. "
        "Move the run back to where it was trained"
        for name, expected in (("model", model), ("fold", fold))
        if config[name] != expected
    ]
    try:
        held_out = ravdess.test_actors(config["split"], config["fold"])
    except ValueError as unknown:
        return [*problems, f"{unknown}. Remove the run and train it again"]
    tested, trained = set(config["test_actors"]), set(config["train_actors"])
    where = f"fold {config['fold']} of split {config['split']!r}"
    if tested & trained:
        problems.append(
            f"test actors {sorted(tested & trained)} are in train_actors too, expected actors "
            "never seen in training. Remove the run and train it again"
        )
    if tested - set(held_out):
        problems.append(
            f"test_actors has {sorted(tested - set(held_out))}, {where} tests {list(held_out)}. "
            "Remove the run and train it again"
        )
    if trained & set(held_out) - tested:
        problems.append(
            f"train_actors has {sorted(trained & set(held_out) - tested)}, which {where} holds "
            "out. Remove the run and train it again"
        )
    return problems


def _is_actors(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(is_count(actor) and actor in ACTORS for actor in value)
        and all(lower < higher for lower, higher in pairwise(value))
    )


def _is_init(value: Any, depth: int = 0) -> bool:
    """Whether a value says, for each encoder, from which run or file it started."""

    def is_run(run: Any) -> bool:
        return run is None or (
            isinstance(run, dict)
            and is_text(run.get("model"))
            and is_count(run.get("epochs"))
            and _is_init(run.get("init", {}), depth + 1)
        )

    return (
        depth < _STARTS_DEEP
        and isinstance(value, dict)
        and all(
            part in ("video", "audio")
            and isinstance(record, dict)
            and "run" in record
            and is_run(record["run"])
            for part, record in value.items()
        )
    )
