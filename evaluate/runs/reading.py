"""Read files that others wrote: text, JSON objects, and what was found where it is wrong."""

import json
from pathlib import Path
from typing import Any

_PROBLEMS_SHOWN = 5  # of one file; a shifted column would else give hundreds


def read_text(path: Path, problems: list[str]) -> str | None:
    """A file's text, or None and a problem."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing. Remove the run and train it again")
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{path.name} cannot be read as UTF-8 text: {_reason(exc)}")
    return None


def parse_object(text: str, where: str, problems: list[str]) -> dict[str, Any] | None:
    """The JSON object in `text`, or None and a problem."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as exc:
        problems.append(f"{where} is not JSON: {exc}. Remove the run and train it again")
        return None
    if not isinstance(parsed, dict):
        problems.append(f"{where} is {shown(parsed)}, expected a JSON object")
        return None
    return parsed


def is_text(value: Any) -> bool:
    # Printable, because it goes into the report: no line breaks, no lone surrogates.
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: Any) -> bool:
    # The bounds keep out NaN, infinity, and whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def first(problems: list[str], file: str) -> list[str]:
    """The first few problems of a file, and how many more there are."""
    hidden = len(problems) - _PROBLEMS_SHOWN
    more = [f"{file}: {hidden} more like these"] if hidden > 0 else []
    return problems[:_PROBLEMS_SHOWN] + more


def shown(value: Any) -> str:
    """A found value, safe to print, cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown_name(folder: Path) -> str:
    """`cfn_sr/fold_0`; quoted and escaped if the name has characters that do not print."""
    name = f"{folder.parent.name}/{folder.name}"
    return name if name.isprintable() else ascii(name)


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    # Not str(exc): that of an OSError holds the absolute path, and reports are passed on.
    return (exc.strerror if isinstance(exc, OSError) else exc.reason) or type(exc).__name__
