"""How every command of this project takes its arguments, fails, and ends.

Exit status: 0 done; 1 done, but something failed; 2 wrong use or unusable input. An expected error
is one line on stderr that starts with `error:`; only a bug of the program shows a traceback.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cache.ravdess import ACTORS

_OURS = {"cache", "preprocess", "model", "train", "evaluate", "benchmarks"}


class FailedError(Exception):
    """Work that was asked for correctly failed; the command ends with status 1."""


class Messages:
    """A stream of text for people. What cannot be shown is dropped, and never ends the work.

    `stream` is the text stream, or None where a program starts without one, or after text was lost.
    `problem` is why, unless the reader closed the stream, as `head` does.
    """

    def __init__(self, stream: TextIO | None):
        self.stream, self.problem = stream, None

    def write(self, text: str) -> int:
        """Write a text, or all of it in ASCII with escapes if the stream's encoding lacks a letter.

        Returns the length of the text, whatever was shown.
        """
        try:
            if self.stream is not None:
                self.stream.write(text)
        except UnicodeEncodeError:
            ascii_only = text.encode("ascii", "backslashreplace").decode("ascii")
            return self.write(ascii_only)
        except (OSError, ValueError) as exc:  # ValueError: it was closed meanwhile
            self._drop(exc)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError) as exc:
            self._drop(exc)

    def _drop(self, exc: Exception) -> None:
        if getattr(exc, "errno", None) not in (errno.EPIPE, errno.EIO, errno.EBADF):
            self.problem = exc
        # When it ends, Python would try to write the rest, and fail again.
        discard(self.stream)
        self.stream = None

    def __getattr__(self, name: str) -> Any:  # `encoding`, `isatty`: what else a stream has
        return getattr(self.stream, name)


def discard(stream: TextIO) -> None:
    """Let the rest of a stream that cannot be written go nowhere."""
    with suppress(OSError, ValueError):  # it has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(work: Callable[[], int | None], *, extras: str = "") -> int:
    """Run a command and turn what it raises into one line and an exit status.

    Returns what `work` returns, or 0 for None; 2 for a ValueError or a missing package of `extras`,
    those of setup.cfg that the command needs; 1 for a `FailedError`, an OSError (without a message
    if the reader of `results` closed the pipe), an interrupt, or too little memory. Lost text on
    standard output makes 0 to 1, unless its reader had enough.
    """
    with _messages():
        status = _status_of(work, extras)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if sys.stdout.problem is not None:
            return fail(f"standard output: {sys.stdout.problem}", status or 1)
    return status


def _status_of(work: Callable[[], int | None], extras: str) -> int:
    try:
        return work() or 0
    except SystemExit as exc:  # of argparse; it would end a notebook's cell
        return exc.code
    except BrokenPipeError:  # the reader of results has closed the pipe
        return 1
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in _OURS:
            raise
        return fail(f"{exc.name} is not installed: pip install '.[{extras}]'", 2)
    except ValueError as exc:
        return fail(exc, 2)
    except (FailedError, OSError) as exc:
        return fail(exc, 1)
    except MemoryError:
        return fail("out of memory. Close other programs, or use a machine with more memory", 1)
    except KeyboardInterrupt:
        return fail("interrupted. Finished work is kept; run the same command again to resume", 1)


@contextmanager
def _messages() -> Iterator[None]:
    """Make standard output and standard error `Messages` for a while."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        each if isinstance(each, Messages) else Messages(each) for each in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def results() -> TextIO:
    """Standard output for results that a program reads: writing to it may raise OSError.

    ValueError if it is closed.
    """
    stream = sys.stdout.stream if isinstance(sys.stdout, Messages) else sys.stdout
    if stream is None:
        raise ValueError("standard output is closed, so the results cannot be written")
    return stream


def fail(problem: object, status: int) -> int:
    """Print an error on stderr; returns `status`, to end with."""
    print(f"error: {problem}", file=sys.stderr)
    if "--" in str(problem) and (note := os.environ.get("CFNSR_NOTE_ON_FLAGS")):  # by the Makefile
        print(f"note: {note}", file=sys.stderr)
    return status


def warn(problem: object) -> None:
    """Print a warning on stderr."""
    print(f"warning: {problem}", file=sys.stderr)


def printable(text: object) -> str:
    """Text such as a file's name, safe to show on a terminal: control characters become `?`."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def launch(module: str, extras: str) -> None:
    """Import a command's module and end the process with the status of its `main()`.

    Importing happens inside `run`, so a missing package is one line here too.
    """
    sys.exit(run(lambda: importlib.import_module(module).main(), extras=extras))


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add `--only ACTOR ...`: a list of numbers of actors, by default all."""
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
