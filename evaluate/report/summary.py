"""Every number of the report: the content of summary.json."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS, HEADLINE_FOLDS
from evaluate.measures import breakdowns, metrics, statistics
from evaluate.measures.breakdowns import best_on_test, rounded
from evaluate.measures.comparisons import compare, main_model
from evaluate.measures.pooled import headline, pool
from evaluate.robustness.table import Row
from evaluate.runs.find import LeftOut
from evaluate.runs.run import Run
from evaluate.tables import fill

SCHEMA_VERSION = 2


def summarise(
    models: dict[str, list[Run]], left_out: list[LeftOut], robustness: Sequence[Row] = ()
) -> dict[str, Any]:
    """The content of summary.json: fractions 0..1, rounded to 6 digits, None where undefined.

    Args:
        models: usable runs of each model, as from `runs.read_runs`; at least one model.
        left_out: what is in no mean.
        robustness: of the models that it was measured of, as from `robustness.table.collect`.
    """
    summaries = {model: summarise_model(runs) for model, runs in models.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "main_model": main_model(models),
        "models": summaries,
        "comparisons": compare(models),
        "intervals": {
            "method": "percentile bootstrap over actors",
            "level": statistics.LEVEL,
            "draws": statistics.DRAWS,
            "seed": statistics.SEED,
        },
        "tables": fill(summaries),
        "robustness": [
            {
                **asdict(row),
                "accuracy": None if row.accuracy is None else rounded(row.accuracy),
                "difference": None if row.difference is None else rounded(row.difference),
            }
            for row in robustness
        ],
        "left_out": [
            {"name": each.name, "state": each.state, "problems": list(each.problems)}
            for each in left_out
        ],
    }


def summarise_model(runs: list[Run]) -> dict[str, Any]:
    """One model's entry of summary.json.

    Args:
        runs: finished runs that may be averaged, sorted by fold, one in the headline folds or more.

    Returns:
        `folds` and every mean, pooled metric and count are of the split's headline folds;
        `outside_mean` lists the other folds.
    """
    config = runs[0].config
    used = headline(runs)
    pooled = pool(runs)
    last = [metrics.accuracy(run.labels, run.predicted) for run in used]
    best = [best_on_test(run) for run in used]
    interval = statistics.interval_over_actors(
        pooled.right.astype(float), pooled.weights, pooled.actors
    )
    emotions = breakdowns.by_emotion(pooled)
    share_right = metrics.accuracy(pooled.labels, pooled.predicted)
    return {
        "preset": config["preset"],
        "split": config["split"],
        "folds": [run.fold for run in used],
        "headline_folds": list(HEADLINE_FOLDS[config["split"]]),
        "accuracy_last": {
            "mean": rounded(np.mean(last)),
            "per_fold": [rounded(share) for share in last],
            "interval": interval and [rounded(bound) for bound in interval],
            "interval_note": None if interval else statistics.NO_INTERVAL,
            "standard_deviation_over_folds": (
                rounded(np.std(last, ddof=1)) if len(last) > 1 else None
            ),
            "binomial_standard_error": rounded(
                metrics.binomial_standard_error(share_right, len(pooled.labels))
            ),
        },
        "accuracy_best_on_test": {
            "mean": rounded(np.mean([share for share, _ in best])),
            "per_fold": [rounded(share) for share, _ in best],
            "epoch": [epoch for _, epoch in best],
        },
        "uar": rounded(metrics.unweighted_average_recall(pooled.labels, pooled.predicted)),
        "macro_f1": rounded(metrics.macro_f1(pooled.labels, pooled.predicted)),
        "recall": {row["emotion"]: row["recall"] for row in emotions},
        "confusion": metrics.confusion(pooled.labels, pooled.predicted).tolist(),
        "per_fold": [breakdowns.by_fold(run) for run in used],
        "per_actor": breakdowns.by_actor(pooled),
        "per_sex": breakdowns.by_sex(pooled),
        "per_emotion": emotions,
        "per_intensity": breakdowns.by_intensity(pooled),
        "clips": len(pooled.labels),
        "actors": len(np.unique(pooled.actors)),
        "parameters": config["parameters"],
        "epochs": config["epochs"],
        "seed": config["seed"],
        "dataset": config["cache"]["dataset"],
        "cache_fingerprint": config["cache"]["fingerprint"],
        "outside_mean": [
            {
                "fold": run.fold,
                "accuracy_last": rounded(metrics.accuracy(run.labels, run.predicted)),
                "accuracy_best_on_test": rounded(best_on_test(run)[0]),
                "epoch": best_on_test(run)[1],
            }
            for run in runs
            if run not in used
        ],
    }


def folds_note(summary: dict[str, Any]) -> str:
    """`3 of 5 folds: not the full result`, or empty when a model's headline folds are all there."""
    found, expected = len(summary["folds"]), len(summary["headline_folds"])
    return "" if found == expected else f"{found} of {expected} folds: not the full result"


def most_confused(counts: list[list[int]]) -> str:
    """The most frequent mistake of a confusion matrix (8 rows of 8 counts) in words."""
    of = np.array(counts)
    mistakes = of - np.diag(np.diag(of))
    if not mistakes.any():
        return "No clip is taken for another emotion."
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"The most frequent mistake: {EMOTIONS[true]} taken for {EMOTIONS[predicted]}, "
        f"{mistakes.max()} of {of[true].sum()} clips."
    )
