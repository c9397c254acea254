"""The paper's two tables with ours beside its figures, as LaTeX and as Markdown."""

import re
from collections.abc import Callable, Iterable
from typing import Any

NAMES = ("table_1.tex", "table_1.md", "table_2.tex", "table_2.md")

_HEADER = (
    *("model", "fusion", "last epoch (%)", "95 % interval", "best on test (%)"),
    *("the paper's (%)", "parameters", "the paper's parameters"),
)
_CAPTION = (
    "Accuracy over eight emotions. Last epoch: the result, the mean over folds after the "
    "last epoch of a fixed schedule, with its interval over actors. Best on test: the epoch is "
    "chosen on the test actors, so it is not a result; the paper's figures are such."
)
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
}


def table_files(tables: list[dict[str, Any]]) -> dict[str, str]:
    """The four files by name.

    Args:
        tables: Table 1 and Table 2 as from `tables.fill`.
    """
    files = {}
    for number, table in enumerate(tables, start=1):
        files[f"table_{number}.tex"] = _latex(table, number)
        files[f"table_{number}.md"] = _markdown(table)
    return files


def latex_text(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown_text(text: str) -> str:
    """Text as Markdown shows it literally, in a cell of a table too."""
    escaped = re.sub(r"([\\`*_\[\]|~>])", r"\\\1", text.replace("&", "&amp;"))
    return escaped.replace("<", "&lt;")


def _latex(table: dict[str, Any], number: int) -> str:
    """A table of the package booktabs."""
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_text(_CAPTION)}}}",
        f"\\label{{tab:cfn-sr-{number}}}",
        "\\begin{tabular}{llrrrrrr}",
        "\\toprule",
        _latex_row(map(latex_text, _HEADER)),
        "\\midrule",
        *(_latex_row(_cells(row, latex_text, "--")) for row in table["rows"]),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"\\par\\footnotesize {latex_text(note)}" for note in _notes(table)),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _markdown(table: dict[str, Any]) -> str:
    """A table as GitHub and Pandoc read it."""
    lines = [
        f"**{table['title']}.** {markdown_text(_CAPTION)}",
        "",
        _markdown_row(map(markdown_text, _HEADER)),
        _markdown_row(["---", "---", *["---:"] * (len(_HEADER) - 2)]),
        *(_markdown_row(_cells(row, markdown_text, " to ")) for row in table["rows"]),
        *(line for note in _notes(table) for line in ("", markdown_text(note))),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: dict[str, Any], escape: Callable[[str], str], dash: str) -> list[str]:
    """One row; `dash` joins the bounds of an interval."""
    label = escape(row["label"])
    if _remarks(row):
        label += escape(f" [{row['model']}]")
    trained = row["accuracy_last"] is not None
    low, high = row["interval"] or (None, None)
    return [
        label,
        "" if row["stage"] == "-" else escape(row["stage"]),
        _percent(row["accuracy_last"]) if trained else "not trained",
        f"{_percent(low)}{dash}{_percent(high)}" if row["interval"] else "",
        _percent(row["accuracy_best_on_test"]) if trained else "",
        _percent(row["paper_accuracy"]),
        f"{row['parameters']:,}" if trained else "",
        "" if row["paper_parameters"] == "-" else escape(row["paper_parameters"]),
    ]


def _remarks(row: dict[str, Any]) -> list[str]:
    """What keeps a trained row from standing beside the paper's."""
    if row["accuracy_last"] is None:
        return []
    folds = f"{row['folds']} of {row['headline_folds']} folds"
    return [*([] if row["folds"] == row["headline_folds"] else [folds]), *row["unlike_paper"]]


def _notes(table: dict[str, Any]) -> list[str]:
    """A sentence for each row that does not compare with the paper's, equal ones together."""
    remarks: dict[str, list[str]] = {}
    for row in table["rows"]:
        if _remarks(row):
            remarks.setdefault(", ".join(_remarks(row)), []).append(row["model"])
    return [
        f"[{', '.join(models)}]: {remark}; not comparable with the paper's."
        for remark, models in remarks.items()
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
