"""How sure a figure is: intervals over actors, and two models on the same clips.

The intervals cover one thing: that other actors could have been recorded. Each fold was trained
once, from one seed, so what another training of the same network would give is not in them. And
with 20 to 24 actors percentile intervals are a little narrow: the spread among n actors drawn from
these n is sqrt((n - 1) / n) of that among n actors drawn anew, and percentiles do not mend it.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

LEVEL = 0.95
DRAWS = 10_000
SEED = 0
NO_INTERVAL = "fewer than two actors, so there is no interval"


def interval_over_actors(
    scores: np.ndarray,
    weights: np.ndarray,
    actors: np.ndarray,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a weighted mean over clips, clustered by actor.

    Each draw takes as many actors as there are, with replacement, and all clips of each, as clips
    of one actor resemble each other. Its statistic is sum(weight * score) / sum(weight) over the
    clips drawn, so of the clips as they are it is exactly their weighted mean.

    Args:
        scores: float (N,), N > 0, such as 1 where a clip is predicted right and 0 where not.
        weights: float (N,), above 0, with any sum.
        actors: int (N,), who is in each clip.
        draws: how many.
        seed: of the draws.
        level: share of the draws between the two bounds, 0..1.

    Returns:
        The lower and the upper bound; None with fewer than two actors.

    Raises:
        ValueError: if the arrays are empty or of different lengths, or a weight is not above 0.
    """
    if not scores.shape == weights.shape == actors.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(
            f"scores {scores.shape}, weights {weights.shape} and actors {actors.shape}: "
            "expected the same shape (N,) with N > 0"
        )
    if not (weights > 0).all():
        raise ValueError(f"the least weight is {weights.min()}, expected all above 0")
    names, index = np.unique(actors, return_inverse=True)
    if len(names) < 2:
        return None
    mass = np.bincount(index, weights)  # (N,) -> (A,)
    total = np.bincount(index, weights * scores)
    times = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=draws
    )  # (draws, A): how often each draw takes each actor
    drawn = (times @ total) / (times @ mass)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact McNemar test of two models on the same clips.

    If both were equally good, each clip that only one of them gets right would be the one's or the
    other's like the toss of a coin. Clips count as independent, which those of one actor are not,
    so p is too small where models differ from actor to actor.

    Args:
        only_first: clips that only the first model gets right, 0 or more.
        only_second: clips that only the second gets right.

    Returns:
        p, 0..1; 1 where no clip tells the models apart.

    Raises:
        ValueError: for a count below 0.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts are {only_first} and {only_second}, expected 0 or more")
    apart = only_first + only_second
    return float(binomtest(only_first, apart).pvalue) if apart else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method, in the same order.

    To call those below a bound different makes one mistake or more at most as often as the bound
    says, however many are looked at.

    Args:
        p_values: each 0..1; may be none.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
