"""Breakdowns of a hand-made result: who and what is counted where."""

from dataclasses import replace

import numpy as np
import pytest
from fake_runs import make_run

from cache.ravdess import EMOTIONS, Clip
from evaluate.measures import breakdowns, metrics
from evaluate.measures.pooled import Pooled, pool

# Clip id, label taken for: 3 of 5 right.
CLIPS = {
    "01-01-01-01-01-01-01": 0,  # neutral, actor 1
    "01-01-03-01-01-01-01": 3,  # happy normal, taken for sad
    "01-01-03-02-01-01-02": 2,  # happy strong, actor 2
    "01-01-04-02-01-01-02": 3,  # sad strong
    "01-01-04-02-02-01-02": 0,  # sad strong, taken for neutral
}


@pytest.fixture
def pooled() -> Pooled:
    clips = tuple(map(Clip.parse, CLIPS))
    return Pooled(
        clips=clips,
        folds=np.array([0, 0, 1, 1, 1]),
        labels=np.array([clip.label for clip in clips]),
        predicted=np.array(list(CLIPS.values())),
        probabilities=np.full((5, 8), 1 / 8),
        weights=np.full(5, 1 / 5),
    )


def test_actors_have_their_own_clips_sex_and_fold(pooled):
    half, most = {"clips": 2, "right": 1, "accuracy": 0.5}, {"clips": 3, "right": 2}
    assert breakdowns.by_actor(pooled) == [
        {"actor": 1, "sex": "male", "fold": 0, **half},
        {"actor": 2, "sex": "female", "fold": 1, **most, "accuracy": 0.666667},
    ]
    assert breakdowns.by_sex(pooled) == [
        {"sex": "male", "actors": 1, **half},
        {"sex": "female", "actors": 1, **most, "accuracy": 0.666667},
    ]


def test_emotions_have_recall_precision_and_f1(pooled):
    rows = {row.pop("emotion"): row for row in breakdowns.by_emotion(pooled)}
    assert list(rows) == list(EMOTIONS)
    # Neutral: 1 clip, recognised; one sad clip is taken for it.
    assert rows["neutral"] == {
        **{"clips": 1, "predicted": 2, "right": 1},
        **{"recall": 1, "precision": 0.5, "f1": 0.666667},
    }
    assert rows["happy"] == {
        **{"clips": 2, "predicted": 1, "right": 1},
        **{"recall": 0.5, "precision": 1, "f1": 0.666667},
    }
    assert rows["angry"] == {
        **{"clips": 0, "predicted": 0, "right": 0},
        **{"recall": None, "precision": None, "f1": None},
    }


def test_an_emotion_that_is_never_predicted_has_no_precision_but_an_f1_of_0():
    labels, predicted = np.array([0, 1]), np.array([0, 0])
    np.testing.assert_array_equal(
        metrics.per_class_precision(labels, predicted), [0.5] + [np.nan] * 7
    )
    np.testing.assert_allclose(metrics.per_class_f1(labels, predicted), [2 / 3, 0] + [np.nan] * 6)


def test_intensities_are_set_side_by_side_without_neutral(pooled):
    rows = {
        (row["emotion"], row["intensity"]): (row["right"], row["clips"], row["accuracy"])
        for row in breakdowns.by_intensity(pooled)
    }
    assert len(rows) == 2 * 10 - 1
    assert ("neutral", "strong") not in rows
    assert rows["neutral", "normal"] == (1, 1, 1)
    assert rows["happy", "normal"] == (0, 1, 0)
    assert rows["sad", "strong"] == (1, 2, 0.5)
    assert rows["angry", "strong"] == (0, 0, None)
    assert rows["all but neutral", "normal"] == (0, 1, 0)
    assert rows["all", "normal"] == (1, 2, 0.5)
    assert rows["all but neutral", "strong"] == rows["all", "strong"] == (2, 3, 0.666667)


def test_each_breakdown_counts_every_clip_of_the_headline_once():
    runs = [make_run(fold, 180) for fold in (0, 1, 5)]  # fold 5 is in no mean
    whole = pool(runs)
    assert len(whole.clips) == 480
    for rows in (
        breakdowns.by_actor(whole),
        breakdowns.by_sex(whole),
        breakdowns.by_emotion(whole),
    ):
        assert sum(row["clips"] for row in rows) == 480
        assert sum(row["right"] for row in rows) == 360
    every = [row for row in breakdowns.by_intensity(whole) if row["emotion"] == "all"]
    assert sum(row["clips"] for row in every) == 480
    assert {row["actor"]: row["fold"] for row in breakdowns.by_actor(whole)} == {
        actor: (actor - 1) // 4 for actor in range(1, 9)
    }


def test_pooled_clips_keep_their_own_predictions_whatever_the_order_of_the_rows():
    run = make_run(0, 180)
    turned = replace(
        run,
        clip_ids=run.clip_ids[::-1],
        labels=run.labels[::-1],
        predicted=run.predicted[::-1],
        probabilities=run.probabilities[::-1],
    )
    one, two = pool([run]), pool([turned])
    assert one.clip_ids == two.clip_ids == tuple(sorted(run.clip_ids))
    for name in ("labels", "predicted", "probabilities", "weights", "folds"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.labels, [clip.label for clip in one.clips])


def test_the_weighted_mean_of_pooled_clips_is_the_mean_over_folds():
    small = make_run(0, 180)
    small = replace(
        small,
        **{
            name: getattr(small, name)[:30]
            for name in ("clip_ids", "labels", "predicted", "probabilities")
        },
    )
    whole = pool([small, make_run(1, 60)])
    assert whole.weights.sum() == pytest.approx(1)
    assert whole.right @ whole.weights == pytest.approx((30 / 30 + 60 / 240) / 2)
    assert whole.right.mean() == pytest.approx(90 / 270)
