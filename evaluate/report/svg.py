"""Matplotlib figures as SVG inside a page, with a description for screen readers."""

import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

# Figures are drawn in these colors, which the page replaces: one figure for light and dark.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
TEST, TRAIN, BEST, HEAT = "#010104", "#010105", "#010106", "#010107"
_SHOWN = {
    **{INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)"},
    **{TEST: "var(--accent)", TRAIN: "var(--train)", BEST: "var(--best)", HEAT: "var(--heat)"},
}


def inline(figure: Figure, slug: str, title: str, description: str) -> str:
    """A figure as an `svg` element; the same figure and words give the same text.

    Args:
        figure: the figure, drawn in the colors of this module on no background.
        slug: the start of every id: letters, digits, `-` and `_`, another one for each figure.
        title: what the figure is.
        description: what it shows, for those who cannot see it.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": slug}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", metadata=nothing)
    head, body = re.fullmatch(r".*?<svg([^>]*)>(.*)", drawn.getvalue(), re.DOTALL).groups()
    for pattern, replacement in (
        (r"<style.*?</style>", ""),  # would apply to the whole page
        (r">\s+<", "><"),
        (r'<g id="[^"]*"', "<g"),  # nothing refers to groups
        (r'( id="|url\(#)', rf"\g<1>{slug}-"),
        (r'xlink:href="#', f'href="#{slug}-'),
        (r"font-family: [^;\"]*;? ?", ""),  # the page has its own
        ("#01010[1-7]", lambda found: _SHOWN[found[0]]),
    ):
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    (view,) = re.findall(r'viewBox="[^"]*"', head)
    return (
        f'<svg {view} role="img" aria-labelledby="{slug}-title {slug}-description">'
        f'<title id="{slug}-title">{html.escape(title)}</title>'
        f'<desc id="{slug}-description">{html.escape(description)}</desc>{body}'
    )
