"""What is made from templates: report.html, and the paper's tables as LaTeX and Markdown."""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from cache.ravdess import EMOTIONS
from evaluate import measures
from evaluate.report import plots, svg
from evaluate.report.faces import Faces
from evaluate.report.figures import ModelReport, Row
from evaluate.report.report import Report, TableRow
from model import paper

_TABLE_HEADER = (
    *("model", "fusion", "last epoch (%)", "95 % interval", "best on test (%)"),
    *("the paper's (%)", "parameters", "the paper's parameters"),
)
_TABLE_CAPTION = (
    "Accuracy over eight emotions. Last epoch: the result, the mean over folds after the last "
    "epoch of a fixed schedule, with its interval over actors. Best on test: the epoch is chosen "
    "on the test actors, so it is not a result; the paper's figures are of this kind."
)
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
}


# The page. ---------------------------------------------------------------------------------------


def page(report: Report, faces: Faces | None = None) -> str:
    """The page: one HTML file that loads nothing from outside."""
    models = list(report.models.values())
    main = report.models[report.main]
    return _render(
        "report.html.j2",
        report=report,
        faces=faces,
        main=main,
        models=models,
        main_first=sorted(models, key=lambda model: model is not main),
        many=len(models) > 1,
        emotions=EMOTIONS,
        measures=measures,
        paper=paper,
        # The paper's figure belongs only beside the paper's network on the paper's data.
        paper_row=(None if main.name != "cfn_sr" or main.unlike_paper else paper.ROWS["cfn_sr"]),
        # One trained row compares nothing.
        tables={
            title: rows
            for title, rows in report.tables.items()
            if sum(row.accuracy_last is not None for row in rows) > 1
        },
        caches=_caches(models),
        overview=_picture(
            plots.overview_figure(report.models),
            "overview",
            "Accuracy of every model",
            "Accuracy at the last epoch with its interval, and at the epoch that was best on the "
            f"test actors, of {', '.join(report.models)}. The figures are in the table of models.",
        ),
        pictures={model.name: _pictures(model) for model in models},
    )


def _pictures(model: ModelReport) -> dict[str, Row]:
    """The confusion matrix and the learning curves of a model."""
    name, figures = model.name, model.figures
    folds = ", ".join(str(run.fold) for run in model.runs)
    return {
        "confusion": _picture(
            plots.confusion_figure(figures.confusion),
            f"confusion-{name}",
            f"Confusion matrix of {name}",
            f"{figures.clips} clips, true emotion by row, predicted emotion by column. "
            f"{_most_confused(figures.confusion)} All counts are in the table below.",
        ),
        "curves": _picture(
            plots.curves_figure(model.runs),
            f"curves-{name}",
            f"Learning curves of {name}",
            f"Accuracy and loss on training and test actors over {figures.epochs} epochs, one "
            f"column per fold: {folds}. The accuracies are in the table of folds.",
        ),
    }


def _caches(models: list[ModelReport]) -> list[Row]:
    """The caches that were trained on, each with the names of its models."""
    caches: dict[tuple[str, str], Row] = {}
    for model in models:
        cache = model.runs[0].config.cache
        key = (cache["dataset"], cache["fingerprint"])
        caches.setdefault(key, {**cache, "models": []})["models"].append(model.name)
    return [caches[key] for key in sorted(caches)]


def _picture(figure: Figure, slug: str, title: str, description: str) -> Row:
    # ElementTree has escaped the words of the figure.
    text = Markup(svg.inline(figure, slug, title, description))
    return {"svg": text, "width": svg.width_px(figure)}


def _most_confused(confusion: list[list[int]]) -> str:
    """The most frequent mistake in words."""
    clips, true, predicted = max(
        (count, -row, -column)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column
    )
    if not clips:
        return "Every clip is predicted correctly."
    return (
        f"The most frequent mistake: {EMOTIONS[-true]} predicted as {EMOTIONS[-predicted]}, "
        f"{clips} of {sum(confusion[-true])} clips."
    )


# The paper's tables. -----------------------------------------------------------------------------


def table_files(report: Report) -> dict[str, str]:
    """The paper's tables with ours beside its figures, by file name."""
    files = {}
    for number, (title, rows) in enumerate(report.tables.items(), start=1):
        for kind, dash in (("tex", "--"), ("md", " to ")):
            files[f"table_{number}.{kind}"] = _render(
                f"table.{kind}.j2",
                title=title,
                number=number,
                caption=_TABLE_CAPTION,
                header=_TABLE_HEADER,
                rows=[_cells(row, dash) for row in rows],
                notes=_notes(rows),
            )
    return files


def _cells(row: TableRow, dash: str) -> list[str]:
    """One row as text; `dash` joins the bounds of an interval."""
    label = f"{row.label} [{row.model}]" if row.remarks else row.label
    stage, paper_parameters = (
        "" if text == "-" else text for text in (row.stage, row.paper_parameters)
    )
    paper_accuracy = f"{100 * row.paper_accuracy:.2f}"
    if row.accuracy_last is None:
        return [label, stage, "not trained", "", "", paper_accuracy, "", paper_parameters]
    return [
        label,
        stage,
        f"{100 * row.accuracy_last:.2f}",
        dash.join(f"{100 * bound:.2f}" for bound in row.interval or ()),
        f"{100 * row.accuracy_best_on_test:.2f}",
        paper_accuracy,
        f"{row.parameters:,}",
        paper_parameters,
    ]


def _notes(rows: list[TableRow]) -> list[str]:
    """One sentence for all rows that do not compare with the paper's for the same reason."""
    models: dict[str, list[str]] = {}
    for row in rows:
        if row.remarks:
            models.setdefault(", ".join(row.remarks), []).append(row.model)
    return [
        f"[{', '.join(names)}]: {remark}; not comparable with the paper's."
        for remark, names in models.items()
    ]


def latex_text(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown_text(text: str) -> str:
    """Text as Markdown shows it literally, also in a cell of a table."""
    escaped = re.sub(r"([\\`*_\[\]|~>])", r"\\\1", text.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;")


# Templates. --------------------------------------------------------------------------------------


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "p_value": _p_value}
    environment.filters |= {"tex": latex_text, "md": markdown_text}
    return environment.get_template(template).render(**values)


def _percent(share: float, digits: int = 2) -> str:
    return "none" if share != share else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _points(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\N{MINUS SIGN}")


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
