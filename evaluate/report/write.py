"""Write the files of a report: summary.json, CSV, report.html, and the paper's tables."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.files import load_template, write_text
from cache.ravdess import EMOTIONS
from evaluate.report import plots
from evaluate.report.figures import Row
from evaluate.report.report import Report
from model import paper

PAGE = "report.html"

_BREAKDOWNS = {
    **{"folds.csv": "per_fold", "actors.csv": "per_actor"},
    **{"emotions.csv": "per_emotion", "intensities.csv": "per_intensity"},
}
_COMPARISON_COLUMNS = (
    *("first", "second", "clips", "accuracy_first", "accuracy_second", "difference"),
    *("interval_low", "interval_high", "only_first_right", "only_second_right", "p"),
    *("p_holm_with_main", "p_holm_all_pairs", "differ_in"),
)
_ROBUSTNESS_COLUMNS = (
    *("model", "name", "modality", "title", "accuracy", "difference", "folds", "clips", "reason"),
)
_TABLE_HEADER = (
    *("model", "fusion", "last epoch (%)", "95 % interval", "best on test (%)"),
    *("the paper's (%)", "parameters", "the paper's parameters"),
)
_TABLE_CAPTION = (
    "Accuracy over eight emotions. Last epoch: the result, the mean over folds after the last "
    "epoch of a fixed schedule, with its interval over actors. Best on test: the epoch is chosen "
    "on the test actors, so it is not a result; the paper's figures are of this kind."
)
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}


def write_report(out: Path, report: Report, faces: dict[str, Any] | None = None) -> bool:
    """Write all files into a folder; the same report gives the same bytes.

    Returns whether any changed.
    """
    summary = report.to_json()
    files = {
        "summary.json": json.dumps(summary, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        **csv_files(summary),
        **table_files(report),
        PAGE: page(report, faces),  # last, so that the others exist when it appears
    }
    changed = False
    for name, text in files.items():
        if not (out / name).is_file() or (out / name).read_bytes() != text.encode():
            write_text(out / name, text)
            changed = True
    return changed


def csv_files(summary: dict[str, Any]) -> dict[str, str]:
    """The CSV files by name (RFC 4180); shares are 0..1, and empty where undefined."""
    models = summary["models"]
    breakdowns = {
        name: [{"model": model, **row} for model, each in models.items() for row in each[part]]
        for name, part in _BREAKDOWNS.items()
    }
    for row in breakdowns["folds.csv"]:
        row["test_actors"] = " ".join(map(str, row["test_actors"]))
    confusions = [
        {
            "model": model,
            "true": EMOTIONS[true],
            "predicted": EMOTIONS[predicted],
            "clips": clips,
            "share_of_true": round(clips / sum(counts), 6) if sum(counts) else None,
        }
        for model, each in models.items()
        for true, counts in enumerate(each["confusion"])
        for predicted, clips in enumerate(counts)
    ]
    comparisons = []
    for pair in summary["comparisons"]["pairs"]:
        low, high = pair["interval"] or (None, None)
        flat = {"interval_low": low, "interval_high": high}
        comparisons.append({**pair, **flat, "differ_in": "; ".join(pair["differ_in"])})
    return {
        **{name: csv_text(rows) for name, rows in breakdowns.items()},
        "confusion.csv": csv_text(confusions),
        "robustness.csv": csv_text(summary["robustness"], _ROBUSTNESS_COLUMNS),
        "comparisons.csv": csv_text(comparisons, _COMPARISON_COLUMNS),
    }


def csv_text(rows: list[Row], columns: Sequence[str] = ()) -> str:
    """Rows as CSV, by default with the columns of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def page(report: Report, faces: dict[str, Any] | None = None) -> str:
    """The page: one HTML file that loads nothing from outside."""
    main = report.models[report.main]
    return _render(
        "report.html.j2",
        **{"report": report, "faces": faces, "main": main, "models": list(report.models.values())},
        **{"emotions": EMOTIONS, "paper": paper, "plots": plots},
        # The paper's figure belongs only beside the paper's network on the paper's data.
        paper_row=None if main.name != "cfn_sr" or main.unlike_paper else paper.ROWS["cfn_sr"],
        # One trained row compares nothing.
        tables={
            title: rows
            for title, rows in report.tables.items()
            if sum(row["folds"] > 0 for row in rows) > 1
        },
    )


