"""Command-line arguments that several commands take."""

import argparse

from cache.ravdess import ACTORS


def add_only(parser: argparse.ArgumentParser, does: str = "1..24 (default: all)") -> None:
    """Add `--only ACTOR ...`: a list of actors, all if not given."""
    parser.add_argument(
        "--only",
        type=int,
        choices=ACTORS,
        nargs="+",
        default=list(ACTORS),
        metavar="ACTOR",
        help=does,
    )


def positive(text: str) -> int:
    """A whole number of 1 or more, for `type=`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of 1 or more")
    return int(text)
