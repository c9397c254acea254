"""What can be said of a list of true and predicted emotions; classes are indices into EMOTIONS."""

import math

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from cache.ravdess import EMOTIONS

_CLASSES = range(len(EMOTIONS))


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The share of clips whose emotion is predicted right.

    Args:
        labels: int (N,), true classes 0..7, N > 0.
        predicted: int (N,), predicted classes 0..7.

    Returns:
        A fraction 0..1.

    Raises:
        ValueError: for no clips, different lengths, or a class outside 0..7.
    """
    _check(labels, predicted)
    return float(np.mean(labels == predicted))


def per_class_recall(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The share of each emotion's clips that is predicted right.

    Args and raises as in `accuracy`.

    Returns:
        float64 (8,), fractions 0..1, NaN for an emotion that no clip has.
    """
    _check(labels, predicted)
    return recall_score(labels, predicted, labels=_CLASSES, average=None, zero_division=np.nan)


def per_class_precision(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The share of the clips predicted as each emotion that have it.

    Args and raises as in `accuracy`.

    Returns:
        float64 (8,), fractions 0..1, NaN for an emotion that is never predicted.
    """
    _check(labels, predicted)
    return precision_score(labels, predicted, labels=_CLASSES, average=None, zero_division=np.nan)


def per_class_f1(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The F1 of each emotion: 2 right / (clips that have it + clips predicted as it).

    Args and raises as in `accuracy`.

    Returns:
        float64 (8,), fractions 0..1, NaN for an emotion that no clip has and none is predicted as.
    """
    _check(labels, predicted)
    return f1_score(labels, predicted, labels=_CLASSES, average=None, zero_division=np.nan)


def unweighted_average_recall(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean of the per-class recalls (UAR), over the emotions that some clip has.

    RAVDESS has half as many neutral clips as clips of any other emotion; here each emotion counts
    the same. Args and raises as in `accuracy`; returns a fraction 0..1.
    """
    return float(np.nanmean(per_class_recall(labels, predicted)))


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean F1 over the emotions that occur among the labels or the predictions.

    Args and raises as in `accuracy`; returns a fraction 0..1.
    """
    _check(labels, predicted)
    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """How many clips of each emotion are taken for which.

    Args and raises as in `accuracy`.

    Returns:
        int64 (8, 8): clips of true class `row` predicted as class `column`.
    """
    _check(labels, predicted)
    return confusion_matrix(labels, predicted, labels=_CLASSES)


def binomial_standard_error(share: float, clips: int) -> float:
    """The standard error of an accuracy `share` (0..1) measured on `clips` independent clips.

    sqrt(p (1 - p) / n). Clips of one actor resemble each other, so the true error is larger.

    Raises:
        ValueError: for a share outside 0..1 or fewer than one clip.
    """
    if not 0 <= share <= 1 or clips < 1:
        raise ValueError(f"share is {share} of {clips} clips, expected 0..1 of at least 1 clip")
    return math.sqrt(share * (1 - share) / clips)


def _check(labels: np.ndarray, predicted: np.ndarray) -> None:
    """Raise ValueError unless both are (N,) classes 0..7 with the same N > 0."""
    if labels.ndim != 1 or labels.shape != predicted.shape or len(labels) == 0:
        raise ValueError(
            f"labels {labels.shape} and predicted {predicted.shape}: "
            "expected the same shape (N,) with N > 0"
        )
    for name, classes in (("labels", labels), ("predicted", predicted)):
        if not np.isin(classes, _CLASSES).all():
            raise ValueError(
                f"{name} holds classes {classes.min()}..{classes.max()}, "
                f"expected 0..{len(EMOTIONS) - 1}"
            )