def table_files(report: Report) -> dict[str, str]:
    """The paper's tables with ours beside its figures, by file name."""
    files = {}
    for number, (title, rows) in enumerate(report.tables.items(), start=1):
        about = {"title": title, "number": number, "caption": _TABLE_CAPTION}
        about |= {"header": _TABLE_HEADER, "notes": _notes(rows)}
        for kind, dash in (("tex", "--"), ("md", " to ")):
            cells = [_cells(row, dash) for row in rows]
            files[f"table_{number}.{kind}"] = _render(f"table.{kind}.j2", rows=cells, **about)
    return files


def markdown_table(**values: Any) -> str:
    """A table as Markdown from `title`, `caption`, `header`, `rows` and `notes`, all text."""
    return _render("table.md.j2", **values)


def _cells(row: Row, dash: str) -> list[str]:
    """One row as text; `dash` joins the bounds of an interval."""
    label = f"{row['label']} [{row['model']}]" if _remarks(row) else row["label"]
    ours = ["not trained", "", "", ""]
    if row["folds"]:
        ours = [
            f"{100 * row['accuracy_last']:.2f}{_over_seeds(row)}",
            dash.join(f"{100 * bound:.2f}" for bound in row["interval"] or ()),
            f"{100 * row['accuracy_best_on_test']:.2f}",
            f"{row['parameters']:,}",
        ]
    paper_accuracy = f"{100 * row['paper_accuracy']:.2f}"
    stage, paper_parameters = row["stage"].strip("-"), row["paper_parameters"].strip("-")
    return [label, stage, *ours[:3], paper_accuracy, ours[3], paper_parameters]


def _over_seeds(row: Row) -> str:
    """The standard deviation over seeds of a row, in percent; empty if it has one seed."""
    spread = row.get("standard_deviation_over_seeds")
    return "" if spread is None else f" ± {100 * spread:.2f}"


def _notes(rows: list[Row]) -> list[str]:
    """A sentence about seeds, and one for each reason why rows do not compare with the paper's."""
    models: dict[str, list[str]] = {}
    for row in rows:
        if remark := ", ".join(_remarks(row)):
            models.setdefault(remark, []).append(row["model"])
    seeds = dict.fromkeys(" ".join(map(str, row["seeds"])) for row in rows if "seeds" in row)
    spread = "±: the standard deviation over random seeds of the mean over folds; seeds"
    notes = [f"{spread} {', '.join(seeds)}."] if seeds else []
    for remark, names in models.items():
        notes.append(f"[{', '.join(names)}]: {remark}; not comparable with the paper's.")
    return notes


def _remarks(row: Row) -> list[str]:
    """Why a trained row is not comparable with the paper's."""
    return [*row["missing"], *row["unlike_paper"]]


def latex_text(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return text.translate(str.maketrans(_LATEX))


def markdown_text(text: str) -> str:
    """Text as Markdown shows it literally, also in a cell of a table."""
    escaped = re.sub(r"([\\`*_\[\]|~>])", r"\\\1", text.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;")


def _render(template: str, **values: Any) -> str:
    filters = {"percent": _percent, "over_seeds": _over_seeds, "most_confused": _most_confused}
    filters |= {"tex": latex_text, "md": markdown_text, "remarks": _remarks}
    return load_template(Path(__file__).with_name(template), **filters).render(**values)


def _percent(share: float, digits: int = 2) -> str:
    return "none" if share != share else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _most_confused(confusion: list[list[int]]) -> str:
    """The most frequent mistake in words."""
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    true, predicted = np.unravel_index(counts.argmax(), counts.shape)
    if not counts.any():
        return "Every clip is predicted correctly."
    return (
        f"The most frequent mistake: {EMOTIONS[true]} predicted as {EMOTIONS[predicted]}, "
        f"{counts.max()} of {sum(confusion[true])} clips."
    )
