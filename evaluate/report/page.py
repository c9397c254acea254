"""report.html: one file for people, which asks for nothing from outside."""

from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from cache.ravdess import EMOTIONS, expected_clips, is_recordings, test_actors
from evaluate.measures import metrics
from evaluate.measures.breakdowns import best_on_test
from evaluate.measures.pooled import pool
from evaluate.report import mistakes, plots, svg
from evaluate.report.summary import folds_note, most_confused
from evaluate.runs import settings
from evaluate.runs.run import Run
from evaluate.tables import unlike_paper
from model import SYSTEMS

# Of the best epoch as judged on the test fold, not the last epoch.
PAPER_ACCURACY = SYSTEMS["cfn_sr"].paper_accuracy / 100

# The authors' published log of that network, means over its five folds.
AUTHORS_LOG_BEST_ON_TEST, AUTHORS_LOG_LAST_EPOCH = 0.7567, 0.6650


def render(
    summary: dict[str, Any], models: dict[str, list[Run]], faces: dict[str, Any] | None = None
) -> str:
    """The page: one HTML file that asks for nothing from outside.

    Args:
        summary: as from `summary.summarise`.
        models: the runs it was made from.
        faces: `pictures`, data URLs by clip id, and the `dataset`, `license` and `citation` of the
            cache they are from; None without a cache.
    """
    main = summary["main_model"]
    summaries = summary["models"]
    # The main model first, the others in the order of the tables.
    order = [main, *(name for name in models if name != main)]
    overview = plots.overview_figure(summaries)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            views=[_model_view(name, models[name], summaries[name]) for name in models],
            order=order,
            main=main,
            models=summaries,
            not_people=[name for name in models if not is_recordings(summaries[name]["dataset"])],
            paper_accuracy=(
                PAPER_ACCURACY if main == "cfn_sr" and not unlike_paper(summaries[main]) else None
            ),
            authors_best=AUTHORS_LOG_BEST_ON_TEST,
            authors_last=AUTHORS_LOG_LAST_EPOCH,
            intervals=summary["intervals"],
            overview=_picture(
                overview,
                "overview",
                "Accuracy of every model",
                "Accuracy at the last epoch with its interval, and at the epoch that was best on "
                f"the test actors, of {', '.join(models)}. The figures are in the table of models.",
            ),
            differing=settings.differing(models),
            # One trained row compares nothing.
            tables=[
                table
                for table in summary["tables"]
                if sum(row["accuracy_last"] is not None for row in table["rows"]) > 1
            ],
            compared=[p for p in summary["comparisons"]["pairs"] if p["first"] == main],
            pairs=len(summary["comparisons"]["pairs"]),
            not_compared=[p for p in summary["comparisons"]["not_compared"] if p["first"] == main],
            mistakes=mistakes.surest_mistakes(pool(models[main])),
            mistakes_in_all=sum(map(sum, _off_diagonal(summaries[main]["confusion"]))),
            faces=faces,
            settings=settings.rows(models),
            caches=_caches(models),
            unknown_starts=[m for m, runs in models.items() if settings.starts_from_unknown(runs)],
            robustness=_robustness(summary["robustness"]),
            left_out=summary["left_out"],
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: (
                resources.files("evaluate.report").joinpath(name).read_text(encoding="utf-8")
            )
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "p_value": _p_value}
    return environment


def _model_view(model: str, runs: list[Run], summary: dict[str, Any]) -> dict[str, Any]:
    """What the template shows of one model beyond its summary."""
    folds = ", ".join(str(run.fold) for run in runs)
    return {
        "name": model,
        "summary": summary,
        "folds_note": folds_note(summary),
        "folds": [_fold_row(run, run.fold in summary["headline_folds"]) for run in runs],
        "emotions": EMOTIONS,
        "intensities": _intensities(summary["per_intensity"]),
        "confusion": _picture(
            plots.confusion_figure(np.array(summary["confusion"])),
            f"confusion-{model}",
            f"Confusion matrix of {model}",
            f"{summary['clips']} clips, true emotion by row, predicted by column. "
            f"{most_confused(summary['confusion'])} All counts are in the table below.",
        ),
        "curves": _picture(
            plots.curves_figure(runs),
            f"curves-{model}",
            f"Learning curves of {model}",
            f"Accuracy and loss on training and test actors over {summary['epochs']} epochs, one "
            f"column for each of the folds {folds}. The accuracies are in the table of folds.",
        ),
        "command": settings.command(runs),
    }


def _picture(figure: Any, slug: str, title: str, description: str) -> dict[str, Any]:
    width = svg.width_px(figure)
    # The figure's words come out of ElementTree escaped.
    return {"svg": Markup(svg.inline(figure, slug, title, description)), "width": width}


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
        "expected": expected if is_recordings(run.config["cache"]["dataset"]) else len(run.labels),
        "last": metrics.accuracy(run.labels, run.predicted),
        "uar": metrics.unweighted_average_recall(run.labels, run.predicted),
        "best": best,
        "best_epoch": epoch,
    }


def _intensities(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a breakdown by intensity, normal and strong of an emotion together."""
    grouped: dict[str, dict[str, Any]] = {}
    for row in rows:
        grouped.setdefault(row["emotion"], {})[row["intensity"]] = row
    return list(grouped.items())


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


def _robustness(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The conditions of each model that was measured."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["model"], []).append(row)
    return grouped


def _off_diagonal(counts: list[list[int]]) -> list[list[int]]:
    return [[clips for j, clips in enumerate(row) if j != i] for i, row in enumerate(counts)]


def _percent(share: float | None, digits: int = 2) -> str:
    return "none" if share is None else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\N{MINUS SIGN}")


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
