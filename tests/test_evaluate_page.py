"""The page for all its readers: its structure by the HTML alone, and as a browser has it."""

import json
import re
from itertools import pairwise

import browser
import pytest
from fake_runs import Tags, evaluate, make_run, origin_of, page_text, write, write_robustness

from evaluate.cli import main


@pytest.fixture(scope="module")
def pages(tmp_path_factory, fold_cache) -> dict[str, str]:
    """One model alone in one fold; and several, with faces, a fold outside, and all notices."""
    base = tmp_path_factory.mktemp("pages")
    write(base / "one", make_run(0, 180, model="unheard_of"))
    assert evaluate(base / "one", base / "out_one") == 0
    origin = origin_of(fold_cache)
    for model in ("cfn_sr", "msaf", "cfn_sr_no_residual"):
        write_robustness(write(base / "many", make_run(0, 180, model=model, cache=origin)), 0.75)
    public = {"audio": {"file": "public.pth", "sha256": "1" * 64, "run": None}}
    for fold in range(2):
        write(base / "many", make_run(fold, 150, model="mmtm", init=public, preset="tiny"))
    write(base / "many", make_run(5, 240, cache=origin))
    (write(base / "many", make_run(1, 240, cache=origin)) / "predictions.csv").unlink()
    arguments = ["--runs", base / "many", "--out", base / "out_many", "--cache", fold_cache]
    assert main(list(map(str, arguments))) == 1
    return {name: (base / f"out_{name}" / "report.html").read_text() for name in ("one", "many")}


@pytest.fixture(params=["one", "many"])
def page(request, pages) -> str:
    return pages[request.param]


