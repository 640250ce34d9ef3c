"""Takes the table off that psql draws around EXPLAIN: borders 0 to 2, ASCII and Unicode lines, wrapped format, CSV."""

from __future__ import annotations

import csv
import re
import unicodedata
from typing import NamedTuple

_BARS = "|│║"
_DASHES = re.compile(r"(?P<left>\s*[+├╞╟╠╔┌]?)(?P<dashes>[-─═]{3,})[+┤╡╢╣╗┐]?\s*$")
_TITLE = re.compile(rf"\s*[{_BARS}]?\s*QUERY PLAN\s*[{_BARS}]?\s*$")
_FOOTER = re.compile(r"\(\d+ [^()]{1,12}\)\s*$")  # "(7 rows)", in psql's language
_WRAP = (".", "…")
_NEWLINE = ("+", "↵", ":", ";")


class Line(NamedTuple):
    number: int
    """In the text that was given, from 1."""
    text: str


class _Shape(NamedTuple):
    border: int
    width: int
    """Columns of the cell, without the margin on each side."""


def psql_table(lines: list[str]) -> list[Line]:
    """The lines with their numbers; where there is a table of psql, what its cells hold."""
    if (cells := _csv(lines)) is not None:
        return cells
    found: list[Line] = []
    shape: _Shape | None = None
    wrapped = False
    for number, line in enumerate(lines, 1):
        if _FOOTER.match(line):
            shape = None
        if _TITLE.match(line):
            shape, wrapped = _shape(lines, number), False
        if shape is None or not line.strip() or _DASHES.match(line) or _TITLE.match(line):
            found.append(Line(number, line))
            continue
        text, mark = _cell(line, shape)
        if wrapped and found:
            found[-1] = Line(found[-1].number, found[-1].text + text)
        else:
            found.append(Line(number, text))
        wrapped = mark in _WRAP
    return found


def _shape(lines: list[str], title: int) -> _Shape | None:
    """Border and width, from the rule below the title (line number from 1)."""
    if title >= len(lines) or (m := _DASHES.match(lines[title])) is None:
        return None
    if title + 1 < len(lines) and _DASHES.match(lines[title + 1]):
        return None  # a terminal broke the rule, and every other line: see text_lines
    dashes = len(m["dashes"])
    if m["left"].strip():
        return _Shape(2, dashes - 2)
    # Border 1 draws the margins as dashes too; border 0 has none, and then the title's own line is no wider.
    margin = lines[title - 1][:1] == " " and any(x[:1] in (" ", ".", "…") for x in lines[title + 1 : title + 2])
    return _Shape(1, dashes - 2) if margin and _fits(lines, title, dashes) else _Shape(0, dashes)


def _fits(lines: list[str], title: int, dashes: int) -> bool:
    """Whether every line up to the end of the table has the left margin of border 1."""
    for line in lines[title + 1 :]:
        if not line.strip() or _FOOTER.match(line):
            break
        if line[0] not in " .…" or _columns(line.rstrip()) > dashes:
            return False
    return True


def _cell(line: str, shape: _Shape) -> tuple[str, str]:
    """What a line of the table holds, and the mark at its right edge."""
    if shape.border == 2:
        body = line.strip()
        if body[:1] not in _BARS:
            return line, ""
        body = body[2:]
    else:
        body = line[1:] if shape.border == 1 else line
    at = _index(body, shape.width)
    text, mark = body[:at], body[at : at + 1]
    if mark in _WRAP and len(text) == at:
        return text, mark
    if mark and mark not in _NEWLINE and mark not in f" {_BARS}":
        return body, ""  # edited by hand: the table's geometry does not hold
    return text.rstrip(), mark


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _index(text: str, width: int) -> int:
    """How many characters fill `width` columns of a terminal."""
    if text.isascii():
        return width
    used = 0
    for i, c in enumerate(text):
        if used >= width:
            return i
        used += _columns(c)
    return max(len(text), width)


def _csv(lines: list[str]) -> list[Line] | None:
    """psql --csv: a title, and rows of one column in which quotes are doubled."""
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines[start] != "QUERY PLAN" or len(lines) < start + 2 or _DASHES.match(lines[start + 1]):
        return None
    if not any(line.startswith('"') for line in lines[start + 1 :]):
        return None
    found: list[Line] = []
    reader = csv.reader((line + "\n" for line in lines[start + 1 :]), strict=True)
    try:
        for row in reader:
            if len(row) > 1:
                return None
            number = start + 1 + reader.line_num
            found += [Line(number, text) for cell in row for text in cell.split("\n")]
    except csv.Error:
        return None
    return found
