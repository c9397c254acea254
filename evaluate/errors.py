"""How the commands here say that they failed."""

import sys


def fail(problem: object, status: int) -> int:
    """Say in one line on standard error what is wrong; the status to end with."""
    print(f"error: {problem}", file=sys.stderr)
    return status
