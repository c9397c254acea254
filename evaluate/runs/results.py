"""Read metrics.jsonl and predictions.csv of a run strictly: what came of it."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS, Clip
from evaluate.runs.reading import first, is_count, is_number, parse_object, read_text, shown

PREDICTIONS_HEADER = ["clip_id", "label", "predicted", *(f"p_{emotion}" for emotion in EMOTIONS)]

_SHARES = ("train_accuracy", "test_accuracy")
_QUANTITIES = ("train_loss", "test_loss", "clips_per_second", "seconds")
_SUM_TOLERANCE = 1e-3  # of eight probabilities written in decimals


@dataclass(frozen=True, eq=False)
class Predictions:
    """The rows of predictions.csv: N clip ids, int64 (N,) classes 0..7, float64 (N, 8) shares."""

    clip_ids: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray


def read_metrics(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; what is wrong with them is added to `problems`."""
    text = read_text(path, problems)
    if text is None:
        return []
    epochs, wrong = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path.name} line {number}"
        epoch = parse_object(line, where, wrong)
        if epoch is None:
            continue
        if epoch.get("epoch") != number or not is_count(epoch["epoch"]):
            wrong.append(
                f"{where}: epoch is {shown(epoch.get('epoch'))}, expected {number}. "
                "Remove the run and train it again"
            )
        for name in _SHARES:
            share = epoch.get(name)
            if not is_number(share) or not 0 <= share <= 1:
                wrong.append(f"{where}: {name} is {shown(share)}, expected a fraction 0..1")
        for name in _QUANTITIES:
            # NaN is let through: a diverged training is a result too, and stays in the mean.
            quantity = epoch.get(name)
            if not is_number(quantity) and not isinstance(quantity, float):
                wrong.append(f"{where}: {name} is {shown(quantity)}, expected a number")
        epochs.append(epoch)
    problems += first(wrong, path.name)
    return epochs


def read_predictions(path: Path, config: dict[str, Any], problems: list[str]) -> Predictions:
    """The rows of predictions.csv; what is wrong with them is added to `problems`."""
    rows: dict[str, tuple[int, int, list[float]]] = {}
    wrong: list[str] = []
    for number, row in _csv_rows(path, problems):
        try:
            clip_id, label, guess, probabilities = _parse_prediction(row, config["test_actors"])
        except ValueError as exc:
            wrong.append(f"{path.name} line {number}: {exc}")
            continue
        if clip_id in rows:
            wrong.append(f"{path.name} line {number}: clip {clip_id} is there twice, expected once")
        rows[clip_id] = label, guess, probabilities
    if not problems and not wrong and len(rows) != config["test_clips"]:
        wrong.append(
            f"{path.name}: {len(rows)} clips, config.json says {config['test_clips']} are "
            "tested. Remove the run and train it again"
        )
    problems += first(wrong, path.name)
    return Predictions(
        clip_ids=tuple(rows),
        labels=np.array([label for label, _, _ in rows.values()], dtype=np.int64),
        predicted=np.array([guess for _, guess, _ in rows.values()], dtype=np.int64),
        probabilities=np.array([shares for *_, shares in rows.values()]).reshape(-1, len(EMOTIONS)),
    )


def _parse_prediction(row: list[str], test_actors: list[int]) -> tuple[str, int, int, list[float]]:
    """Clip id, label, predicted class and probabilities of one row; ValueError names the fault."""
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
    return clip_id, clip.label, int(predicted), probabilities


def _csv_rows(path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """The rows below the right header with their line numbers; none if the file is malformed."""
    text = read_text(path, problems)
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
