"""The command line of the report: runs to report.html, summary.json and their company."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cache.ravdess import is_recordings
from cache.reader import Cache
from cache.shard import CacheError
from evaluate.errors import fail
from evaluate.measures.comparisons import main_model
from evaluate.measures.pooled import headline
from evaluate.report.mistakes import check_cache
from evaluate.report.summary import folds_note, summarise_model
from evaluate.report.write import NAMES, PAGE, write_report
from evaluate.robustness.table import RobustnessError, Row, collect
from evaluate.runs.find import read_runs
from evaluate.runs.run import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of all runs under a folder.

    Returns:
        0 when all runs are in the report, 1 when something was left out or could not be written,
        2 for wrong use.
    """
    parser = argparse.ArgumentParser(
        prog="python -m evaluate",
        description="Write report.html, summary.json, CSV files and tables from trained runs.",
    )
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, required=True, help="folder with <model>/fold_<k>/"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder for the report"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="the cache that the runs were trained from: the report's mistakes then show faces",
    )
    arguments = parser.parse_args(argv)
    try:
        models, left_out = read_runs(arguments.runs)
    except (ValueError, OSError) as exc:
        return fail(exc, 2)
    for each in left_out:
        for problem in each.problems:
            print(f"error: {each.name} is {each.state}: {problem}", file=sys.stderr)
    if not models:
        return fail("no run can be used, so no report was written", 1)
    cache = None
    if arguments.cache is not None:
        try:
            cache = Cache(arguments.cache)
            check_cache(cache, models[main_model(models)])
        except (CacheError, OSError) as exc:
            return fail(exc, 2)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        return fail(f"out is {str(arguments.out)!r}, which cannot be a folder: {exc}", 2)
    try:
        before = _contents(arguments.out)
        robustness, problems = _robustness(arguments.runs, models)
        problems += write_report(arguments.out, models, left_out, cache, robustness)
        unchanged = before == _contents(arguments.out)
    except OSError as exc:
        return fail(f"the report could not be written: {exc}", 1)
    except KeyboardInterrupt:
        return fail("interrupted", 1)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    for model, runs in models.items():
        print(_line(model, summarise_model(runs)))
    page = arguments.out / PAGE
    print(f"{page} (unchanged)" if unchanged else page)
    return 1 if left_out or problems else 0


def _robustness(runs: Path, models: dict[str, list[Run]]) -> tuple[list[Row], list[str]]:
    """What was measured on changed clips, of the folds of the result; or why it cannot be shown."""
    folders = [
        runs / run.model / f"fold_{run.fold}" for own in models.values() for run in headline(own)
    ]
    try:
        return collect(folders), []
    except RobustnessError as exc:
        return [], [str(exc)]


def _line(model: str, summary: dict[str, Any]) -> str:
    """One model's result in one line."""
    last, best = summary["accuracy_last"], summary["accuracy_best_on_test"]
    spread = last["standard_deviation_over_folds"]
    spread_over = (
        f" (standard deviation over {len(summary['folds'])} folds {100 * spread:.2f})"
        if spread is not None
        else ""
    )
    notes = [folds_note(summary)]
    if not is_recordings(summary["dataset"]):
        notes.append(f"made from {summary['dataset']}, says nothing about people")
    return (
        f"{model}: {100 * last['mean']:.2f} %{spread_over} at the last epoch "
        f"(best-on-test {100 * best['mean']:.2f} %, not the result)"
        + "".join(f"; {note}" for note in notes if note)
    )


def _contents(out: Path) -> list[bytes | None]:
    """The report's files as they are, None where one is missing."""
    paths = [out / name for name in NAMES]
    return [path.read_bytes() if path.is_file() else None for path in paths]
