"""`python -m train.sweep FILE --seeds 0 1 2`: one command line of train.py per run.

FILE has one setting per line, a name and arguments of train.py. The arguments of `all`, on the
first line, go before those of each setting; {fold} and {seed} are replaced by those of the run.
docs/training.md has an example.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from cache.command import run
from train.cli import make_parser

_COMMAND = (sys.executable, str(Path(__file__).absolute().parent.parent / "train.py"))
_LINE = re.compile(r"([\w.-]*\w):(.*)", re.ASCII)
_OF_RUNS = ("--fold", "--seed", "--runs", "--resume")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the command lines: all settings of the first seed, then those of the next."""
    parser = argparse.ArgumentParser(
        "python -m train.sweep", description="Print one command line of train.py per run."
    )
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="lines of `name: arguments of train.py`")
    add("--folds", type=int, nargs="+", default=range(5), metavar="K", help="(default: 0 1 2 3 4)")
    add("--seeds", type=int, nargs="+", default=[0], metavar="S", help="(default: 0)")
    runs = "runs are written to DIR/<name>/seed_<s> (default: runs)"
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help=runs)
    args = parser.parse_args(argv)
    return run(lambda: print("\n".join(_commands(args))))


def _commands(args: argparse.Namespace) -> list[str]:
    lines, settings = [], read_settings(args.file).items()
    for seed, (name, arguments), fold in product(args.seeds, settings, args.folds):
        typed = [a.replace("{fold}", f"{fold}").replace("{seed}", f"{seed}") for a in arguments]
        typed += ["--fold", f"{fold}", "--seed", f"{seed}", "--resume"]
        typed += ["--runs", str(args.runs / name / f"seed_{seed}")]
        make_parser().parse_args(typed)  # ends here if train.py would refuse it
        lines.append(shlex.join([*_COMMAND, *typed]))
    return lines


def read_settings(path: Path) -> dict[str, list[str]]:
    """The arguments of each setting by its name; ValueError if a line is not a setting."""
    settings: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        place = f"{path}, line {number}: {line!r:.80}"
        found = _LINE.fullmatch(line)
        if not found or found[1] in settings or (found[1] == "all" and settings):
            raise ValueError(
                f"{place}: expected `name: arguments of train.py`, each name once, `all` first"
            )
        try:
            arguments = shlex.split(found[2], comments=True)
        except ValueError as exc:
            raise ValueError(f"{place}: {exc}") from exc
        if taken := [each for each in arguments if each.split("=")[0] in _OF_RUNS]:
            raise ValueError(f"{place}: contains {taken[0]}, which is set for each run. Remove it")
        settings[found[1]] = arguments
    common = settings.pop("all", [])
    if not settings:
        raise ValueError(f"{path} has no setting, expected lines `name: arguments of train.py`")
    return {name: common + arguments for name, arguments in settings.items()}


if __name__ == "__main__":
    sys.exit(main())