def tags_of(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_headings_are_in_order_under_one_h1(page):
    levels = [int(name[1]) for name, _ in tags_of(page).seen if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(lower <= upper + 1 for upper, lower in pairwise(levels))


def test_every_picture_has_words(page):
    tags = tags_of(page)
    by_id = {attributes["id"]: name for name, attributes in tags.seen if "id" in attributes}
    pictures = [attributes for name, attributes in tags.seen if name == "svg"]
    assert pictures
    for attributes in pictures:
        assert attributes["role"] == "img"
        names = [by_id[each] for each in attributes["aria-labelledby"].split()]
        assert names == ["title", "desc"]
    for name, attributes in tags.seen:
        if name == "img":
            assert re.fullmatch(r"Face of actor \d+, acting \w+", attributes["alt"])


def test_every_table_has_a_caption_and_headers_with_a_scope(page):
    names = [name for name, _ in tags_of(page).seen]
    assert names.count("table") == names.count("caption") > 5
    after = [names[index + 1] for index, name in enumerate(names) if name == "table"]
    assert set(after) == {"caption"}
    scopes = [attributes.get("scope") for name, attributes in tags_of(page).seen if name == "th"]
    assert set(scopes) == {"row", "col"}


def test_ids_are_unique_and_all_references_lead_somewhere(page):
    seen = tags_of(page).seen
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
    seen = tags_of(page).seen
    assert not {name for name, _ in seen} & {"script", "link", "iframe", "object", "base", "embed"}
    for name, attributes in seen:
        assert not [key for key in attributes if key.startswith("on")], name
        assert attributes.get("src", "data:image/jpeg;base64,").startswith(
            "data:image/jpeg;base64,"
        )
        assert attributes.get("href", "#").startswith("#")
    assert re.findall(r"url\((?!#)|@import|https?://", page) == []


def test_what_scrolls_can_be_reached_by_keyboard(page):
    seen = tags_of(page).seen
    scrolling = [a for name, a in seen if a.get("class") == "scroll" or name == "pre"]
    assert len(scrolling) > 5
    assert {attributes.get("tabindex") for attributes in scrolling} == {"0"}
    (first, target), *_ = [(name, a.get("href")) for name, a in seen if name == "a"]
    assert (first, target) == ("a", "#main")


def test_parts_of_many_models_are_folded_but_for_the_main_one(pages):
    for name, opened in (("one", 1), ("many", 1)):
        parts = pages[name].split('id="each"')[1].split('id="settings"')[0]
        assert len(re.findall(r"<details open>", parts)) == opened
        headings = re.findall(r'<summary><h3 id="model-(\w+)"', parts)
        assert headings[0] == ("cfn_sr" if name == "many" else "unheard_of")
    assert len(headings) == 4


@pytest.mark.parametrize("scheme", [browser.LIGHT, browser.DARK], ids=["light", "dark"])
def test_axe_finds_nothing_in_either_colour_scheme(pages, scheme, tmp_path):
    found = browser.axe(pages["many"], tmp_path, scheme)
    assert found["violations"] == []
    assert found["dark"] == (scheme == browser.DARK)
    assert {"color-contrast", "svg-img-alt", "image-alt", "td-headers-attr"} <= set(
        found["checked"]
    )


def test_axe_finds_nothing_on_the_page_of_one_model(pages, tmp_path):
    assert browser.axe(pages["one"], tmp_path, browser.LIGHT)["violations"] == []


def test_the_browser_asks_for_nothing_and_says_nothing(pages, tmp_path):
    (tmp_path / "report.html").write_text(pages["many"])
    for scheme in (browser.LIGHT, browser.DARK):
        assert browser.requests_and_messages(tmp_path / "report.html", scheme) == ([], [])


def test_a_narrow_window_does_not_scroll_sideways(page, tmp_path):
    assert browser.width_of(page, tmp_path, 360) <= 360


def test_the_checks_in_the_browser_find_what_is_wrong(pages, tmp_path):
    wrong = '<img src="http://example.org/a.png"><p style="color: #ddd">faint</p>'
    broken = pages["one"].replace("</main>", f'{wrong}<p style="width: 50rem">wide</p></main>')
    (tmp_path / "report.html").write_text(broken)
    found = browser.axe(broken, tmp_path, browser.LIGHT)["violations"]
    assert [each.split(":")[0] for each in found] == ["color-contrast", "image-alt"]
    assert browser.width_of(broken, tmp_path, 360) > 700
    _, messages = browser.requests_and_messages(tmp_path / "report.html", browser.LIGHT)
    assert "Content Security Policy" in messages[0]
    free = broken.replace("default-src 'none'; img-src data:", "default-src *")
    (tmp_path / "report.html").write_text(free)
    asked, _ = browser.requests_and_messages(tmp_path / "report.html", browser.LIGHT)
    assert asked == ["http://example.org/a.png"]


def test_neutral_is_said_to_have_no_strong_intensity(tmp_path):
    write(tmp_path / "runs", make_run(0, 180))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "Neutral has no strong intensity in RAVDESS" in text
    # Of actors 1..4, each with 4 neutral clips, the first three are recognised.
    assert "recall, strong neutral 16 75.00 % not acted calm 16 75.00 % 16 75.00 % happy" in text


def test_the_interval_stands_beside_the_headline_with_what_it_covers(tmp_path):
    for fold in range(5):
        write(tmp_path / "runs", make_run(fold, 180))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert re.search(r"last epoch 75\.00 % 95 % interval 5\d\.\d\d % to 9\d\.\d\d %", text)
    assert "It does not say how it could move with another training" in text
    assert "With 20 actors such an interval is a little too narrow" in text


def test_one_actor_has_no_interval_and_the_page_says_why(tmp_path):
    folder = write(tmp_path / "runs", make_run(0, 60, test_actors=[1], test_clips=60))
    lines = (folder / "predictions.csv").read_text().splitlines()
    own = [line for line in lines[1:] if line.split(",")[0].endswith("-01")]
    (folder / "predictions.csv").write_text("\n".join([lines[0], *own]) + "\n")
    metrics = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(
        metrics.replace('"test_accuracy": 0.25', '"test_accuracy": 1.0')
    )
    assert evaluate(tmp_path / "runs", tmp_path / "out") == 0
    assert "No interval: fewer than two actors" in page_text(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["models"]["cfn_sr"]
    assert summary["accuracy_last"]["interval"] is None
    assert summary["accuracy_last"]["interval_note"].startswith("fewer than two actors")


def test_comparisons_say_how_many_are_made(tmp_path):
    for model, right in (("cfn_sr", 180), ("msaf", 150), ("mmtm", 170)):
        write(tmp_path / "runs", make_run(0, right, model=model))
    evaluate(tmp_path / "runs", tmp_path / "out")
    text = page_text(tmp_path / "out")
    assert "2 comparisons are made here, and p is adjusted for that number" in text
    assert "All 3 pairs are in comparisons.csv, adjusted for 3." in text
    assert re.search(r"msaf 62\.50 % \+12\.50 0\.00 to \+\d\d\.\d\d 30 0 < 0\.0001 < 0\.0001", text)
