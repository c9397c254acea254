"""The paper's two tables, filled with what was trained here."""

from typing import Any

from cache.ravdess import is_recordings
from model import SYSTEMS, TABLES


def fill(summaries: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Both tables, each row with our figures beside the paper's.

    Args:
        summaries: for each model the entry of summary.json, as from `summary.summarise_model`.

    Returns:
        For each table `title` and `rows`; a row has `model`, `label` and `stage`, ours as
        `accuracy_last`, `accuracy_best_on_test` (means, 0..1), `interval` ([low, high]) and
        `parameters`, all None where the model was not trained, `folds` and `headline_folds` (how
        many), `unlike_paper` (in what the runs are not what the paper measured), and the paper's as
        `paper_accuracy` (0..1, of the best epoch on the test fold) and `paper_parameters` (text).
    """
    return [
        {"title": title, "rows": [_row(name, summaries.get(name)) for name in names]}
        for title, names in TABLES.items()
    ]


def _row(name: str, summary: dict[str, Any] | None) -> dict[str, Any]:
    system = SYSTEMS[name]
    trained = summary is not None
    return {
        "model": name,
        "label": system.label,
        "stage": system.stage,
        "accuracy_last": summary["accuracy_last"]["mean"] if trained else None,
        "accuracy_best_on_test": summary["accuracy_best_on_test"]["mean"] if trained else None,
        "interval": summary["accuracy_last"]["interval"] if trained else None,
        "parameters": summary["parameters"] if trained else None,
        "folds": len(summary["folds"]) if trained else 0,
        "headline_folds": len(summary["headline_folds"]) if trained else None,
        "unlike_paper": unlike_paper(summary) if trained else [],
        "paper_accuracy": round(system.paper_accuracy / 100, 6),
        "paper_parameters": system.paper_parameters,
    }


def unlike_paper(summary: dict[str, Any]) -> list[str]:
    """In what a model's runs are not what the paper measured; empty if its figures compare."""
    dataset, preset, split = summary["dataset"], summary["preset"], summary["split"]
    return [
        *([] if is_recordings(dataset) else [dataset]),
        *([] if preset == "paper" else [f"preset {preset}"]),
        *([] if split == "paper" else [f"split {split}"]),
    ]


def in_order(models: dict[str, Any]) -> dict[str, Any]:
    """The same models, those of the paper in the order of its tables, then the others by name."""
    known = [name for name in SYSTEMS if name in models]
    return {name: models[name] for name in [*known, *sorted(set(models) - set(known))]}
