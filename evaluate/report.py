"""The report: summary.json for programs, report.html for people, and the figures as files."""

import base64
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from cache.clips import EMOTIONS, expected_clips
from cache.files import atomic_path, write_json
from cache.splits import HEADLINE_FOLDS, test_actors
from evaluate import metrics, plots
from evaluate.run_files import UNKNOWN_START, Run, setting, start_of
from evaluate.runs import LeftOut
from evaluate.tables import fill
from model import SYSTEMS

SCHEMA_VERSION = 1

# Of the best epoch as judged on the test fold, not the last epoch.
PAPER_ACCURACY = SYSTEMS["cfn_sr"].paper_accuracy / 100

# The authors' published log of that network, means over its five folds.
AUTHORS_LOG_BEST_ON_TEST, AUTHORS_LOG_LAST_EPOCH = 0.7567, 0.6650

_SETTINGS = {
    "preset": "preset",
    "split": "split",
    "recipe": "recipe",
    "epochs": "epochs",
    "batch size": "batch_size",
    "learning rate": "learning_rate",
    "seed": "seed",
    "device": "device",
    "dataset": "cache.dataset",
}
# Models whose runs differ in one of these answer different questions.
_COMPARABLE = ("preset", "split", "recipe", "epochs", "cache.dataset", "cache.fingerprint")


def write_report(out: Path, models: dict[str, list[Run]], left_out: list[LeftOut]) -> Path:
    """Write summary.json, report.html, and two PNG figures for each model.

    The same runs give the same bytes.

    Args:
        out: existing folder.
        models: usable runs of each model, as from `read_runs`; at least one model.
        left_out: what is in no mean.

    Returns:
        The path of report.html, which is written last.

    Raises:
        OSError: if a file cannot be written.
    """
    summary = summarise(models, left_out)
    figures = {}
    for model, runs in models.items():
        counts = np.array(summary["models"][model]["confusion"])
        figures[model] = {
            "confusion": [
                plots.png(plots.confusion_figure(counts, theme))
                for theme in (plots.LIGHT, plots.DARK)
            ],
            "curves": [
                plots.png(plots.curves_figure(runs, theme)) for theme in (plots.LIGHT, plots.DARK)
            ],
        }
        for kind, (light, _) in figures[model].items():
            with atomic_path(out / f"{kind}_{model}.png") as temporary:
                temporary.write_bytes(light)
    write_json(out / "summary.json", summary)
    page = render(summary, models, figures)
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out / "report.html"


