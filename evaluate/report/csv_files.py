"""The report's numbers for other programs: CSV in long format, a model a row or more."""

import csv
import io
from typing import Any

from cache.ravdess import EMOTIONS

_COLUMNS = {
    "folds.csv": (
        *("model", "fold", "test_actors", "clips", "right", "accuracy", "uar", "macro_f1"),
        *("accuracy_best_on_test", "best_epoch"),
    ),
    "actors.csv": ("model", "actor", "sex", "fold", "clips", "right", "accuracy"),
    "emotions.csv": (
        *("model", "emotion", "clips", "predicted", "right", "recall", "precision", "f1"),
    ),
    "intensities.csv": ("model", "emotion", "intensity", "clips", "right", "accuracy"),
    "confusion.csv": ("model", "true", "predicted", "clips", "share_of_true"),
    "robustness.csv": (
        *(
            "model",
            "name",
            "modality",
            "title",
            "accuracy",
            "difference",
            "folds",
            "clips",
            "reason",
        ),
    ),
    "comparisons.csv": (
        *("first", "second", "clips", "accuracy_first", "accuracy_second", "difference"),
        *("interval_low", "interval_high", "only_first_right", "only_second_right", "p"),
        *("p_holm_with_main", "p_holm_all_pairs", "differ_in"),
    ),
}
NAMES = tuple(_COLUMNS)


def csv_files(summary: dict[str, Any]) -> dict[str, str]:
    """The CSV files by name, as RFC 4180 has them: commas, a header, lines that end in CR LF.

    Args:
        summary: as from `summary.summarise`. Shares are 0..1 and empty where undefined; lists
            within a field are joined by spaces, titles of settings by "; ".
    """
    rows: dict[str, list[dict[str, Any]]] = {
        "folds.csv": [
            {**row, "test_actors": " ".join(map(str, row["test_actors"]))}
            for row in _long(summary, "per_fold")
        ],
        "actors.csv": _long(summary, "per_actor"),
        "emotions.csv": _long(summary, "per_emotion"),
        "intensities.csv": _long(summary, "per_intensity"),
        "confusion.csv": _confusions(summary),
        "robustness.csv": summary["robustness"],
        "comparisons.csv": [_comparison(pair) for pair in summary["comparisons"]["pairs"]],
    }
    return {name: _csv(columns, rows[name]) for name, columns in _COLUMNS.items()}


def _long(summary: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """The rows of one breakdown of all models."""
    return [
        {"model": model, **row} for model, each in summary["models"].items() for row in each[part]
    ]


def _confusions(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Every cell of every confusion matrix."""
    return [
        {
            "model": model,
            "true": EMOTIONS[true],
            "predicted": EMOTIONS[predicted],
            "clips": clips,
            "share_of_true": round(clips / sum(counts), 6) if sum(counts) else None,
        }
        for model, each in summary["models"].items()
        for true, counts in enumerate(each["confusion"])
        for predicted, clips in enumerate(counts)
    ]


def _comparison(pair: dict[str, Any]) -> dict[str, Any]:
    low, high = pair["interval"] or (None, None)
    return {
        **pair,
        "interval_low": low,
        "interval_high": high,
        "differ_in": "; ".join(pair["differ_in"]),
    }


def _csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()
