"""Intervals and tests against answers found another way: all resamples, sums written out."""

from itertools import product
from math import comb

import numpy as np
import pytest

from evaluate.measures import holm, interval_over_actors, mcnemar


def every_resample(scores: np.ndarray, weights: np.ndarray, actors: np.ndarray) -> np.ndarray:
    """The statistic of all A**A ways to draw A actors with replacement, sorted."""
    names = sorted(set(actors))
    statistics = []
    for drawn in product(names, repeat=len(names)):
        clips = np.concatenate([np.flatnonzero(actors == actor) for actor in drawn])
        statistics.append(np.sum(weights[clips] * scores[clips]) / np.sum(weights[clips]))
    return np.sort(statistics)


def scores_of(rights: list[int], clips: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Right clips first, for actors 1, 2, ..."""
    pairs = zip(rights, clips, strict=True)
    scores = np.concatenate([np.arange(size) < right for right, size in pairs]).astype(float)
    return scores, np.repeat(np.arange(1, len(clips) + 1), clips)


@pytest.mark.parametrize("clips", [[10, 10, 10, 10], [4, 10, 20, 7]])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_interval_is_that_of_all_resamples_of_four_actors(clips, level):
    scores, actors = scores_of([2, 5, 9, 6], clips)
    weights = np.linspace(1, 3, len(scores))
    exact = every_resample(scores, weights, actors)
    assert len(exact) == 256
    # With 100,000 draws the bound lies between the exact quantiles a third of a percent away.
    low, high = interval_over_actors(scores, weights, actors, draws=100_000, level=level)
    for bound, share in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
        below, above = np.quantile(exact, [share - 0.003, share + 0.003], method="inverted_cdf")
        assert below - 1e-9 <= bound <= above + 1e-9


def test_clips_of_an_actor_go_together():
    # Twenty actors, each all right or all wrong: as sure as of 20 coins, not of 1,200.
    scores, actors = scores_of([60] * 10 + [0] * 10, [60] * 20)
    low, high = interval_over_actors(scores, np.ones(1200), actors)
    assert (low, high) == pytest.approx((6 / 20, 14 / 20))  # 2.5 % quantiles of Binomial(20, 1/2)


def test_weights_count_by_their_ratios():
    scores, actors = scores_of([2, 5, 9, 6], [10] * 4)
    weights = np.linspace(1, 2, 40)
    assert interval_over_actors(scores, weights, actors) == pytest.approx(
        interval_over_actors(scores, weights / weights.sum(), actors)
    )
    heavy = np.where(actors == 2, 1e9, 1.0)  # 5 of 10 right, and nothing else counts
    low, _ = interval_over_actors(scores, heavy, actors, level=0.2)
    assert low == pytest.approx(0.5)


def test_one_actor_has_no_interval_and_actors_that_agree_one_without_width():
    assert interval_over_actors(np.ones(4), np.ones(4), np.array([1, 1, 2, 2])) == (1, 1)
    assert interval_over_actors(np.ones(5), np.ones(5), np.full(5, 3)) is None


@pytest.mark.parametrize(("first", "second"), [(1, 9), (9, 1), (0, 6), (5, 5), (12, 20), (0, 0)])
def test_mcnemar_is_the_binomial_sum_over_both_tails(first, second):
    apart, fewer = first + second, min(first, second)
    tail = sum(comb(apart, k) for k in range(fewer + 1)) / 2**apart
    assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_holm_multiplies_step_by_step_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (holm([0.5, 0.9]), holm([0.2]), holm([])) == ([1, 1], [0.2], [])
