"""Read the files of one run strictly, so that a number is never made of half a run."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cache import splits
from cache.clips import ACTORS, EMOTIONS, Clip

PREDICTIONS_HEADER = ["clip_id", "label", "predicted", *(f"p_{emotion}" for emotion in EMOTIONS)]

_MODEL_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_FOLD_NAME = re.compile(r"fold_(0|[1-9][0-9]?)", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHARES = ("train_accuracy", "test_accuracy")
_QUANTITIES = ("train_loss", "test_loss", "clips_per_second", "seconds")
_TOLERANCE = 1e-6  # of an accuracy written in decimals
_SUM_TOLERANCE = 1e-3  # of eight probabilities written in decimals
_PROBLEMS_SHOWN = 5  # of one file; a shifted column would else give hundreds


@dataclass(frozen=True, eq=False)
class Run:
    """One finished fold of one model, checked.

    `config` is config.json; `epochs` holds the lines of metrics.jsonl, epoch 1 first;
    `labels` and `predicted` are int64 (N,), classes 0..7 of `clip_ids`, after the last epoch.
    """

    model: str
    fold: int
    config: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    clip_ids: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray

    @property
    def name(self) -> str:
        """`cfn_sr/fold_0`, as on disk."""
        return f"{self.model}/fold_{self.fold}"


UNKNOWN_START = "a file of unknown actors"
_STARTS_DEEP = 10  # runs that started from runs that started from ...


class DamagedRunError(ValueError):
    """A run whose files contradict the format or each other; `problems` has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UnfinishedRunError(ValueError):
    """A run that has not reached its last epoch."""


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


def read_run(folder: Path) -> Run:
    """Read one fold's folder and check it against the format, its split and itself.

    Args:
        folder: `<model>/fold_<k>` with config.json, metrics.jsonl and predictions.csv.

    Raises:
        UnfinishedRunError: if predictions.csv or epochs are still missing.
        DamagedRunError: with all contradictions found.
    """
    config = _read_config(folder)
    planned = config["epochs"]
    metrics_file, predictions_file = folder / "metrics.jsonl", folder / "predictions.csv"
    if not predictions_file.exists():
        # A running trainer may be in the middle of a line, so lines are only counted here.
        done = len((_read_text(metrics_file, []) or "").splitlines())
        raise UnfinishedRunError(
            f"predictions.csv is not there yet, {done} of {planned} epochs are done. "
            "Continue it with train.py --resume"
        )
    problems: list[str] = []
    epochs = _read_metrics(metrics_file, problems)
    if not problems and len(epochs) < planned:
        raise UnfinishedRunError(
            f"{len(epochs)} of {planned} epochs are done. Continue it with train.py --resume"
        )
    if len(epochs) > planned:
        problems.append(
            f"metrics.jsonl: {len(epochs)} epochs, config.json says {planned}: the last epoch "
            "is not the planned one. Remove the run and train it again"
        )
    clip_ids, labels, predicted = _read_predictions(predictions_file, config, problems)
    if not problems:
        last, counted = epochs[-1]["test_accuracy"], float(np.mean(labels == predicted))
        if abs(last - counted) > _TOLERANCE:
            problems.append(
                f"predictions.csv gives an accuracy of {counted:.6f}, the last line of "
                f"metrics.jsonl says {last:.6f}: they are of different epochs or runs. "
                "Remove the run and train it again"
            )
    if problems:
        raise DamagedRunError(problems)
    fold = config["fold"]
    return Run(config["model"], fold, config, tuple(epochs), clip_ids, labels, predicted)


def _read_config(folder: Path) -> dict[str, Any]:
    """Read and check config.json; raise DamagedRunError with all that is wrong."""
    model, fold_name = folder.parent.name, _FOLD_NAME.fullmatch(folder.name)
    if not _MODEL_NAME.fullmatch(model) or not fold_name:
        raise DamagedRunError(
            [f"the folder is {shown_name(folder)}, expected [a-z0-9_]+/fold_<k>. Rename it"]
        )
    problems: list[str] = []
    text = _read_text(folder / "config.json", problems)
    config = _parse_object(text, "config.json", problems) if text is not None else None
    if config is None:
        raise DamagedRunError(problems)
    problems += _wrong_types(config) or _wrong_values(config, model, int(fold_name[1]))
    if problems:
        raise DamagedRunError(f"config.json: {problem}" for problem in problems)
    return config


