"""`python -m train.sweep FILE --folds 0 1 --seeds 0 1`: one command line of train.py per run.

The file names one setting per line, with arguments of train.py; those of `all`, which is first if
it is there, go before those of every setting:

    all: --cache data/ravdess-cache --model audio_mfcc_cnn --recipe modern --validate
    base:
    lr_2e-3: --lr 2e-3  # a comment
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cache.command import run
from train.cli import make_parser

_COMMAND = [sys.executable, str(Path(__file__).absolute().parent.parent / "train.py")]
_LINE = re.compile(r"([\w.-]*\w):(.*)", re.ASCII)
_OURS = ("--fold", "--seed", "--runs", "--resume")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the command lines: all settings of the first seed, then those of the next."""
    parser = argparse.ArgumentParser(
        prog="python -m train.sweep",
        description="Print one command line of train.py per setting, fold and seed.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="one `name: arguments of train.py` per line")
    add("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="K", help="(0 1 2 3 4)")
    add("--seeds", type=int, nargs="+", default=[0], metavar="S", help="(0)")
    runs = "output folder: runs are written to DIR/<name>/seed_<s> (runs)"
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help=runs)
    args = parser.parse_args(argv)
    return run(lambda: _print_commands(args))


def _print_commands(args: argparse.Namespace) -> None:
    settings = read_settings(args.file)
    for seed in args.seeds:
        for name, arguments in settings.items():
            for fold in args.folds:
                own = ["--runs", str(args.runs / name / f"seed_{seed}"), "--resume"]
                own += ["--fold", str(fold), "--seed", str(seed)]
                typed = [
                    each.replace("{fold}", str(fold)).replace("{seed}", str(seed))
                    for each in arguments
                ]
                make_parser().parse_args([*typed, *own])  # ends here if train.py would refuse it
                print(shlex.join([*_COMMAND, *typed, *own]))


def read_settings(path: Path) -> dict[str, list[str]]:
    """The arguments of each setting by its name.

    Raises:
        ValueError: if a line is not `name: arguments`, or there is no setting.
    """
    settings: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if not found or found[1] in settings or (found[1] == "all" and settings):
            raise ValueError(
                f"{path}, line {number}: {line!r:.80}, expected `name: arguments of train.py`, "
                "each name once, and `all` only on the first line"
            )
        try:
            arguments = shlex.split(found[2], comments=True)
        except ValueError as exc:
            raise ValueError(f"{path}, line {number}: {line!r:.80}: {exc}") from exc
        taken = [each for each in arguments if each.split("=")[0] in _OURS]
        if taken:
            raise ValueError(
                f"{path}, line {number}: has {taken[0]}, which is set for each run. Remove it"
            )
        settings[found[1]] = arguments
    common = settings.pop("all", [])
    if not settings:
        raise ValueError(f"{path} has no setting, expected lines `name: arguments of train.py`")
    return {name: common + arguments for name, arguments in settings.items()}


if __name__ == "__main__":
    sys.exit(main())
