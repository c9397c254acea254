"""Read one run strictly, so that a number is never made of half a run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluate.runs.config import problems_of
from evaluate.runs.reading import parse_object, read_text, shown_name
from evaluate.runs.results import read_metrics, read_predictions

_MODEL_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)
_FOLD_NAME = re.compile(r"fold_(0|[1-9][0-9]?)", re.ASCII)
_TOLERANCE = 1e-6  # of an accuracy written in decimals


@dataclass(frozen=True, eq=False)
class Run:
    """One finished fold of one model, checked.

    `config` is config.json; `epochs` holds the lines of metrics.jsonl, epoch 1 first;
    `labels` and `predicted` are int64 (N,), classes 0..7 of `clip_ids`, after the last epoch, and
    `probabilities` float64 (N, 8), 0..1, rows summing to 1 within the decimals written.
    """

    model: str
    fold: int
    config: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    clip_ids: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    @property
    def name(self) -> str:
        """`cfn_sr/fold_0`, as on disk."""
        return f"{self.model}/fold_{self.fold}"


class DamagedRunError(ValueError):
    """A run whose files contradict the format or each other; `problems` has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class UnfinishedRunError(ValueError):
    """A run that has not reached its last epoch."""


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
        done = len((read_text(metrics_file, []) or "").splitlines())
        raise UnfinishedRunError(
            f"predictions.csv is not there yet, {done} of {planned} epochs are done. "
            "Continue it with train.py --resume"
        )
    problems: list[str] = []
    epochs = read_metrics(metrics_file, problems)
    if not problems and len(epochs) < planned:
        raise UnfinishedRunError(
            f"{len(epochs)} of {planned} epochs are done. Continue it with train.py --resume"
        )
    if len(epochs) > planned:
        problems.append(
            f"metrics.jsonl: {len(epochs)} epochs, config.json says {planned}: the last epoch "
            "is not the planned one. Remove the run and train it again"
        )
    tested = read_predictions(predictions_file, config, problems)
    if not problems:
        last, counted = (
            epochs[-1]["test_accuracy"],
            float(np.mean(tested.labels == tested.predicted)),
        )
        if abs(last - counted) > _TOLERANCE:
            problems.append(
                f"predictions.csv gives an accuracy of {counted:.6f}, the last line of "
                f"metrics.jsonl says {last:.6f}: they are of different epochs or runs. "
                "Remove the run and train it again"
            )
    if problems:
        raise DamagedRunError(problems)
    return Run(
        model=config["model"],
        fold=config["fold"],
        config=config,
        epochs=tuple(epochs),
        clip_ids=tested.clip_ids,
        labels=tested.labels,
        predicted=tested.predicted,
        probabilities=tested.probabilities,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """Read and check config.json; raise DamagedRunError with all that is wrong."""
    model, fold_name = folder.parent.name, _FOLD_NAME.fullmatch(folder.name)
    if not _MODEL_NAME.fullmatch(model) or not fold_name:
        raise DamagedRunError(
            [f"the folder is {shown_name(folder)}, expected [a-z0-9_]+/fold_<k>. Rename it"]
        )
    problems: list[str] = []
    text = read_text(folder / "config.json", problems)
    config = parse_object(text, "config.json", problems) if text is not None else None
    if config is None:
        raise DamagedRunError(problems)
    problems += problems_of(config, model, int(fold_name[1]))
    if problems:
        raise DamagedRunError(f"config.json: {problem}" for problem in problems)
    return config
