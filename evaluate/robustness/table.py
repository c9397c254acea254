"""robustness.json, written and read here, and the means over folds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cache.files import sha256_file, write_json
from evaluate.robustness.conditions import CONDITIONS
from train.record import PREDICTIONS

FILE_NAME = "robustness.json"
SCHEMA_VERSION = 2

Row = dict[str, Any]  # one condition of one model, the values by the name of their column


class RobustnessError(ValueError):
    """A run cannot be measured, or its robustness.json is damaged or of other predictions."""


@dataclass(frozen=True)
class Outcome:
    """What one run reached under one condition: an accuracy 0..1, or a reason for none."""

    name: str
    modality: str | None
    accuracy: float | None
    clips: int
    reason: str | None


@dataclass(frozen=True)
class Measured:
    """The content of robustness.json: what was measured, and one outcome per condition."""

    checkpoint_sha256: str
    predictions_sha256: str
    device: str
    conditions: tuple[Outcome, ...]
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> None:
        """Write robustness.json into the folder of a run."""
        write_json(folder / FILE_NAME, asdict(self))


def read_measured(folder: Path) -> Measured:
    """Read robustness.json of a run; RobustnessError if it is damaged or of other predictions."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        try:
            conditions = tuple(Outcome(**each) for each in content["conditions"])
            measured = Measured(**(content | {"conditions": conditions}))
        except (TypeError, KeyError) as exc:
            raise RobustnessError(f"a key is missing or unknown ({exc!a:.100})") from exc
        found, expected = (
            [(each.name, each.modality) for each in own] for own in (conditions, CONDITIONS)
        )
        if content.get("schema_version") != SCHEMA_VERSION or found != expected:
            raise RobustnessError("it has another schema version or different conditions")
        if measured.predictions_sha256 != sha256_file(folder / PREDICTIONS):
            raise RobustnessError(f"it does not match the {PREDICTIONS} beside it")
        return measured
    except (OSError, ValueError, RecursionError) as exc:
        raise RobustnessError(
            f"{folder.parent.name}/{folder.name}: {FILE_NAME} cannot be used: {exc}. Run "
            "python -m evaluate.robustness again"
        ) from exc


def collect(folders: Iterable[Path]) -> list[Row]:
    """The means over folds of each model, one row per condition in the order of `CONDITIONS`.

    `difference` is the accuracy minus that of the clips as cached; both are None with a `reason`.
    Folders are those of finished runs; those without robustness.json are skipped. RobustnessError
    if one is damaged, or of other predictions.
    """
    models: dict[str, list[Measured]] = {}
    for folder in folders:
        if (folder / FILE_NAME).exists():
            models.setdefault(folder.parent.name, []).append(read_measured(folder))
    rows = []
    for model, folds in models.items():
        as_cached = sum(fold.conditions[0].accuracy for fold in folds) / len(folds)
        for number, condition in enumerate(CONDITIONS):
            outcomes = [fold.conditions[number] for fold in folds]
            reason = next((each.reason for each in outcomes if each.reason), None)
            row = {"model": model, "name": condition.name, "modality": condition.modality}
            row |= {"title": condition.title, "accuracy": None, "difference": None}
            if reason is None:
                accuracy = sum(each.accuracy for each in outcomes) / len(folds)
                row |= {"accuracy": accuracy, "difference": accuracy - as_cached}
            clips = sum(each.clips for each in outcomes)
            rows.append(row | {"reason": reason, "folds": len(folds), "clips": clips})
    return rows


def table(rows: Sequence[Row]) -> str:
    """Rows as text: a header, and one line per model with its mean accuracies in percent."""
    width = max(len(row["model"]) for row in rows)
    titles = [condition.title for condition in CONDITIONS]
    lines = ["  ".join([" " * width, "folds", *titles])]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        accuracies = [row["accuracy"] for row in own]
        shown = ["-" if share is None else f"{100 * share:.1f}" for share in accuracies]
        cells = [f"{text:>{len(title)}}" for text, title in zip(shown, titles, strict=True)]
        lines.append("  ".join([f"{model:{width}}", f"{own[0]['folds']:5}", *cells]))
    return "\n".join(lines)
