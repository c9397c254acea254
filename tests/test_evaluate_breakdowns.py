"""Breakdowns of a small known result: who and what is counted where."""

import math

import numpy as np
import pytest
from fake_runs import make_run

from cache.ravdess import EMOTIONS, Clip, expected_clips
from evaluate.measures import emotion_scores
from evaluate.report.figures import Pooled, compute

# Clip and predicted class, by fold: 3 of 5 are right.
FOLDS = (
    {
        "01-01-01-01-01-01-01": 0,  # neutral, actor 1
        "01-01-03-01-01-01-01": 3,  # happy normal, predicted as sad
    },
    {
        "01-01-03-02-01-01-05": 2,  # happy strong, actor 5
        "01-01-04-02-01-01-06": 3,  # sad strong, actor 6
        "01-01-04-02-02-01-06": 0,  # sad strong, predicted as neutral
    },
)


@pytest.fixture(scope="module")
def figures() -> dict:
    runs = [
        make_run(fold, clips=[*map(Clip.parse, rows)], predicted=np.array([*rows.values()]))
        for fold, rows in enumerate(FOLDS)
    ]
    return compute(runs).figures


def test_actors_have_their_own_clips_sex_and_fold(figures):
    one, half = {"clips": 1, "right": 1, "accuracy": 1}, {"right": 1, "accuracy": 0.5}
    assert figures["per_actor"] == [
        {"actor": 1, "sex": "male", "fold": 0, "clips": 2, **half},
        {"actor": 5, "sex": "male", "fold": 1, **one},
        {"actor": 6, "sex": "female", "fold": 1, "clips": 2, **half},
    ]
    assert figures["per_sex"] == [
        {"sex": "male", "actors": 2, "clips": 3, "right": 2, "accuracy": 2 / 3},
        {"sex": "female", "actors": 1, "clips": 2, **half},
    ]


def test_emotions_have_recall_precision_and_f1(figures):
    rows = {row["emotion"]: row for row in figures["per_emotion"]}
    assert list(rows) == list(EMOTIONS)
    # Neutral: 1 clip, which is right; one sad clip is predicted as neutral.
    assert list(rows["neutral"].values()) == ["neutral", 1, 2, 1, 1, 0.5, pytest.approx(2 / 3)]
    assert list(rows["happy"].values()) == ["happy", 2, 1, 1, 0.5, 1, pytest.approx(2 / 3)]
    *counts, recall, precision, f1 = rows["angry"].values()
    assert counts == ["angry", 0, 0, 0]
    assert all(map(math.isnan, (recall, precision, f1)))
    assert figures["recall"]["happy"] == 0.5
    assert figures["uar"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)
    happy, sad = figures["confusion"][2:4]
    assert (happy[3], sad[2]) == (1, 0)


def test_scores_of_emotions_that_are_never_predicted_or_that_no_clip_has():
    recall, precision, f1 = emotion_scores(np.array([0, 1]), np.array([0, 0]))
    np.testing.assert_array_equal(recall[:3], [1, 0, np.nan])
    np.testing.assert_array_equal(precision[:3], [0.5, np.nan, np.nan])
    np.testing.assert_allclose(f1[:3], [2 / 3, 0, np.nan])
    recall, _, f1 = emotion_scores(np.array([0, 0]), np.array([0, 5]))
    assert (np.nanmean(recall), np.nanmean(f1)) == pytest.approx((1 / 2, (2 / 3 + 0) / 2))


def test_intensities_are_set_side_by_side_without_neutral(figures):
    rows = {
        (row["emotion"], row["intensity"]): (row["right"], row["clips"], row["accuracy"])
        for row in figures["per_intensity"]
    }
    assert len(rows) == 2 * 10 - 1
    assert ("neutral", "strong") not in rows
    assert rows["neutral", "normal"] == (1, 1, 1)
    assert rows["happy", "normal"] == (0, 1, 0)
    assert rows["sad", "strong"] == (1, 2, 0.5)
    assert rows["angry", "strong"] == (0, 0, pytest.approx(math.nan, nan_ok=True))
    assert rows["all but neutral", "normal"] == (0, 1, 0)
    assert rows["all", "normal"] == (1, 2, 0.5)
    assert rows["all but neutral", "strong"] == rows["all", "strong"] == (2, 3, 2 / 3)


def test_each_breakdown_counts_every_clip_of_the_headline_once():
    figures = compute([make_run(fold, 180) for fold in (0, 1, 5)]).figures  # 5 is outside the mean
    every = [row for row in figures["per_intensity"] if row["emotion"] == "all"]
    assert figures["clips"] == 480
    parts = ("per_fold", "per_actor", "per_sex", "per_emotion")
    for rows in (*(figures[part] for part in parts), every):
        assert sum(row["clips"] for row in rows) == 480
        assert sum(row["right"] for row in rows) == 360
    assert {row["actor"]: row["fold"] for row in figures["per_actor"]} == {
        actor: (actor - 1) // 4 for actor in range(1, 9)
    }


def test_the_weighted_mean_of_pooled_clips_is_the_mean_over_folds():
    pooled = Pooled.of([make_run(0, 30, clips=expected_clips(1)[:30]), make_run(1, 60)])
    assert pooled.weights.sum() == pytest.approx(1)
    assert pooled.correct @ pooled.weights == pytest.approx((30 / 30 + 60 / 240) / 2)
    assert pooled.correct.mean() == pytest.approx(90 / 270)
