"""SVG files as parts of an HTML page."""

from __future__ import annotations

import html
import re

from agent.evaluation.figure_style import EDGE, FAINT, GREY, INK

# A page in the dark has light ink: colours that mean nothing become those of the page.
_PAGE_COLOURS = {INK: "var(--ink)", GREY: "var(--grey)", EDGE: "var(--edge)", FAINT: "var(--faint)"}
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inlined(svg: str, name: str, description: str) -> str:
    """The `svg` element of a file, ready to stand in a page beside others.

    Args:
        svg: as matplotlib writes it: what is between tags is escaped.
        name: prefix of its identifiers, different for each picture of the page.
        description: what a reader hears who does not see it; escaped here.
    """
    body = _LEFT_OUT.sub("", svg[svg.index("<svg") :])
    box = re.search(r'viewBox="[\d. ]+"', body)
    assert box is not None, body[:200]
    body = re.sub(r"<[^>]+>", lambda tag: _for_page(tag.group(), name), body)
    opening = f'<svg role="img" aria-label="{html.escape(description)}" {box.group()}>'
    return opening + re.sub(r"\s+", " ", body[body.index(">") + 1 :])


def _for_page(tag: str, name: str) -> str:
    """A tag with identifiers of its own, colours of the page, and coordinates to a hundredth of a point."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'(url\(|xlink:href=")#', rf"\1#{name}-", tag).replace("xlink:href", "href")
    for colour, variable in _PAGE_COLOURS.items():
        tag = tag.replace(colour, variable)
    tag = tag.replace("fill: #ffffff", "fill: none")
    return _LONG_NUMBER.sub(lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), tag)