def _wrong_types(config: dict[str, Any]) -> list[str]:
    """What in config.json is missing or of another kind than the report needs."""
    kinds: dict[str, tuple[Any, str]] = {
        **dict.fromkeys(("model", "preset", "split", "recipe", "device"), (_is_text, "text")),
        **dict.fromkeys(("fold", "seed"), (_is_count, "a whole number")),
        **dict.fromkeys(
            ("epochs", "batch_size", "parameters", "train_clips", "test_clips"),
            (lambda value: _is_count(value) and value > 0, "a whole number above 0"),
        ),
        "learning_rate": (_is_number, "a number"),
        **dict.fromkeys(("train_actors", "test_actors"), (_is_actors, "rising numbers 1..24")),
        "cache.dataset": (_is_text, "text"),
        "cache.fingerprint": (
            lambda value: _is_text(value) and _FINGERPRINT.fullmatch(value) is not None,
            "64 hexadecimal digits",
        ),
        "cache.schema_version": (_is_count, "a whole number"),
        "versions": (
            lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
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
        held_out = splits.test_actors(config["split"], config["fold"])
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


def _read_metrics(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; what is wrong with them is added to `problems`."""
    text = _read_text(path, problems)
    if text is None:
        return []
    epochs, wrong = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path.name} line {number}"
        epoch = _parse_object(line, where, wrong)
        if epoch is None:
            continue
        if epoch.get("epoch") != number or not _is_count(epoch["epoch"]):
            wrong.append(
                f"{where}: epoch is {shown(epoch.get('epoch'))}, expected {number}. "
                "Remove the run and train it again"
            )
        for name in _SHARES:
            share = epoch.get(name)
            if not _is_number(share) or not 0 <= share <= 1:
                wrong.append(f"{where}: {name} is {shown(share)}, expected a fraction 0..1")
        for name in _QUANTITIES:
            # NaN is let through: a diverged training is a result too, and stays in the mean.
            quantity = epoch.get(name)
            if not _is_number(quantity) and not isinstance(quantity, float):
                wrong.append(f"{where}: {name} is {shown(quantity)}, expected a number")
        epochs.append(epoch)
    problems += _first(wrong, path.name)
    return epochs


def _read_predictions(
    path: Path, config: dict[str, Any], problems: list[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The clip ids (N), labels and predicted classes (N,); problems are added to `problems`."""
    clip_ids, labels, predicted, wrong = [], [], [], []
    seen: set[str] = set()
    for number, row in _csv_rows(path, problems):
        try:
            clip_id, label, guess = _parse_prediction(row, config["test_actors"])
        except ValueError as exc:
            wrong.append(f"{path.name} line {number}: {exc}")
            continue
        if clip_id in seen:
            wrong.append(f"{path.name} line {number}: clip {clip_id} is there twice, expected once")
        seen.add(clip_id)
        clip_ids.append(clip_id)
        labels.append(label)
        predicted.append(guess)
    if not problems and not wrong and len(clip_ids) != config["test_clips"]:
        wrong.append(
            f"{path.name}: {len(clip_ids)} clips, config.json says {config['test_clips']} are "
            "tested. Remove the run and train it again"
        )
    problems += _first(wrong, path.name)
    return tuple(clip_ids), np.array(labels, dtype=np.int64), np.array(predicted, dtype=np.int64)


def _parse_prediction(row: list[str], test_actors: list[int]) -> tuple[str, int, int]:
    """Clip id, label and predicted class of one row; ValueError says what is wrong with it."""
    if len(row) != len(PREDICTIONS_HEADER):
        raise ValueError(f"{len(row)} columns, expected {len(PREDICTIONS_HEADER)}")
    clip_id, label, predicted, *written = row
    clip = Clip.parse(clip_id)
    if clip.actor not in test_actors:
        raise ValueError(
            f"clip {clip_id} is of actor {clip.actor}, config.json tests actors {test_actors}"
        )
    if label != str(clip.label):
        raise ValueError(
            f"label is {shown(label)}, expected {clip.label} ({EMOTIONS[clip.label]}) "
            f"from the name of clip {clip_id}"
        )
    if predicted not in map(str, range(len(EMOTIONS))):
        raise ValueError(f"predicted is {shown(predicted)}, expected 0..{len(EMOTIONS) - 1}")
    try:
        probabilities = [float(text) for text in written]
    except ValueError:
        raise ValueError(f"probabilities are {shown(written)}, expected numbers") from None
    if not all(0 <= probability <= 1 for probability in probabilities):
        raise ValueError(f"probabilities are {shown(written)}, expected each in 0..1")
    if abs(sum(probabilities) - 1) > _SUM_TOLERANCE:
        raise ValueError(f"probabilities sum to {sum(probabilities):.4f}, expected 1")
    if probabilities[int(predicted)] < max(probabilities) - _SUM_TOLERANCE:
        likeliest = probabilities.index(max(probabilities))
        raise ValueError(f"predicted is {predicted}, the most probable class is {likeliest}")
    return clip_id, clip.label, int(predicted)


def _csv_rows(path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """The rows below the right header with their line numbers; none if the file is malformed."""
    text = _read_text(path, problems)
    if text is None:
        return []
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as exc:
        problems.append(f"{path.name} is not CSV: {exc}. Remove the run and train it again")
        return []
    header = rows[0][1] if rows else []
    if header != PREDICTIONS_HEADER:
        problems.append(
            f"{path.name}: the header is {shown(','.join(header))}, expected "
            f"{','.join(PREDICTIONS_HEADER)}. Remove the run and train it again"
        )
        return []
    return rows[1:]


def _read_text(path: Path, problems: list[str]) -> str | None:
    """A file's text, or None and a problem."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing. Remove the run and train it again")
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{path.name} cannot be read as UTF-8 text: {_reason(exc)}")
    return None


def _parse_object(text: str, where: str, problems: list[str]) -> dict[str, Any] | None:
    """The JSON object in `text`, or None and a problem."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as exc:
        problems.append(f"{where} is not JSON: {exc}. Remove the run and train it again")
        return None
    if not isinstance(parsed, dict):
        problems.append(f"{where} is {shown(parsed)}, expected a JSON object")
        return None
    return parsed


def _is_text(value: Any) -> bool:
    # Printable, because it goes into the report: no line breaks, no lone surrogates.
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    # The bounds keep out NaN, infinity, and whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_actors(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_count(actor) and actor in ACTORS for actor in value)
        and all(lower < higher for lower, higher in pairwise(value))
    )


def _is_init(value: Any, depth: int = 0) -> bool:
    """Whether a value says, for each encoder, from which run or file it started."""

    def is_run(run: Any) -> bool:
        return run is None or (
            isinstance(run, dict)
            and _is_text(run.get("model"))
            and _is_count(run.get("epochs"))
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


def _first(problems: list[str], file: str) -> list[str]:
    """The first few problems of a file, and how many more there are."""
    hidden = len(problems) - _PROBLEMS_SHOWN
    more = [f"{file}: {hidden} more like these"] if hidden > 0 else []
    return problems[:_PROBLEMS_SHOWN] + more


def shown(value: Any) -> str:
    """A found value, safe to print, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_name(folder: Path) -> str:
    """`cfn_sr/fold_0`; quoted and escaped if the name has characters that do not print."""
    name = f"{folder.parent.name}/{folder.name}"
    return name if name.isprintable() else ascii(name)


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    # Not str(exc): that of an OSError holds the absolute path, and reports are passed on.
    return (exc.strerror if isinstance(exc, OSError) else exc.reason) or type(exc).__name__
