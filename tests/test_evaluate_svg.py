"""Figures inside the page: the page's colors, words, their own ids, the same bytes."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from fake_runs import make_run

from evaluate.report import plots
from evaluate.report.figures import compute

FIGURES = {
    "confusion": lambda: plots.confusion_figure(np.arange(64).reshape(8, 8).tolist()),
    "curves": lambda: plots.curves_figure([make_run(fold, 180) for fold in range(3)]),
    "overview": lambda: plots.overview_figure({"x": compute([make_run(0, 180)])}),
}


def inline(name: str) -> str:
    return plots.inline(FIGURES[name](), "one", "A title", "<What> it says")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_no_color_style_or_maker_of_its_own_and_the_same_bytes_again(name):
    text = inline(name)
    assert re.findall(r"#[0-9a-fA-F]{3,6}\b", re.sub(r'(href="#|url\(#)[^")]*', "", text)) == []
    assert "currentColor" in text
    assert "var(--accent)" in text or "var(--heat)" in text
    assert "<style" not in text
    assert "atplotlib" not in text
    assert inline(name) == text


def test_a_confusion_matrix_has_counts_and_the_percentage_of_the_row():
    counts = np.zeros((8, 8), dtype=int)
    counts[1, 1], counts[1, 5] = 30, 10
    figure = plots.confusion_figure(counts.tolist())
    root = ElementTree.fromstring(plots.inline(figure, "c", "t", "d"))
    texts = [each.text for each in root.iter("text")]
    assert {"30", "75 %", "10", "25 %"} <= set(texts)
    assert texts.count("0") == 62
    shades = [re.search(r"opacity: ([0-9.]*)", each.get("style", "")) for each in root.iter("path")]
    assert sorted(float(shade[1]) for shade in shades if shade) == pytest.approx([0.325, 0.775])
