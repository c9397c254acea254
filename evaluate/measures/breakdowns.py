"""A model's result by fold, actor, sex, emotion and intensity: rows for the page and for CSV.

Shares are fractions 0..1, rounded to 6 digits, None where there is nothing to take a share of.
"""

from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS, sex
from evaluate.measures import metrics
from evaluate.measures.pooled import Pooled
from evaluate.runs.run import Run

ALL, ALL_BUT_NEUTRAL = "all", "all but neutral"
_INTENSITIES = {1: "normal", 2: "strong"}


def best_on_test(run: Run) -> tuple[float, int]:
    """The highest test accuracy of any epoch (0..1) and the first epoch (1..) that has it.

    Not a result: the epoch is chosen by looking at the test actors.
    """
    accuracies = [line["test_accuracy"] for line in run.epochs]
    best = max(accuracies)
    return best, accuracies.index(best) + 1


def rounded(number: float) -> float | None:
    """A figure as it is written: 6 digits, None for NaN."""
    return None if np.isnan(number) else round(float(number), 6)


def by_fold(run: Run) -> dict[str, Any]:
    """One fold: its clips, its metrics after the last epoch, and its best epoch."""
    best, epoch = best_on_test(run)
    return {
        "fold": run.fold,
        "test_actors": list(run.config["test_actors"]),
        **_counts(run.labels == run.predicted),
        "uar": rounded(metrics.unweighted_average_recall(run.labels, run.predicted)),
        "macro_f1": rounded(metrics.macro_f1(run.labels, run.predicted)),
        "accuracy_best_on_test": rounded(best),
        "best_epoch": epoch,
    }


def by_actor(pooled: Pooled) -> list[dict[str, Any]]:
    """Each actor, with the fold that tests them, sorted by number."""
    rows = []
    for actor in np.unique(pooled.actors):
        own = pooled.actors == actor
        fold = int(pooled.folds[own][0])
        rows.append(
            {"actor": int(actor), "sex": sex(int(actor)), "fold": fold} | _counts(pooled.right[own])
        )
    return rows


def by_sex(pooled: Pooled) -> list[dict[str, Any]]:
    """Men and women among the actors: RAVDESS gives men odd numbers and women even ones."""
    sexes = np.array([sex(actor) for actor in pooled.actors])
    return [
        {"sex": group, "actors": len(np.unique(pooled.actors[sexes == group]))}
        | _counts(pooled.right[sexes == group])
        for group in ("male", "female")
    ]


def by_emotion(pooled: Pooled) -> list[dict[str, Any]]:
    """Each emotion: its clips, how often it is predicted, recall, precision and F1."""
    labels, predicted = pooled.labels, pooled.predicted
    recall = metrics.per_class_recall(labels, predicted)
    precision = metrics.per_class_precision(labels, predicted)
    f1 = metrics.per_class_f1(labels, predicted)
    return [
        {
            "emotion": emotion,
            "clips": int(np.sum(labels == label)),
            "predicted": int(np.sum(predicted == label)),
            "right": int(np.sum(pooled.right[labels == label])),
            "recall": rounded(recall[label]),
            "precision": rounded(precision[label]),
            "f1": rounded(f1[label]),
        }
        for label, emotion in enumerate(EMOTIONS)
    ]


def by_intensity(pooled: Pooled) -> list[dict[str, Any]]:
    """Each emotion in each intensity, then all together, with and without neutral.

    Neutral has no strong intensity, so only the rows without it set the two side by side.
    """
    intensity = np.array([clip.intensity for clip in pooled.clips])
    groups = {
        **{emotion: pooled.labels == label for label, emotion in enumerate(EMOTIONS)},
        ALL_BUT_NEUTRAL: pooled.labels != EMOTIONS.index("neutral"),
        ALL: np.ones(len(pooled.labels), dtype=bool),
    }
    return [
        {"emotion": emotion, "intensity": name} | _counts(pooled.right[group & (intensity == code)])
        for emotion, group in groups.items()
        for code, name in _INTENSITIES.items()
        if (emotion, name) != ("neutral", "strong")
    ]


def _counts(right: np.ndarray) -> dict[str, Any]:
    """How many clips, how many of them right, and their share, of bool (N,)."""
    share = float(np.mean(right)) if len(right) else np.nan
    return {"clips": len(right), "right": int(right.sum()), "accuracy": rounded(share)}
