"""Every two models that were tested on the same clips, side by side."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from evaluate.measures import holm, interval_over_actors, mcnemar
from evaluate.report.figures import ModelReport, Row
from evaluate.runs import differing


def compare(models: Sequence[ModelReport]) -> tuple[list[Row], list[Row]]:
    """Compare every two models, the main one first.

    Returns:
        The comparisons, those with the main model first; and the pairs that were tested on
        different clips, with the reason. Differences are first minus second, of the headline
        accuracies; `p` is that of McNemar's exact test, adjusted for the comparisons with the main
        model as `p_holm_with_main` (None for others), and for all as `p_holm_all_pairs`. With
        several seeds, each clip is compared once per seed, and `p` is twice the median of the
        seeds, which holds however their results depend on each other.
    """
    pairs, not_compared = [], []
    for first, second in combinations(models, 2):
        names = {"first": first.name, "second": second.name}
        reason = _why_not(first, second)
        if reason:
            not_compared.append({**names, "reason": reason})
        else:
            pairs.append({**names, **_compared(first, second)})
    with_main = [pair["p"] for pair in pairs if pair["first"] == models[0].name]
    of_main = [*holm(with_main), *[None] * (len(pairs) - len(with_main))]
    of_all = holm([pair["p"] for pair in pairs])
    for pair, main, every in zip(pairs, of_main, of_all, strict=True):
        pair.update(p_holm_with_main=main, p_holm_all_pairs=every)
    return pairs, not_compared


def _compared(first: ModelReport, second: ModelReport) -> Row:
    """Two models on the same clips."""
    one, two = first.pooled, second.pooled
    only_first, only_second = one.correct & ~two.correct, two.correct & ~one.correct
    of_seeds = [
        mcnemar(int(only_first[own].sum()), int(only_second[own].sum()))
        for own in (one.seeds == seed for seed in np.unique(one.seeds))
    ]
    p = of_seeds[0] if len(of_seeds) == 1 else min(1.0, 2 * float(np.median(of_seeds)))
    scores = one.correct.astype(float) - two.correct
    return {
        "clips": first.figures["clips"],
        "accuracy_first": first.figures["accuracy_last"]["mean"],
        "accuracy_second": second.figures["accuracy_last"]["mean"],
        "difference": float(scores @ one.weights),
        "interval": interval_over_actors(scores, one.weights, one.actors),
        "only_first_right": int(only_first.sum()),
        "only_second_right": int(only_second.sum()),
        "p": p,
        "differ_in": differing([first.runs[0].config, second.runs[0].config]),
    }


def _why_not(first: ModelReport, second: ModelReport) -> str:
    """Why two models were not tested on the same clips; empty if they were."""
    # The synthetic sample has the clip names of the recordings, so names do not show a difference.
    for name, reason in (("dataset", "datasets"), ("split", "splits"), ("folds", "folds")):
        if first.figures[name] != second.figures[name]:
            return f"different {reason}"
    if len(first.figures["seeds"]) != len(second.figures["seeds"]):
        return "different numbers of seeds"
    return "" if first.pooled.clips == second.pooled.clips else "different clips"
