"""The command line of the report: from a folder of runs to report.html and the files beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cache.command import FailedError, fail, run
from cache.reader import Cache
from evaluate.report.faces import check_cache, read_faces
from evaluate.report.figures import ModelReport
from evaluate.report.report import Report, main_model
from evaluate.report.write import PAGE, write_report
from evaluate.robustness.table import RobustnessError, Row, collect
from evaluate.runs import headline, read_runs
from train.record import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of all runs in a folder.

    Returns:
        0 if all runs are in the report, 1 if something was left out or could not be written, 2 for
        wrong use.
    """
    parser = argparse.ArgumentParser(
        prog="python -m evaluate",
        description="Write report.html, summary.json, CSV files and tables from finished runs.",
    )
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, required=True, help="folder with <model>/fold_<k>/"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write the report to"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="cache that the runs were trained on, to show the faces of the mistakes",
    )
    arguments = parser.parse_args(argv)
    return run(lambda: evaluate(arguments.runs, arguments.out, arguments.cache), extras="report")


def evaluate(runs: Path, out: Path, cache_folder: Path | None = None) -> int:
    """Read the runs, compute the report, write it, and print one line per model.

    Raises:
        FailedError: if no run is usable.
        ValueError: if `runs` contains no runs, `cache_folder` is not their cache, or `out` cannot
            be a folder.
        OSError: if a file cannot be written.
    """
    # Read everything before anything is written.
    models, left_out = read_runs(runs)
    problems = [
        f"{each.name} is {each.state}: {problem}" for each in left_out for problem in each.problems
    ]
    for problem in problems:
        fail(problem, 1)
    if not models:
        raise FailedError("no run is usable, so no report was written")
    cache = None
    if cache_folder is not None:
        cache = Cache(cache_folder)
        check_cache(cache, models[main_model(models)][0])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ValueError(f"out is {str(out)!r}, which cannot be a folder: {exc}") from exc

    # Compute and write the report; figures and faces that cannot be shown cost status 1.
    robustness, unreadable = _robustness(models)
    report = Report.of(models, left_out, robustness)
    faces = None
    if cache is not None:
        faces, faceless = read_faces(cache, [each["clip_id"] for each in report.mistakes])
        unreadable += faceless
    changed = write_report(out, report, faces)

    for problem in unreadable:
        fail(problem, 1)
    for model in report.models.values():
        print(_line(model))
    print(out / PAGE if changed else f"{out / PAGE} (unchanged)")
    return 1 if problems or unreadable else 0


def _robustness(models: dict[str, list[Run]]) -> tuple[list[Row], list[str]]:
    """Accuracy on changed clips, of the headline folds; or why it cannot be shown."""
    try:
        return collect(
            each.folder for of_model in models.values() for each in headline(of_model)
        ), []
    except RobustnessError as exc:
        return [], [str(exc)]


def _line(model: ModelReport) -> str:
    """The result of one model in one line."""
    last, best = model.figures.accuracy_last, model.figures.accuracy_best_on_test
    spread = ""
    if last.standard_deviation_over_folds is not None:
        points = 100 * last.standard_deviation_over_folds
        spread = f" (standard deviation over {len(last.per_fold)} folds {points:.2f})"
    notes = [model.folds_note] if model.folds_note else []
    if not model.is_recordings:
        notes.append(f"made from {model.figures.dataset}, says nothing about people")
    return "; ".join(
        [
            f"{model.name}: {100 * last.mean:.2f} %{spread} at the last epoch "
            f"(best-on-test {100 * best.mean:.2f} %, not the result)",
            *notes,
        ]
    )
