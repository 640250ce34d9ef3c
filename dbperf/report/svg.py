"""Makes Vega's SVG fit to stand in the page: smaller, with the page's fonts, without ids, styles or scripts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

FONT_SIZE = 10
_NS = "http://www.w3.org/2000/svg"
_TAGS = {"svg", "g", "path", "line", "rect", "text", "circle", "tspan"}
_KEEP = {
    "d", "x", "y", "x1", "y1", "x2", "y2", "r", "cx", "cy", "width", "height", "transform", "viewBox", "fill", "stroke",
    "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "stroke-opacity", "text-anchor", "font-size",
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d{2,}")


def tidy(svg: str) -> str:
    """The picture with only the elements and attributes that it needs, numbers to one decimal place.

    Text of size 0 gets its size: Vega need not measure it. Left out are: `style` (the page's policy forbids it), ids
    (several pictures share a page), fonts (the page has its own), roles (the page describes the picture), invisible
    elements.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - Vega's own output, and entities are not in it
    _prune(root)
    _join_paths(root)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "aria-hidden": "true"}
    return ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{_NS}"', "")


def _prune(element: ElementTree.Element) -> None:
    element.tag = element.tag.removeprefix(f"{{{_NS}}}")
    element.tail = None
    for child in list(element):
        tag = child.tag.removeprefix(f"{{{_NS}}}")
        if tag not in _TAGS or child.get("display") == "none" or child.get("opacity") == "0":
            element.remove(child)
            continue
        invisible = tag == "path" and (child.get("class") in ("background", "foreground") or not child.get("d"))
        _prune(child)
        empty = len(child) == 0 and not (child.text or "").strip()
        if (tag in ("g", "text") and empty) or invisible:
            element.remove(child)
    element.attrib = {
        k: _NUMBER.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), v)
        for k, v in element.attrib.items()
        if k in _KEEP or k == "class"
    }
    if element.tag != "svg":
        element.attrib.pop("class", None)
    if element.get("font-size") == "0px":
        element.attrib["font-size"] = f"{FONT_SIZE}px"
    if element.get("opacity") == "1":
        del element.attrib["opacity"]


def _join_paths(element: ElementTree.Element) -> None:
    """Filled paths beside each other that look the same become one: a heat map has a thousand cells."""
    previous: ElementTree.Element | None = None
    for child in list(element):
        _join_paths(child)
        same = previous is not None and _look(previous) == _look(child)
        if previous is not None and same and child.tag == "path" and "stroke" not in child.attrib:
            previous.set("d", previous.attrib["d"] + child.attrib["d"])
            element.remove(child)
        else:
            previous = child


def _look(element: ElementTree.Element) -> tuple[str, dict[str, str]]:
    return element.tag, {k: v for k, v in element.attrib.items() if k != "d"}
