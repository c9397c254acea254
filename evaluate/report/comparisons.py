"""Every two models that were tested on the same clips, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from evaluate.measures import holm, interval_over_actors, mcnemar
from evaluate.report.figures import ModelReport, Row
from evaluate.runs import differing


@dataclass(frozen=True)
class Comparison:
    """Two models on the same clips; differences are first minus second, of the headline accuracies.

    Attributes:
        interval: the 95 % interval of the difference over actors, or None.
        only_first_right, only_second_right: the numbers of clips that only one predicts correctly.
        p: the p-value of McNemar's exact test.
        differ_in: titles of the settings in which the models differ.
        p_holm_with_main: p adjusted for the comparisons with the main model, None for others.
        p_holm_all_pairs: p adjusted for all comparisons.
    """

    first: str
    second: str
    clips: int
    accuracy_first: float
    accuracy_second: float
    difference: float
    interval: tuple[float, float] | None
    only_first_right: int
    only_second_right: int
    p: float
    differ_in: list[str]
    p_holm_with_main: float | None = None
    p_holm_all_pairs: float = 1.0


def compare(models: Sequence[ModelReport]) -> tuple[list[Comparison], list[Row]]:
    """Compare every two models.

    Args:
        models: the models, the main one first.

    Returns:
        The comparisons, those with the main model first; and the pairs that were tested on
        different clips, each with `first`, `second` and the `reason`.
    """
    pairs, not_compared = [], []
    for first, second in combinations(models, 2):
        reason = _why_not(first, second)
        if reason:
            not_compared.append({"first": first.name, "second": second.name, "reason": reason})
        else:
            pairs.append(_comparison(first, second))
    with_main = [pair.p for pair in pairs if pair.first == models[0].name]
    of_main = [*holm(with_main), *[None] * (len(pairs) - len(with_main))]
    of_all = holm([pair.p for pair in pairs])
    return [
        replace(pair, p_holm_with_main=main, p_holm_all_pairs=every)
        for pair, main, every in zip(pairs, of_main, of_all, strict=True)
    ], not_compared


def _comparison(first: ModelReport, second: ModelReport) -> Comparison:
    one, two = first.pooled, second.pooled
    only_first = int((one.correct & ~two.correct).sum())
    only_second = int((two.correct & ~one.correct).sum())
    scores = one.correct.astype(float) - two.correct
    return Comparison(
        first=first.name,
        second=second.name,
        clips=len(scores),
        accuracy_first=first.figures.accuracy_last.mean,
        accuracy_second=second.figures.accuracy_last.mean,
        difference=float(scores @ one.weights),
        interval=interval_over_actors(scores, one.weights, one.actors),
        only_first_right=only_first,
        only_second_right=only_second,
        p=mcnemar(only_first, only_second),
        differ_in=differing([first.runs[0].config, second.runs[0].config]),
    )


def _why_not(first: ModelReport, second: ModelReport) -> str:
    """Why two models were not tested on the same clips; empty if they were."""
    one, two = first.figures, second.figures
    if one.dataset != two.dataset:  # the synthetic sample has the clip names of the recordings
        return "different datasets"
    if one.split != two.split:
        return "different splits"
    if one.folds != two.folds:
        return "different folds"
    if first.pooled.clips != second.pooled.clips:
        return "different clips"
    return ""
