"""Recall, precision and F1: known answers, and cases in which an emotion is missing."""

import numpy as np
import pytest

from evaluate.measures import emotion_scores

LABELS = np.array([0, 0, 1, 1, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 1, 0, 2, 2])  # right: 1 of 2, 3 of 4, 2 of 2
REST = [np.nan] * 5


def test_scores_of_a_known_example_are_per_emotion_and_nan_where_no_clip_is():
    for scores in emotion_scores(LABELS, PREDICTED):
        np.testing.assert_allclose(scores, [1 / 2, 3 / 4, 1, *REST])


def test_the_mean_recall_of_a_constant_guess_is_chance():
    labels = np.repeat(np.arange(8), [80] + [160] * 7)
    recall, _, _ = emotion_scores(labels, np.full_like(labels, 3))
    assert recall.mean() == pytest.approx(1 / 8)


def test_an_emotion_that_is_never_predicted_has_no_precision_but_an_f1_of_0():
    _, precision, f1 = emotion_scores(np.array([0, 1]), np.array([0, 0]))
    np.testing.assert_array_equal(precision, [0.5] + [np.nan] * 7)
    np.testing.assert_allclose(f1, [2 / 3, 0] + [np.nan] * 6)


def test_an_emotion_that_no_clip_has_but_is_predicted_lowers_the_mean_f1():
    recall, _, f1 = emotion_scores(np.array([0, 0]), np.array([0, 5]))
    assert np.nanmean(f1) == pytest.approx((2 / 3 + 0) / 2)
    assert np.nanmean(recall) == pytest.approx(1 / 2)
