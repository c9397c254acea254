"""Write report.html, summary.json, CSV files and tables from finished runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cache.command import FailedError, fail, run
from cache.reader import Cache
from evaluate.report.faces import check_cache, read_faces
from evaluate.report.figures import ModelReport
from evaluate.report.report import Report, main_model
from evaluate.report.write import PAGE, write_report
from evaluate.robustness.table import RobustnessError, collect
from evaluate.runs import headline, read_runs


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of all runs; returns 1 if something was left out, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m evaluate", description=__doc__)
    add = parser.add_argument
    runs = "folder with <model>/fold_<k>/; several folders of different seeds are averaged"
    add("--runs", metavar="DIR", type=Path, nargs="+", required=True, help=runs)
    add("--out", metavar="DIR", type=Path, required=True, help="folder to write the report to")
    faces = "cache that the runs were trained on, to show the faces of the mistakes"
    add("--cache", metavar="DIR", type=Path, help=faces)
    args = parser.parse_args(argv)
    return run(lambda: evaluate(args.runs, args.out, args.cache), extras="report")


def evaluate(runs: Sequence[Path], out: Path, cache_folder: Path | None = None) -> int:
    """Read the runs, compute the report, write it, and print one line per model."""
    # Read everything before anything is written.
    models, left_out = read_runs(*runs)
    problems = [line for each in left_out for line in each.lines()]
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

    # Compute and write the report; what cannot be shown of robustness and faces costs status 1.
    robustness, unreadable = [], []
    try:
        used = [each for of_model in models.values() for each in headline(of_model)]
        robustness = collect(each.folder for each in used)
    except RobustnessError as exc:
        unreadable.append(str(exc))
    report = Report.of(models, left_out, robustness)
    faces = None
    if cache is not None:
        faces, faceless = read_faces(cache, [each["clip_id"] for each in report.mistakes])
        unreadable += faceless
    changed = write_report(out, report, faces)

    # One line per problem, then one per model.
    for problem in unreadable:
        fail(problem, 1)
    for model in report.models.values():
        print(_line(model))
    print(out / PAGE if changed else f"{out / PAGE} (unchanged)")
    return 1 if problems or unreadable else 0


def _line(model: ModelReport) -> str:
    """The result of one model in one line."""
    last, best = model.figures["accuracy_last"], model.figures["accuracy_best_on_test"]
    over = [
        f"{len(last[f'per_{name}'])} {name}s {100 * spread:.2f}"
        for name in ("seed", "fold")
        if (spread := last[f"standard_deviation_over_{name}s"]) is not None
    ]
    spreads = f" (standard deviation over {', over '.join(over)})" if over else ""
    notes = [model.shortfall] if model.shortfall else []
    if not model.is_recordings:
        notes.append(f"based on {model.figures['dataset']}, not indicative of results on people")
    result = (
        f"{model.name}: {100 * last['mean']:.2f} %{spreads} at the last epoch "
        f"(best-on-test {100 * best['mean']:.2f} %, not the result)"
    )
    return "; ".join([result, *notes])
