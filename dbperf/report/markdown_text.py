"""Pieces of Markdown: sections whose rows may be left out, and foreign text made harmless."""

from __future__ import annotations

import re

from dbperf.records.base import Record
from dbperf.report.text import visible

_BACKTICKS = re.compile(r"`+")


class Section(Record, frozen=True, kw_only=True):
    """A part of the text whose rows can be left out, from the end."""

    importance: int
    """The lowest loses rows first."""
    head: list[str]
    rows: list[str]
    what: str
    """What a row is, in the plural."""


def code(text: str) -> str:
    """A code span for foreign text, also inside a table.

    The fence is longer than any run of backticks in the text (CommonMark 6.1); a pipe is escaped, since GitHub splits
    table cells before it reads code spans.

    >>> code("a | b `c`")
    '`` a \\\\| b `c` ``'
    """
    line = " ".join(visible(text).split()).replace("|", "\\|")
    if not line:
        return "` `"
    longest = max((len(m) for m in _BACKTICKS.findall(line)), default=0)
    if not longest:
        return f"`{line}`"
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"


def prose(text: str) -> str:
    """Our own sentence with foreign words in it: markup characters are escaped, mentions broken.

    >>> prose("*a* <b> @c")
    '\\\\*a\\\\* &lt;b&gt; @\\u200bc'
    """
    line = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]{}|#!])", r"\\\1", line).replace("@", "@\u200b")
