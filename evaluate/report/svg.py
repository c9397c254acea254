"""Matplotlib figures as SVG to stand in a page: its colours, words for those who cannot see."""

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# Drawn with these, shown with the page's: one figure for light and for dark.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
TEST, TRAIN, BEST, HEAT = "#010104", "#010105", "#010106", "#010107"
_SHOWN = {
    **{INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)"},
    **{TEST: "var(--accent)", TRAIN: "var(--train)", BEST: "var(--best)", HEAT: "var(--heat)"},
}

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
_PIXELS_PER_INCH = 96  # of CSS


def inline(figure: Figure, slug: str, title: str, description: str) -> str:
    """A figure as an `svg` element; the same figure and words give the same text.

    Args:
        figure: drawn with the colours of this module, on no background.
        slug: of letters, digits, `-` and `_`; starts every id, so that no two figures of a page
            share one.
        title: what the figure is.
        description: what it says, for those who cannot see it.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": slug}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(drawn.getvalue())
    _drop(root)
    _rename(root, slug)
    for element in root.iter():
        # In a page the elements need no namespace.
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if "style" in element.attrib:
            element.set("style", _restyled(element.get("style")))
    for name in ("width", "height", "version"):
        del root.attrib[name]
    root.set("role", "img")
    root.set("aria-labelledby", f"{slug}-title {slug}-description")
    for place, (tag, words) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag)
        element.set("id", f"{slug}-{'title' if tag == 'title' else 'description'}")
        element.text = words
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def width_px(figure: Figure) -> int:
    """The width in CSS pixels at which a figure's text has its intended size."""
    return round(_PIXELS_PER_INCH * figure.get_figwidth())


def _drop(root: ElementTree.Element) -> None:
    """Remove what says who drew it, and the style sheet, which would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
            child.tail = None
        if not (parent.text or "").strip():
            parent.text = None


def _rename(root: ElementTree.Element, slug: str) -> None:
    """Keep the ids that something refers to, with the slug before them."""
    used = set()
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == _HREF:
                used.add(value.removeprefix("#"))
                del element.attrib[name]
                element.set("href", f"#{slug}-{value.removeprefix('#')}")
            elif value.startswith("url(#"):
                used.add(value[5:-1])
                element.set(name, f"url(#{slug}-{value[5:]}")
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in used:
            element.set("id", f"{slug}-{identifier}")


def _restyled(style: str) -> str:
    """A style with the page's colours, and without a font of its own."""
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    return re.sub("#01010[1-7]", lambda found: _SHOWN[found[0]], style)
