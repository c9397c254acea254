"""The command line of robustness: measure what is missing, print a table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits
from tqdm import tqdm

import model
from cache import ravdess
from cache.extras import lack
from cache.reader import Cache
from cache.shard import CacheError
from evaluate.errors import fail
from evaluate.robustness.measure import measure_run
from evaluate.robustness.table import FILE_NAME, RobustnessError, collect, table
from evaluate.runs.find import read_runs
from model.checkpoint import CheckpointError
from model.device import pick_device


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each finished run, and print a table.

    Returns:
        0 when all runs are measured, 1 when some could not be, 2 for wrong use.
    """
    arguments = _parser().parse_args(argv)
    try:
        device = pick_device(arguments.device)
        cache = Cache(arguments.cache)
        models, left_out = read_runs(arguments.runs)
    except (ValueError, OSError) as exc:
        return fail(exc, 2)
    wanted = arguments.only or list(models)
    problems = [
        f"{each.name} is {each.state}: {problem}"
        for each in left_out
        if not arguments.only or each.name.split("/")[0] in wanted
        for problem in each.problems
    ]
    runs = [run for name in models if name in wanted for run in models[name]]
    folders = {run.name: arguments.runs / run.name for run in runs}
    measured = 0
    try:
        with (
            # Threads that wait for each other cost MFCCs and tiny networks more than they give.
            threadpool_limits(limits=1, user_api="blas"),
            tqdm(total=sum(len(run.clip_ids) for run in runs), unit="clip", disable=None) as bar,
        ):
            for run in runs:
                bar.set_description(run.name)
                try:
                    measured += measure_run(folders[run.name], run, cache, device, bar.update)
                except (RobustnessError, CheckpointError, CacheError, OSError) as exc:
                    problems.append(f"{run.name}: {exc}")
                    del folders[run.name]
        headline = [
            folders[run.name]
            for run in runs
            if run.name in folders and run.fold in ravdess.HEADLINE_FOLDS[run.config["split"]]
        ]
        rows = collect(headline)
    except RobustnessError as exc:
        return fail(exc, 1)
    except ModuleNotFoundError as exc:  # of sound, where a condition changes it
        print(lack(exc, "features"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return fail("interrupted; what is measured is kept", 1)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not rows:
        return fail("no run was measured", 1)
    print(
        f"{measured} runs measured, {len(folders) - measured} before ({FILE_NAME} in each run's "
        "folder; python -m evaluate puts them into the report)"
    )
    print("accuracy in percent, the mean over folds:")
    print(table(rows))
    reasons = dict.fromkeys(row.reason for row in rows if row.reason)
    if reasons:
        print(f"-: {'; '.join(reasons)}")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluate.robustness",
        description="Test finished runs again on the clips of their fold, with sound or picture "
        f"missing or made worse; {FILE_NAME} goes into each run's folder.",
    )
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, required=True, help="folder with <model>/fold_<k>/"
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, required=True, help="that the runs were trained on"
    )
    parser.add_argument(
        "--only",
        metavar="MODEL",
        nargs="+",
        choices=model.NAMES,
        help="these models (default: all)",
    )
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    return parser
