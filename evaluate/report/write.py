"""Write the files of a report: summary.json and CSV, and what `templates` makes."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache.files import write_text
from cache.ravdess import EMOTIONS
from evaluate.report.faces import Faces
from evaluate.report.figures import Row
from evaluate.report.report import Report
from evaluate.report.templates import page, table_files

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


def write_report(out: Path, report: Report, faces: Faces | None = None) -> bool:
    """Write all files into the folder `out`; the same report and faces give the same bytes.

    Returns:
        Whether any file changed.

    Raises:
        OSError: if a file cannot be written.
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
    """The CSV files by name, with commas, a header, and lines that end in CR LF (RFC 4180).

    Shares are 0..1 and empty where undefined; lists are joined by spaces, titles by "; ".
    """
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
    """Rows as CSV; by default, the columns are those of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
