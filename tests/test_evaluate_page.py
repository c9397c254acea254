"""The page for all its readers: its structure in the HTML, and as a browser shows it."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import browser
import numpy as np
import pytest
from fake_runs import Tags, evaluate, make_run, origin_of, start, write, write_robustness

from evaluate.report import plots


@pytest.fixture(scope="module")
def pages(tmp_path_factory, fold_cache) -> dict[str, str]:
    """One model in one fold; and several, with faces, a fold outside the mean, and all notices."""
    base = tmp_path_factory.mktemp("pages")
    write(base / "one", make_run(0, 180, model="unheard_of"))
    assert evaluate(base / "one", base / "out_one") == 0
    cache = origin_of(fold_cache)
    for model in ("cfn_sr", "msaf", "cfn_sr_no_residual"):
        write_robustness(write(base / "many", make_run(0, 180, model=model, cache=cache)), 0.75)
    public = {"audio": start()}
    for fold in range(2):
        write(base / "many", make_run(fold, 150, model="mmtm", init=public, preset="tiny"))
    write(base / "many", make_run(5, 240, cache=cache))
    (write(base / "many", make_run(1, 240, cache=cache)) / "predictions.csv").unlink()
    assert evaluate(base / "many", base / "out_many", "--cache", fold_cache) == 1
    return {name: (base / f"out_{name}" / "report.html").read_text() for name in ("one", "many")}


@pytest.fixture(params=["one", "many"])
def page(request, pages) -> str:
    return pages[request.param]


def test_headings_are_in_order_under_one_h1_and_the_navigation_names_them(page):
    levels = [int(name[1]) for name, _ in Tags(page).seen if re.fullmatch("h[1-6]", name)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(lower <= upper + 1 for upper, lower in pairwise(levels))
    text = {
        identifier: " ".join("".join(Tags(heading).text).split())
        for identifier, heading in re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page)
    }
    links = re.findall(r'<a href="#([\w-]+)">(.*?)</a>', page.split("<nav")[1].split("</nav>")[0])
    assert [identifier for identifier, _ in links] == list(text)
    assert all(text[identifier].startswith(name) for identifier, name in links)


def test_pictures_have_words_and_tables_a_caption_and_headers_with_a_scope(page):
    seen = Tags(page).seen
    by_id = {attributes.get("id"): name for name, attributes in seen}
    names = [name for name, _ in seen]
    assert names.count("svg") > 1
    for name, attributes in seen:
        if name == "svg":
            assert attributes["role"] == "img"
            labels = [by_id[each] for each in attributes["aria-labelledby"].split()]
            assert labels == ["title", "desc"]
        elif name == "img":
            assert re.fullmatch(r"Face of actor \d+, acting \w+", attributes["alt"])
        elif name == "th":
            assert attributes["scope"] in ("row", "col")
    assert names.count("table") == names.count("caption") > 5
    assert {names[index + 1] for index, name in enumerate(names) if name == "table"} == {"caption"}


def test_figures_have_the_colors_of_the_page_and_no_style_or_maker_of_their_own(page):
    figures = re.findall("<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) > 1
    for text in figures:
        own = re.sub(r'(href="#|url\(#)[^")]*', "", text)
        assert re.findall(r"#[0-9a-fA-F]{3,6}\b|<style|atplotlib", own) == []
        assert "currentColor" in text
        assert "var(--accent)" in text or "var(--heat)" in text


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


def test_ids_are_unique_and_all_references_lead_somewhere(page):
    seen = Tags(page).seen
    ids = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {
        identifier
        for _, attributes in seen
        for name in ("aria-labelledby", "href")
        for identifier in attributes.get(name, "").split()
    }
    assert {identifier.removeprefix("#") for identifier in wanted} <= set(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


def test_nothing_is_loaded_and_nothing_runs(page):
    seen = Tags(page).seen
    assert not {name for name, _ in seen} & {"script", "link", "iframe", "object", "base", "embed"}
    for name, attributes in seen:
        assert not [key for key in attributes if key.startswith("on") or key == "srcset"], name
        assert attributes.get("src", "data:image/jpeg;").startswith("data:image/jpeg;")
        assert attributes.get("href", "#").startswith("#")
    assert re.findall(r"url\((?!#)|@import|https?://", page) == []


def test_what_scrolls_can_be_reached_by_keyboard(page):
    seen = Tags(page).seen
    scrolling = [a for name, a in seen if a.get("class") == "scroll" or name == "pre"]
    assert len(scrolling) > 5
    assert {attributes.get("tabindex") for attributes in scrolling} == {"0"}
    assert next(a["href"] for name, a in seen if name == "a") == "#main"


def test_of_many_models_only_the_main_one_is_unfolded_and_comes_first(pages):
    for name, first, count in (("one", "unheard_of", 1), ("many", "cfn_sr", 4)):
        parts = pages[name].split('id="each"')[1].split('id="settings"')[0]
        assert parts.count("<details open>") == 1
        headings = re.findall(r'<summary><h3 id="model-(\w+)"', parts)
        assert (headings[0], len(headings)) == (first, count)


@pytest.mark.parametrize("scheme", [browser.LIGHT, browser.DARK], ids=["light", "dark"])
def test_axe_finds_nothing_in_either_color_scheme(page, scheme, tmp_path):
    found = browser.axe(page, tmp_path, scheme)
    assert found["violations"] == []
    assert found["dark"] == (scheme == browser.DARK)
    assert {"color-contrast", "svg-img-alt", "td-headers-attr"} <= set(found["checked"])


def test_a_narrow_window_does_not_scroll_sideways_and_shows_shadows_where_tables_do(page, tmp_path):
    widths = """[page.documentElement.scrollWidth, ...new Set([...page.querySelectorAll(".scroll")]
      .filter(box => box.scrollWidth > box.clientWidth)
      .map(box => page.defaultView.getComputedStyle(box).backgroundAttachment))]"""
    width, *shadows = browser.measured(page, tmp_path, 390, widths)
    assert width <= 390
    assert shadows == ["local, local, scroll, scroll"]
