"""Every two models that were tested on the same clips, side by side."""

from itertools import combinations
from typing import Any

from evaluate.measures import statistics
from evaluate.measures.breakdowns import rounded
from evaluate.measures.pooled import Pooled, headline, pool
from evaluate.runs import settings
from evaluate.runs.run import Run


def main_model(models: dict[str, Any]) -> str:
    """The model that the page leads with: `cfn_sr`, or the first where it is not there.

    Not the best one: to pick by accuracy would be selection on the test actors again.
    """
    return "cfn_sr" if "cfn_sr" in models else next(iter(models))


def compare(models: dict[str, list[Run]]) -> dict[str, Any]:
    """All comparisons of summary.json.

    Args:
        models: usable runs of each model, as from `runs.read_runs`.

    Returns:
        `pairs`, those with the main model first and as their `first`; `not_compared`, the pairs
        whose clips differ, with the reason; `with_main`, how many pairs hold the main model.
        `p_holm_with_main` is adjusted for those alone and None elsewhere, `p_holm_all_pairs` for
        all. Differences are first minus second, of the headline accuracies.
    """
    main = main_model(models)
    names = [main, *(name for name in models if name != main)]
    pooled = {name: pool(models[name]) for name in names}
    pairs, not_compared = [], []
    for first, second in combinations(names, 2):
        reason = _why_not(models[first], models[second], pooled[first], pooled[second])
        if reason:
            not_compared.append({"first": first, "second": second, "reason": reason})
            continue
        differing = settings.differing({name: models[name] for name in (first, second)})
        row = _pair(pooled[first], pooled[second])
        pairs.append({"first": first, "second": second, **row, "differ_in": differing})
    with_main = sum(pair["first"] == main for pair in pairs)
    # From the p-values as they are; rounding comes last.
    of_main = statistics.holm([pair["p"] for pair in pairs[:with_main]])
    of_all = statistics.holm([pair["p"] for pair in pairs])
    for index, pair in enumerate(pairs):
        pair["p_holm_with_main"] = _significant(of_main[index]) if index < with_main else None
        pair["p_holm_all_pairs"] = _significant(of_all[index])
        pair["p"] = _significant(pair["p"])
    return {"pairs": pairs, "not_compared": not_compared, "with_main": with_main}


def _pair(first: Pooled, second: Pooled) -> dict[str, Any]:
    """Two models on the same clips in the same order."""
    one, two = first.right, second.right
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    scores = one.astype(float) - two
    interval = statistics.interval_over_actors(scores, first.weights, first.actors)
    return {
        "clips": len(scores),
        "accuracy_first": rounded(one @ first.weights),
        "accuracy_second": rounded(two @ first.weights),
        "difference": rounded(scores @ first.weights),
        "interval": interval and [rounded(bound) for bound in interval],
        "only_first_right": only_first,
        "only_second_right": only_second,
        "p": statistics.mcnemar(only_first, only_second),
    }


def _why_not(first: list[Run], second: list[Run], one: Pooled, two: Pooled) -> str:
    """Why two models were not tested on the same clips; empty if they were."""
    # The drawn sample has the clip names of the recordings, so names alone do not say it.
    if first[0].config["cache"]["dataset"] != second[0].config["cache"]["dataset"]:
        return "different datasets"
    if first[0].config["split"] != second[0].config["split"]:
        return "different splits"
    if [run.fold for run in headline(first)] != [run.fold for run in headline(second)]:
        return "different folds"
    if one.clip_ids != two.clip_ids:
        return "different clips"
    return ""


def _significant(p: float) -> float:
    """p with 4 significant digits: small ones would else be rounded to nothing."""
    return float(f"{p:.4g}")