def summarise(models: dict[str, list[Run]], left_out: list[LeftOut]) -> dict[str, Any]:
    """The content of summary.json: fractions 0..1, rounded to 6 digits, None where undefined."""
    summaries = {model: summarise_model(runs) for model, runs in models.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "models": summaries,
        "tables": fill(summaries),
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
    headline_folds = list(HEADLINE_FOLDS[config["split"]])
    headline = [run for run in runs if run.fold in headline_folds]
    labels = np.concatenate([run.labels for run in headline])
    predicted = np.concatenate([run.predicted for run in headline])
    last = [metrics.accuracy(run.labels, run.predicted) for run in headline]
    best = [best_on_test(run) for run in headline]
    recall = metrics.per_class_recall(labels, predicted)
    error = metrics.binomial_standard_error(metrics.accuracy(labels, predicted), len(labels))
    return {
        "preset": config["preset"],
        "split": config["split"],
        "folds": [run.fold for run in headline],
        "headline_folds": headline_folds,
        "accuracy_last": {
            "mean": _rounded(np.mean(last)),
            "per_fold": [_rounded(share) for share in last],
            "standard_deviation_over_folds": (
                _rounded(np.std(last, ddof=1)) if len(last) > 1 else None
            ),
            "binomial_standard_error": _rounded(error),
        },
        "accuracy_best_on_test": {
            "mean": _rounded(np.mean([share for share, _ in best])),
            "per_fold": [_rounded(share) for share, _ in best],
            "epoch": [epoch for _, epoch in best],
        },
        "uar": _rounded(metrics.unweighted_average_recall(labels, predicted)),
        "macro_f1": _rounded(metrics.macro_f1(labels, predicted)),
        "recall": {
            emotion: None if np.isnan(share) else _rounded(share)
            for emotion, share in zip(EMOTIONS, recall, strict=True)
        },
        "confusion": metrics.confusion(labels, predicted).tolist(),
        "clips": len(labels),
        "parameters": config["parameters"],
        "epochs": config["epochs"],
        "seed": config["seed"],
        "dataset": config["cache"]["dataset"],
        "cache_fingerprint": config["cache"]["fingerprint"],
        "outside_mean": [
            {
                "fold": run.fold,
                "accuracy_last": _rounded(metrics.accuracy(run.labels, run.predicted)),
                "accuracy_best_on_test": _rounded(best_on_test(run)[0]),
                "epoch": best_on_test(run)[1],
            }
            for run in runs
            if run.fold not in headline_folds
        ],
    }


def best_on_test(run: Run) -> tuple[float, int]:
    """The highest test accuracy of any epoch (0..1) and the first epoch (1..) that has it.

    Not a result: the epoch is chosen by looking at the test actors.
    """
    accuracies = [line["test_accuracy"] for line in run.epochs]
    best = max(accuracies)
    return best, accuracies.index(best) + 1


def is_ravdess(dataset: str) -> bool:
    """Whether a cache's `dataset` names recordings of people, not the synthetic sample."""
    return dataset.startswith("RAVDESS")


def folds_note(summary: dict[str, Any]) -> str:
    """`3 of 5 folds: not the full result`, or empty when a model's headline folds are all there."""
    found, expected = len(summary["folds"]), len(summary["headline_folds"])
    return "" if found == expected else f"{found} of {expected} folds: not the full result"


def render(
    summary: dict[str, Any],
    models: dict[str, list[Run]],
    figures: dict[str, dict[str, list[bytes]]],
) -> str:
    """The page: one HTML file that asks for nothing from outside.

    Args:
        summary: as from `summarise`.
        models: the runs it was made from.
        figures: for each model `confusion` and `curves`, each as PNG for a light and a dark page.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = _percent
    template = environment.from_string(
        resources.files("evaluate").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    views = [
        _model_view(model, runs, summary["models"][model], figures[model])
        for model, runs in models.items()
    ]
    # Not the best model: to pick by accuracy would be selection on the test actors again.
    main = next((view for view in views if view["name"] == "cfn_sr"), views[0])
    configs = [runs[0].config for runs in models.values()]
    return template.render(
        views=views,
        main=main,
        not_people=[view for view in views if not is_ravdess(view["summary"]["dataset"])],
        paper_accuracy=(
            PAPER_ACCURACY
            if main["name"] == "cfn_sr" and not _unlike_paper(models["cfn_sr"])
            else None
        ),
        authors_best=AUTHORS_LOG_BEST_ON_TEST,
        authors_last=AUTHORS_LOG_LAST_EPOCH,
        differing=[
            name for name in _COMPARABLE if len({setting(config, name) for config in configs}) > 1
        ]
        + ["starting weights"] * (len(set(map(start_of, configs))) > 1),
        settings=_settings_rows(models),
        caches=_caches(models),
        # One trained row compares nothing.
        tables=[
            {
                **table,
                "unlike_paper": {
                    row["model"]: _unlike_paper(models[row["model"]])
                    for row in table["rows"]
                    if row["model"] in models
                },
            }
            for table in summary["tables"]
            if sum(row["accuracy_last"] is not None for row in table["rows"]) > 1
        ],
        unknown_starts=[
            model
            for model, runs in models.items()
            if any(UNKNOWN_START in start_of(run.config) for run in runs)
        ],
        left_out=summary["left_out"],
    )


def _model_view(
    model: str, runs: list[Run], summary: dict[str, Any], figures: dict[str, list[bytes]]
) -> dict[str, Any]:
    """What the template shows of one model."""
    counts = np.array(summary["confusion"])
    folds = ", ".join(str(run.fold) for run in runs)
    return {
        "name": model,
        "summary": summary,
        "folds_note": folds_note(summary),
        "folds": [_fold_row(run, run.fold in summary["headline_folds"]) for run in runs],
        "emotions": [
            {"name": emotion, "clips": int(of_emotion), "recall": summary["recall"][emotion]}
            for emotion, of_emotion in zip(EMOTIONS, counts.sum(axis=1), strict=True)
        ],
        "pictures": {
            kind: {
                "light": _data_url(light),
                "dark": _data_url(dark),
                "width": plots.width_px(light),
            }
            for kind, (light, dark) in figures.items()
        },
        "confusion_alt": (
            f"Confusion matrix of {model}: {summary['clips']} clips, true emotion by row, "
            f"predicted by column. {_most_confused(counts)}"
        ),
        "curves_alt": (
            f"Learning curves of {model}: accuracy and loss on training and test actors over "
            f"{summary['epochs']} epochs, one column for each of the folds {folds}. "
            "The accuracies are in the table of folds."
        ),
    }


def _fold_row(run: Run, in_mean: bool) -> dict[str, Any]:
    """One line of a model's table of folds."""
    best, epoch = best_on_test(run)
    actors = test_actors(run.config["split"], run.fold)
    expected = sum(len(expected_clips(actor)) for actor in actors)
    return {
        "fold": run.fold,
        "in_mean": in_mean,
        "test_actors": ", ".join(map(str, run.config["test_actors"])),
        "clips": len(run.labels),
        # Only the recordings have a full number to fall short of.
        "expected": expected if is_ravdess(run.config["cache"]["dataset"]) else len(run.labels),
        "last": metrics.accuracy(run.labels, run.predicted),
        "best": best,
        "best_epoch": epoch,
    }


def _settings_rows(models: dict[str, list[Run]]) -> list[tuple[str, list[str]]]:
    """Name of a setting, and for each model its value; all values where the runs differ."""
    rows = [
        (title, [_values(setting(run.config, name) for run in runs) for runs in models.values()])
        for title, name in _SETTINGS.items()
    ]
    starts = [_values(start_of(run.config) for run in runs) for runs in models.values()]
    rows.append(("starting weights", starts))
    packages = sorted(
        {package for runs in models.values() for run in runs for package in run.config["versions"]}
    )
    return rows + [
        (
            package,
            [
                _values(run.config["versions"].get(package, "not recorded") for run in runs)
                for runs in models.values()
            ],
        )
        for package in packages
    ]


def _caches(models: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The caches that were trained on, and by which models."""
    caches: dict[tuple[str, str, int], list[str]] = {}
    for model, runs in models.items():
        cache = runs[0].config["cache"]
        key = (cache["dataset"], cache["fingerprint"], cache["schema_version"])
        caches.setdefault(key, []).append(model)
    return [
        {"dataset": dataset, "fingerprint": fingerprint, "schema": schema, "models": users}
        for (dataset, fingerprint, schema), users in sorted(caches.items())
    ]


def _unlike_paper(runs: list[Run]) -> list[str]:
    """In what a model's runs are not what the paper measured; empty if its figures compare."""
    config = runs[0].config
    dataset, preset, split = config["cache"]["dataset"], config["preset"], config["split"]
    return [
        *([] if is_ravdess(dataset) else [dataset]),
        *([] if preset == "paper" else [f"preset {preset}"]),
        *([] if split == "paper" else [f"split {split}"]),
    ]


def _most_confused(counts: np.ndarray) -> str:
    """The most frequent mistake in words."""
    mistakes = counts - np.diag(np.diag(counts))
    if not mistakes.any():
        return "No clip is taken for another emotion."
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"The most frequent mistake: {EMOTIONS[true]} taken for {EMOTIONS[predicted]}, "
        f"{mistakes.max()} of {counts[true].sum()} clips."
    )


def _values(values: Any) -> str:
    """The distinct values, in order of first appearance."""
    return ", ".join(dict.fromkeys(map(str, values)))


def _rounded(number: float) -> float:
    return round(float(number), 6)


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
