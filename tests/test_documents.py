"""What the documents name exists; `.ci/documents.py` runs their commands."""

import importlib.util
import re

import pytest
from processes import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_targets_and_modules_exist(path):
    text = path.read_text()
    for file, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^):]+)\)", text)):
        linked = path.parent / file
        assert linked.exists(), file
        titles = re.findall(r"^#+ (.*)", linked.read_text(), re.MULTILINE) if heading else ()
        assert heading in {"", *(title.lower().replace(" ", "-") for title in titles)}
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in re.findall(r"(?:^|`)make ((?:[a-z0-9-]+ ?)+)", text, re.MULTILINE):
        assert {word for word in words.split() if word[0] != "-"} <= {*targets}, words
    for module in re.findall(r"python -m ((?:cache|preprocess|model|train|evaluate)[\w.]*)", text):
        assert importlib.util.find_spec(module), module


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1600
