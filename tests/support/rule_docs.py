"""The examples of docs/rules.md, which are the tests of the rules: what is documented is what is known to work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs" / "rules.md"
_SECTION = re.compile(r"^### (?P<id>[a-z0-9-]+)\n(?P<text>.*?)^```sql\n(?P<sql>.*?)^```", re.DOTALL | re.MULTILINE)
_HELD = re.compile(r"^-- held for (?P<ms>\d+) ms: (?P<sql>.*)$", re.MULTILINE)
_THRESHOLDS = re.compile(r"^-- thresholds: (?P<pairs>.*)$", re.MULTILINE)


class Example(NamedTuple):
    rule_id: str
    text: str
    prepare: str
    statement: str
    held: str | None = None
    """A statement that another session has executed and not yet committed."""
    held_ms: int = 0
    thresholds: dict[str, float] = {}  # noqa: RUF012 - never changed


def examples() -> dict[str, Example]:
    """By rule id, in the order of the document."""
    found = {}
    for m in _SECTION.finditer(DOCS.read_text()):
        prepare, _, statement = m["sql"].partition("-- explain\n")
        held, thresholds = _HELD.search(prepare), _THRESHOLDS.search(prepare)
        found[m["id"]] = Example(
            m["id"],
            m["text"],
            prepare,
            statement.strip().rstrip(";"),
            held["sql"] if held else None,
            int(held["ms"]) if held else 0,
            {k: float(v) for k, v in (p.split("=") for p in thresholds["pairs"].split())} if thresholds else {},
        )
    return found
