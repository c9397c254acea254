"""Recall and precision of each emotion, intervals over actors, and tests of paired predictions.

The intervals answer one question: what if other actors had been recorded? They do not cover what
another training would give; the spread over seeds does.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest
from scipy.stats import t as student_t
from sklearn.metrics import precision_recall_fscore_support

from cache.ravdess import EMOTIONS

LEVEL = 0.95
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
    scores: np.ndarray, weights: np.ndarray, actors: np.ndarray, *, lowest: float = 0.0
) -> tuple[float, float] | None:
    """The t interval of level 0.95 of a weighted mean over clips, clustered by actor.

    Clips of one actor resemble each other, so the standard error is that of a ratio of sums over
    A actors, and t has A - 1 degrees of freedom. Bounds are computed for the logit of the mean,
    which keeps them in range and covers skewed accuracies near the ceiling. In simulations with 4
    to 24 actors, intervals of 95 % covered 94 to 97 %; percentiles of a bootstrap covered 79 to 93.

    Args:
        scores: the score of each clip, float (N,), such as 1 where a prediction is correct, else 0.
        weights: the weight of each clip, float (N,), above 0, with any sum.
        actors: the actor of each clip, int (N,).
        lowest: the lowest possible score; the highest is 1. Differences have -1.

    Returns:
        The lower and the upper bound; None with fewer than two actors.
    """
    names, index = np.unique(actors, return_inverse=True)
    count = len(names)
    if count < 2:
        return None
    shares = (scores - lowest) / (1 - lowest)  # (N,), 0..1
    mean = shares @ weights / weights.sum()
    residuals = np.bincount(index, weights * (shares - mean)) / weights.sum()  # (N,) -> (A,)
    error = np.sqrt(count / (count - 1) * np.sum(residuals**2))
    bounds = np.array([mean, mean])
    if error > 1e-9:  # else all actors agree; the logit of 0 or 1 is infinite
        # d logit(p) / dp = 1 / (p (1 - p)).
        half = student_t.ppf((1 + LEVEL) / 2, count - 1) * error / (mean * (1 - mean))
        bounds = expit(logit(mean) + np.array([-half, half]))
    low, high = lowest + (1 - lowest) * bounds
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
