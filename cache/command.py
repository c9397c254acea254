"""How every command of this project takes its arguments, fails, and ends.

Exit status: 0 done; 1 done, but something failed; 2 wrong use or unusable input. An error is one
line on stderr that starts with `error:`, never a traceback.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable

from cache.ravdess import ACTORS

_OURS = {"cache", "preprocess", "model", "train", "evaluate", "benchmarks"}


class FailedError(Exception):
    """Work that was asked for correctly failed; the command ends with status 1."""


def run(work: Callable[[], int | None], *, extras: str = "") -> int:
    """Run a command and turn what it raises into one line and an exit status.

    Returns what `work` returns, or 0 for None; 2 for a ValueError or a missing package of `extras`,
    those of setup.cfg that the command needs; 1 for a `FailedError`, an OSError, an interrupt, or
    a closed output pipe.
    """
    try:
        status = work() or 0
        if sys.stdout is not None:  # it is None where a program starts without one
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in _OURS:
            raise
        return fail(f"{exc.name} is not installed: pip install '.[{extras}]'", 2)
    except ValueError as exc:
        return fail(exc, 2)
    except (FailedError, OSError) as exc:
        return fail(exc, 1)
    except KeyboardInterrupt:
        return fail("interrupted. Finished work is kept; run the same command again to resume", 1)


def fail(problem: object, status: int) -> int:
    """Print an error on stderr; returns `status`, to end with."""
    print(f"error: {problem}", file=sys.stderr)
    return status


def warn(problem: object) -> None:
    """Print a warning on stderr."""
    print(f"warning: {problem}", file=sys.stderr)


def printable(text: object) -> str:
    """Text that may contain anything, such as a file's name, safe to show on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def launch(module: str, extras: str) -> None:
    """Import a command's module and end the process with the status of its `main()`.

    Importing happens inside `run`, so a missing package is one line here too.
    """
    sys.exit(run(lambda: importlib.import_module(module).main(), extras=extras))


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add `--only ACTOR ...`: a list of actors, by default all."""
    only = f"only these actors, {ACTORS[0]}..{ACTORS[-1]} (default: all)"
    several = {"type": int, "choices": ACTORS, "nargs": "+", "default": list(ACTORS)}
    parser.add_argument("--only", metavar="ACTOR", help=only, **several)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device auto|cuda|cpu`."""
    device = "auto: GPU if available, else CPU (default: auto)"
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help=device)


def positive(text: str) -> int:
    """Parse a whole number of 1 or more, for `type=`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of 1 or more")
    return int(text)
