"""Recall and precision of each emotion, intervals over actors, and tests of paired predictions.

The intervals answer one question: what if other actors had been recorded? They do not cover what
another training would give; the spread over seeds does. With 20 to 24 actors, percentile intervals
are slightly too narrow: the spread among n actors resampled from n is sqrt((n - 1) / n) of the
spread among n new actors, and percentiles do not correct it.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from cache.ravdess import EMOTIONS

LEVEL = 0.95
DRAWS = 10_000
SEED = 0
NO_INTERVAL = "fewer than two actors, so there is no interval"


def emotion_scores(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    """Recall, precision and F1 of each emotion.

    Their means over emotions, without NaN, are the unweighted average recall (UAR), in which each
    emotion counts the same although RAVDESS has half as many neutral clips, and the macro F1.
    Classes are 0..7, int (N,).

    Returns:
        Three arrays float64 (8,), shares 0..1. Recall is NaN for an emotion that no clip has,
        precision for one that is never predicted, F1 for one that is both.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(len(EMOTIONS)), zero_division=np.nan
    )
    return recall, precision, f1


def interval_over_actors(
    scores: np.ndarray,
    weights: np.ndarray,
    actors: np.ndarray,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a weighted mean over clips, clustered by actor.

    Each draw takes as many actors as there are, with replacement, and all clips of each, because
    clips of one actor resemble each other. Its statistic is sum(weight * score) / sum(weight) over
    the drawn clips.

    Args:
        scores: the score of each clip, float (N,), such as 1 where a prediction is correct, else 0.
        weights: the weight of each clip, float (N,), above 0, with any sum.
        actors: the actor of each clip, int (N,).
        level: the share of the draws between the two bounds, 0..1.

    Returns:
        The lower and the upper bound; None with fewer than two actors.
    """
    names, index = np.unique(actors, return_inverse=True)
    if len(names) < 2:
        return None
    mass = np.bincount(index, weights)  # (N,) -> (A,)
    total = np.bincount(index, weights * scores)
    times = np.random.default_rng(SEED).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=draws
    )  # (draws, A): how often each draw takes each actor
    drawn = (times @ total) / (times @ mass)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact McNemar test, from the clips that only one of two models gets right.

    If both were equally good, each clip that only one of them predicts correctly would be either's
    with probability 1/2. The test treats clips as independent, which clips of one actor are not, so
    p is too small where models differ from actor to actor. It is 1 if no clip distinguishes them.
    """
    apart = only_first + only_second
    return float(binomtest(only_first, apart).pvalue) if apart else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method for their number, in the same order."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
