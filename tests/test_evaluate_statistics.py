"""Intervals and tests against answers found another way: simulation, sums written out."""

from math import comb

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from evaluate.measures import holm, interval_over_actors, mcnemar


def scores_of(rights: list[int], clips: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Right clips first, for actors 1, 2, ..."""
    pairs = zip(rights, clips, strict=True)
    scores = np.concatenate([np.arange(size) < right for right, size in pairs]).astype(float)
    return scores, np.repeat(np.arange(1, len(clips) + 1), clips)


@pytest.mark.parametrize(("lowest", "width"), [(0.0, 1), (-1.0, 2)])
def test_the_interval_is_that_of_t_over_the_accuracies_of_actors_on_the_logit_scale(lowest, width):
    scores, actors = scores_of([2, 5, 9, 6], [10] * 4)
    of_actors = np.array([0.2, 0.5, 0.9, 0.6])
    low, high = stats.t.interval(0.95, 3, of_actors.mean(), stats.sem(of_actors))
    slope = 0.55 * 0.45  # of a share with respect to its logit
    expected = expit(logit(0.55) + (np.array([low, high]) - 0.55) / slope)
    found = interval_over_actors(lowest + width * scores, np.ones(40), actors, lowest=lowest)
    assert found == pytest.approx(tuple(lowest + width * expected))


@pytest.mark.parametrize("count", [4, 20])
@pytest.mark.parametrize(("mean", "spread"), [(0.6, 0.15), (0.8, 0.08), (0.95, 0.05)])
def test_95_percent_intervals_contain_the_truth_in_94_to_97_percent_of_samples(count, mean, spread):
    random = np.random.default_rng(0)
    both = mean * (1 - mean) / spread**2 - 1  # the sum of the two parameters of the Beta
    actors = np.arange(count)
    truth = random.beta(mean * both, (1 - mean) * both, (2000, count))
    samples = random.binomial(60, truth) / 60  # actors with 60 clips each
    bounds = np.array([interval_over_actors(each, np.ones(count), actors) for each in samples])
    covered = np.mean((bounds[:, 0] <= mean) & (mean <= bounds[:, 1]))
    assert 0.925 < covered < 0.98  # as far as 2,000 samples tell


def test_clips_count_by_their_weights():
    scores, actors = scores_of([2, 5, 9, 6], [10] * 4)
    heavy = np.where(actors == 2, 1e9, 1.0)  # 5 of 10 are right, others do not count
    assert interval_over_actors(scores, heavy, actors) == pytest.approx((0.5, 0.5), abs=1e-6)


def test_one_actor_has_no_interval_and_actors_that_agree_one_without_width():
    actors = np.array([1, 1, 2, 2])
    for scores, share in (([1, 1, 1, 1], 1), ([0, 0, 0, 0], 0), ([0, 1, 0, 1], 0.5)):
        found = interval_over_actors(np.array(scores, float), np.full(4, 0.1), actors)
        assert found == pytest.approx((share, share), abs=0)
    assert interval_over_actors(np.ones(5), np.ones(5), np.full(5, 3)) is None


@pytest.mark.parametrize(("first", "second"), [(1, 9), (9, 1), (0, 6), (5, 5), (12, 20), (0, 0)])
def test_mcnemar_is_the_binomial_sum_over_both_tails(first, second):
    apart, fewer = first + second, min(first, second)
    tail = sum(comb(apart, k) for k in range(fewer + 1)) / 2**apart
    assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))


def test_holm_multiplies_step_by_step_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (holm([0.5, 0.9]), holm([0.2]), holm([])) == ([1, 1], [0.2], [])


def test_clips_of_an_actor_go_together():
    # Each actor is all right or all wrong: as sure as of 20 coins, however many clips they have.
    scores, actors = scores_of([60] * 10 + [0] * 10, [60] * 20)
    found = interval_over_actors(scores, np.ones(1200), actors)
    assert found == pytest.approx(interval_over_actors(scores[::60], np.ones(20), np.arange(20)))
