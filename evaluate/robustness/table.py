"""Read what was measured under each condition, and put folds together."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.files import sha256_file
from evaluate.robustness.conditions import CONDITIONS, Condition
from evaluate.runs.reading import is_count, is_number, shown, shown_name

FILE_NAME = "robustness.json"
SCHEMA_VERSION = 1

_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
_KEYS = {"schema_version", "checkpoint_sha256", "predictions_sha256", "device", "conditions"}
_OF_A_CONDITION = {"name", "modality", "accuracy", "clips", "reason"}


class RobustnessError(ValueError):
    """What was measured cannot be read or be used, or cannot be measured; one line."""


@dataclass(frozen=True)
class Row:
    """One condition of one model.

    `accuracy` is the mean over `folds`, 0..1, and `difference` that minus the mean as cached; None
    where a fold has none, and `reason` says why. `clips` are those of all folds.
    """

    model: str
    name: str
    modality: str | None
    title: str
    accuracy: float | None
    difference: float | None
    reason: str | None
    folds: int
    clips: int


def collect(folders: Iterable[Path]) -> list[Row]:
    """The means over folds of each model, a row a condition; as cached comes first.

    Args:
        folders: `<model>/fold_<k>` of finished runs; those without robustness.json are left out.

    Returns:
        Rows, models in the order in which they come first, conditions in that of `CONDITIONS`.

    Raises:
        RobustnessError: if a robustness.json is damaged, or belongs to other predictions than
            those beside it.
    """
    models: dict[str, list[list[dict[str, Any]]]] = {}
    for folder in folders:
        if (folder / FILE_NAME).exists():
            measured = read_measured(folder)
            if measured["predictions_sha256"] != _predictions_of(folder):
                raise RobustnessError(
                    f"{shown_name(folder)}: {FILE_NAME} is of other predictions than those beside "
                    "it. Run python -m evaluate.robustness again"
                )
            models.setdefault(folder.parent.name, []).append(measured["conditions"])
    return [
        _row(model, number, folds)
        for model, folds in models.items()
        for number in range(len(CONDITIONS))
    ]


def _row(model: str, number: int, folds: list[list[dict[str, Any]]]) -> Row:
    """The mean of one condition over folds; it has none unless each fold has one."""
    condition, of_folds = CONDITIONS[number], [fold[number] for fold in folds]
    accuracies = [each["accuracy"] for each in of_folds]
    accuracy = difference = None
    if None not in accuracies:
        accuracy = sum(accuracies) / len(accuracies)
        difference = accuracy - sum(fold[0]["accuracy"] for fold in folds) / len(folds)
    return Row(
        *(model, condition.name, condition.modality, condition.title, accuracy, difference),
        reason=next((each["reason"] for each in of_folds if each["reason"]), None),
        folds=len(folds),
        clips=sum(each["clips"] for each in of_folds),
    )


def read_measured(folder: Path) -> dict[str, Any]:
    """Read a run's robustness.json strictly.

    Raises:
        RobustnessError: if it is damaged, or of other conditions than `CONDITIONS`.
    """
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        problem = _problem_of(content)
    except (OSError, ValueError, RecursionError) as exc:
        problem = f"cannot be read as JSON ({type(exc).__name__})"
    if problem:
        raise RobustnessError(
            f"{shown_name(folder)}: {FILE_NAME}: {problem}. Remove that file, and run "
            "python -m evaluate.robustness again"
        )
    return content


def table(rows: list[Row]) -> str:
    """Rows as text: a header, and a line a model with its mean accuracies in percent."""
    width = max(len(row.model) for row in rows)
    titles = [condition.title for condition in CONDITIONS]
    lines = ["  ".join([" " * width, "folds", *titles])]
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        cells = ["-" if row.accuracy is None else f"{100 * row.accuracy:.1f}" for row in own]
        cells = [f"{cell:>{len(title)}}" for cell, title in zip(cells, titles, strict=True)]
        lines.append("  ".join([f"{model:{width}}", f"{own[0].folds:5}", *cells]))
    return "\n".join(lines)


def _predictions_of(folder: Path) -> str | None:
    path = folder / "predictions.csv"
    return sha256_file(path) if path.is_file() else None


def _problem_of(content: Any) -> str | None:
    """The first thing in a robustness.json that is not as this version writes it."""
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        return f"expected an object of schema version {SCHEMA_VERSION}, found {shown(content)}"
    if set(content) != _KEYS:
        return f"its keys are {shown(sorted(content))}"
    for name in ("checkpoint_sha256", "predictions_sha256"):
        if not isinstance(content[name], str) or not _SHA256.fullmatch(content[name]):
            return f"{name} is {shown(content[name])}, expected 64 hexadecimal digits"
    found = content["conditions"]
    if not isinstance(found, list) or len(found) != len(CONDITIONS):
        return f"conditions are {shown(found)}, expected a list of {len(CONDITIONS)}"
    for condition, each in zip(CONDITIONS, found, strict=True):
        problem = _problem_of_condition(condition, each)
        if problem:
            return f"{condition.name}: {problem}"
    if found[0]["accuracy"] is None:
        return "as_cached has no accuracy"
    return None


def _problem_of_condition(condition: Condition, each: Any) -> str | None:
    """What in one entry of `conditions` is not as it is written."""
    if not isinstance(each, dict) or set(each) != _OF_A_CONDITION:
        return f"found {shown(each)}"
    if (each["name"], each["modality"]) != (condition.name, condition.modality):
        return f"found {shown(each['name'])} of modality {shown(each['modality'])}"
    if not is_count(each["clips"]) or each["clips"] == 0:
        return f"clips are {shown(each['clips'])}, expected 1 or more"
    if each["accuracy"] is None and not _is_reason(each["reason"]):
        return f"no accuracy, and the reason is {shown(each['reason'])}"
    if each["accuracy"] is not None and not _is_share(each["accuracy"]):
        return f"accuracy is {shown(each['accuracy'])}, expected 0..1"
    if each["accuracy"] is not None and each["reason"] is not None:
        return f"an accuracy, and a reason for none: {shown(each['reason'])}"
    return None


def _is_reason(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1
