"""The report: every figure, computed once from the runs and handed to the writers."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cache.ravdess import EMOTIONS, Clip
from evaluate import measures
from evaluate.measures import holm, interval_over_actors, mcnemar
from evaluate.report.figures import INTENSITIES, ModelReport, Row, compute
from evaluate.runs import LeftOut, differing, printable, settings
from model.paper import ROWS, TABLES
from train.record import Run

SCHEMA_VERSION = 3
MISTAKES = 12  # the number of most confident mistakes that are shown

_P_VALUES = {"p", "p_holm_with_main", "p_holm_all_pairs"}


@dataclass(frozen=True, eq=False)
class Report:
    """All figures of a report."""

    models: dict[str, ModelReport]  # by name, in the order of the paper's tables
    main: str  # the name of the model that the page leads with
    pairs: list[Row]  # the comparisons, those with the main model first, as from `compare`
    not_compared: list[Row]  # the pairs that were tested on different clips, with the reason
    # The paper's tables by title, one row per network with our figures (None where it was not
    # trained), the paper's, `missing`: what ours lack, and `unlike_paper`: how they differ from it.
    tables: dict[str, list[Row]]
    mistakes: list[Row]  # the main model's most confident ones
    # One row per setting: `title`, `of_models` (one text per model; all values where its folds
    # differ) and `same`, whether all models agree.
    settings: list[Row]
    differing: list[str]  # titles of the settings because of which the models do not compare
    robustness: Sequence[Row]  # accuracy on changed clips, where it was measured
    left_out: Sequence[LeftOut]  # the runs that are excluded, with the reasons

    @classmethod
    def of(
        cls,
        runs: dict[str, list[Run]],
        left_out: Sequence[LeftOut] = (),
        robustness: Sequence[Row] = (),
    ) -> "Report":
        """Compute all figures of the runs from `read_runs`, of at least one model."""
        models = {name: compute(of_model) for name, of_model in runs.items()}
        main = main_model(runs)
        main_first = sorted(models.values(), key=lambda model: model.name != main)
        pairs, not_compared = compare(main_first)
        return cls(
            models=models,
            main=main,
            pairs=pairs,
            not_compared=not_compared,
            tables={
                title: [_table_row(name, models.get(name)) for name in names]
                for title, names in TABLES.items()
            },
            mistakes=_most_confident_mistakes(models[main]),
            settings=_settings(list(runs.values())),
            differing=differing([of_model[0].config for of_model in runs.values()]),
            robustness=robustness,
            left_out=left_out,
        )

    @property
    def with_main(self) -> int:
        """The number of comparisons with the main model."""
        return sum(pair["first"] == self.main for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """The content of summary.json: shares 0..1 with 6 digits, None where undefined."""
        method = "t over actors, clips clustered by actor, on the logit scale"
        content = {
            "schema_version": SCHEMA_VERSION,
            "main_model": self.main,
            "models": {name: model.figures for name, model in self.models.items()},
            "comparisons": {
                "pairs": self.pairs,
                "not_compared": self.not_compared,
                "with_main": self.with_main,
            },
            "intervals": {"method": method, "level": measures.LEVEL},
            "tables": [{"title": title, "rows": rows} for title, rows in self.tables.items()],
            "robustness": self.robustness,
            "left_out": [asdict(each) for each in self.left_out],
        }
        return _plain(content)


def main_model(models: dict[str, Any]) -> str:
    """The name of the model that a report leads with: `cfn_sr`, or the first of `models`.

    Not the best one, since choosing by accuracy would be selection on the test actors.
    """
    return "cfn_sr" if "cfn_sr" in models else next(iter(models))


def _plain(value: Any, name: str = "") -> Any:
    """Figures as they are written: 6 digits, but 4 significant ones of p, which may be tiny."""
    if isinstance(value, dict):
        return {key: _plain(each, key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return float(f"{value:.4g}") if name in _P_VALUES else round(value, 6)


def compare(models: Sequence[ModelReport]) -> tuple[list[Row], list[Row]]:
    """Compare every two models, the main one first.

    Returns the comparisons, those with the main model first; and the pairs that were tested on
    different clips, with the reason. Differences are first minus second, of the headline
    accuracies; `p` is that of McNemar's exact test, adjusted for the comparisons with the main
    model as `p_holm_with_main` (None for others), and for all as `p_holm_all_pairs`. With several
    seeds, each clip is compared once per seed, and `p` is twice the median of the seeds, which
    holds however their results depend on each other.
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
        "interval": interval_over_actors(scores, one.weights, one.actors, lowest=-1.0),
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


def _table_row(name: str, model: ModelReport | None) -> Row:
    row = {
        "model": name,
        "label": ROWS[name].label,
        "stage": ROWS[name].stage,
        "paper_accuracy": ROWS[name].accuracy / 100,  # of the best epoch on the test fold
        "paper_parameters": ROWS[name].parameters,
        **dict.fromkeys(("accuracy_last", "accuracy_best_on_test", "interval", "parameters")),
        **{"folds": 0, "headline_folds": None, "missing": [], "unlike_paper": []},
    }
    if model:
        figures = model.figures
        row |= {
            "accuracy_last": figures["accuracy_last"]["mean"],
            "accuracy_best_on_test": figures["accuracy_best_on_test"]["mean"],
            "interval": figures["accuracy_last"]["interval"],
            "parameters": figures["parameters"],
            "folds": len(figures["folds"]),
            "headline_folds": len(figures["headline_folds"]),
            "missing": model.missing,
            "unlike_paper": model.unlike_paper,
        }
        if len(figures["seeds"]) > 1:
            spread = figures["accuracy_last"]["standard_deviation_over_seeds"]
            row |= {"seeds": figures["seeds"], "standard_deviation_over_seeds": spread}
    return row


def _most_confident_mistakes(model: ModelReport) -> list[Row]:
    """The clips that are predicted wrong with the highest probability, highest first."""
    pooled = model.pooled
    confidence = pooled.probabilities[np.arange(len(pooled.clips)), pooled.predicted]
    # The clips are sorted, and a stable sort keeps that order among equals.
    order = np.argsort(-confidence, kind="stable")
    wrong: dict[Clip, int] = {}  # each clip once, of whatever seed
    for index in order[~pooled.correct[order]].tolist():
        wrong.setdefault(pooled.clips[index], index)
    return [
        {
            "clip_id": clip.clip_id,
            "actor": clip.actor,
            "fold": int(pooled.folds[index]),
            "intensity": INTENSITIES[clip.intensity],
            "true": EMOTIONS[clip.label],
            "predicted": EMOTIONS[pooled.predicted[index]],
            "probability": float(confidence[index]),
            "probability_of_true": float(pooled.probabilities[index, clip.label]),
        }
        for clip, index in list(wrong.items())[:MISTAKES]
    ]


def _settings(models: list[list[Run]]) -> list[Row]:
    """How the models were trained: one row per setting, then one per library with its version."""
    recorded = [[settings(run.config) for run in runs] for runs in models]
    versions = [[run.config.versions for run in runs] for runs in models]
    libraries = sorted({name for of_model in versions for each in of_model for name in each})
    rows = []
    for source, titles in ((recorded, recorded[0][0]), (versions, libraries)):
        for title in titles:
            values = [[each.get(title, "not recorded") for each in own] for own in source]
            texts = [", ".join(dict.fromkeys(map(_text, of_model))) for of_model in values]
            same = len(set(texts)) == 1
            rows.append({"title": printable(title), "of_models": texts, "same": same})
    return rows


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else printable(str(value))
