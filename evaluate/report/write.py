"""The report's files: the page for people, JSON and CSV for programs, tables for papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache.files import atomic_path, write_json
from cache.reader import Cache
from evaluate.measures.pooled import pool
from evaluate.report import csv_files, mistakes, table_files
from evaluate.report.page import render
from evaluate.report.summary import summarise
from evaluate.robustness.table import Row
from evaluate.runs.find import LeftOut
from evaluate.runs.run import Run

PAGE = "report.html"
# The page is written last.
NAMES = ("summary.json", *csv_files.NAMES, *table_files.NAMES, PAGE)


def write_report(
    out: Path,
    models: dict[str, list[Run]],
    left_out: list[LeftOut],
    cache: Cache | None = None,
    robustness: Sequence[Row] = (),
) -> list[str]:
    """Write all of `NAMES`; the same runs and the same cache give the same bytes.

    Args:
        out: existing folder.
        models: usable runs of each model, as from `runs.read_runs`; at least one model.
        left_out: what is in no mean.
        cache: what the main model was trained from, for the faces of its mistakes.
        robustness: as from `robustness.table.collect`.

    Returns:
        A line for each face that could not be read.

    Raises:
        OSError: if a file cannot be written.
    """
    summary = summarise(models, left_out, robustness)
    faces, problems = _faces(cache, models[summary["main_model"]])
    texts = {
        **csv_files.csv_files(summary),
        **table_files.table_files(summary["tables"]),
        PAGE: render(summary, models, faces),
    }
    write_json(out / "summary.json", summary)
    for name, text in texts.items():
        with atomic_path(out / name) as temporary:
            # As bytes, because text would have its line ends changed on some systems.
            temporary.write_bytes(text.encode())
    return problems


def _faces(cache: Cache | None, runs: list[Run]) -> tuple[dict[str, Any] | None, list[str]]:
    """What the page shows of a cache: the faces of a model's mistakes, and whose they are."""
    if cache is None:
        return None, []
    wrong = [each["clip_id"] for each in mistakes.surest_mistakes(pool(runs))]
    pictures, problems = mistakes.faces(cache, wrong)
    origin = {name: cache.manifest[name] for name in ("dataset", "license", "citation")}
    return {"pictures": pictures, **origin}, problems
