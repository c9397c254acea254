"""Metrics: known answers, and the cases where a class is missing."""

import numpy as np
import pytest

from evaluate.measures import metrics

LABELS = np.array([0, 0, 1, 1, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 1, 0, 2, 2])  # right: 1 of 2, 3 of 4, 2 of 2


def test_accuracy_is_the_share_of_right_clips():
    assert metrics.accuracy(LABELS, PREDICTED) == 6 / 8


def test_recall_is_per_true_class_and_nan_where_no_clip_is():
    recall = metrics.per_class_recall(LABELS, PREDICTED)
    np.testing.assert_allclose(recall, [1 / 2, 3 / 4, 1] + [np.nan] * 5)


def test_unweighted_average_recall_counts_each_present_class_the_same():
    uar = metrics.unweighted_average_recall(LABELS, PREDICTED)
    assert uar == pytest.approx((1 / 2 + 3 / 4 + 1) / 3)


def test_unweighted_average_recall_of_a_constant_guess_is_chance():
    labels = np.repeat(np.arange(8), [80] + [160] * 7)
    guess = np.full_like(labels, 3)
    assert metrics.unweighted_average_recall(labels, guess) == pytest.approx(1 / 8)
    assert metrics.accuracy(labels, guess) == pytest.approx(160 / 1200)


def test_macro_f1_of_a_known_example():
    # F1 of class 0: P 1/2, R 1/2; class 1: P 3/4, R 3/4; class 2: 1.
    assert metrics.macro_f1(LABELS, PREDICTED) == pytest.approx((1 / 2 + 3 / 4 + 1) / 3)


def test_macro_f1_punishes_a_predicted_emotion_that_no_clip_has():
    assert metrics.macro_f1(np.array([0, 0]), np.array([0, 5])) == pytest.approx((2 / 3 + 0) / 2)


def test_confusion_has_true_classes_in_rows():
    counts = metrics.confusion(LABELS, PREDICTED)
    assert counts.shape == (8, 8)
    assert (counts[0, 1], counts[1, 0], counts[1, 1]) == (1, 1, 3)
    np.testing.assert_array_equal(counts.sum(axis=1), [2, 4, 2, 0, 0, 0, 0, 0])


def test_standard_error_near_75_percent_is_1_25_points_on_1200_clips_and_2_8_on_one_fold():
    assert metrics.binomial_standard_error(0.75, 1200) == pytest.approx(0.0125, abs=1e-6)
    assert metrics.binomial_standard_error(0.75, 240) == pytest.approx(0.028, abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "predicted", "match"),
    [
        ([], [], "N > 0"),
        ([1, 2], [1], "same shape"),
        ([1, 8], [1, 2], r"labels holds classes 1\.\.8, expected 0\.\.7"),
        ([1, 2], [-1, 2], r"predicted holds classes -1\.\.2"),
    ],
)
def test_wrong_classes_are_an_error(labels, predicted, match):
    with pytest.raises(ValueError, match=match):
        metrics.accuracy(np.array(labels, dtype=int), np.array(predicted, dtype=int))


def test_a_standard_error_of_no_clips_is_an_error():
    with pytest.raises(ValueError, match="at least 1 clip"):
        metrics.binomial_standard_error(0.5, 0)


def test_confusion_has_true_emotions_as_rows():
    counts = metrics.confusion(np.array([0, 0, 1]), np.array([1, 1, 1]))
    assert counts[0, 1] == 2
    assert counts[1, 0] == 0
    assert counts[1, 1] == 1
