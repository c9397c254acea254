"""Skips these tests without a GPU, and prints what they measured as one table."""

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
_ROWS: list[tuple[str, str, str]] = []


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture
def row():
    """Adds a row to the table: what was measured, the figure, and what was expected."""
    return lambda what, figure, expected="": _ROWS.append((what, str(figure), expected))


def pytest_terminal_summary(terminalreporter):
    if not _ROWS:
        return
    terminalreporter.section(f"measured on {torch.cuda.get_device_name()}")
    widths = [max(map(len, column)) for column in zip(*_ROWS, strict=True)]
    for cells in _ROWS:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
