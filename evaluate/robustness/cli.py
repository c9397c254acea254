"""Re-evaluate finished runs with missing or degraded sound or picture; finished ones are kept."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from cache.command import FailedError, add_device, fail, run
from cache.reader import Cache
from evaluate.robustness.measure import measure_run
from evaluate.robustness.table import FILE_NAME, collect, table
from evaluate.runs import add_code, headline, read_runs
from model.device import pick_device
from train.record import Run

_FEW_PARAMETERS = 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each finished run, and print a table; returns the exit status, 1 if some failed."""
    parser = argparse.ArgumentParser(prog="python -m evaluate.robustness", description=__doc__)
    add = parser.add_argument
    add("--runs", metavar="DIR", type=Path, required=True, help="folder with <model>/fold_<k>/")
    add("--cache", metavar="DIR", type=Path, required=True, help="cache of the runs")
    only = "only these models (default: all)"
    add("--only", metavar="MODEL", nargs="+", default=(), help=only)
    add_code(parser)
    add_device(parser)
    args = parser.parse_args(argv)
    return run(lambda: _measure_all(args), extras="report,features")


def _measure_all(args: argparse.Namespace) -> int:
    device, cache, only = pick_device(args.device), Cache(args.cache), args.only
    models, left_out = read_runs(args.runs)
    wanted = [each for each in left_out if not only or each.name.split("/")[0] in only]
    problems = [line for each in wanted for line in each.lines()]
    runs = [each for name, own in models.items() if not only or name in only for each in own]

    # Measure what is not measured yet. More threads slow down MFCCs and small networks.
    done: list[Run] = []
    num_new, threads = 0, torch.get_num_threads()
    with (
        threadpool_limits(limits=1, user_api="blas"),
        tqdm(total=sum(each.config.test_clips for each in runs), unit="clip", disable=None) as bar,
    ):
        for each in runs:
            bar.set_description(each.name)
            torch.set_num_threads(1 if each.config.parameters < _FEW_PARAMETERS else threads)
            try:
                num_new += measure_run(each, cache, device, bar.update, args.allow_code)
                done.append(each)
            except (ValueError, OSError) as exc:
                problems.append(f"{each.name}: {exc}")

    for problem in problems:
        fail(problem, 1)
    rows = collect(each.folder for each in headline(done))
    if not rows:
        raise FailedError("no run was measured")
    print(
        f"{num_new} runs measured, {len(done) - num_new} measured before ({FILE_NAME} in the "
        "folder of each run; python -m evaluate adds them to the report)"
    )
    print(f"accuracy in percent, mean over folds:\n{table(rows)}")
    reasons = dict.fromkeys(row["reason"] for row in rows if row["reason"])
    if reasons:
        print(f"-: {'; '.join(reasons)}")
    return 1 if problems else 0
