"""Where a key of a TOML document is written: tomllib gives positions for syntax errors only."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"^\s*\[(\[)?\s*([^\]]+?)\s*\]")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (1-based) of ``("stages", 0, "users")``; of the nearest enclosing table where the key is not found."""
    lines = text.splitlines()
    table, index, key = _split(path)
    start = 0
    if table is not None:
        found = -1
        for number, line in enumerate(lines):
            if (m := _HEADER.match(line)) and _unquoted(m[2]) == table:
                found += 1
                start = number
                if not m[1] or found == index:
                    break
        else:
            if found < 0:
                key, start = table, 0
    if key is None:
        return start + 1
    pattern = re.compile(rf"""^\s*["']?{re.escape(key)}["']?\s*[=.]""")
    for number in range(start, len(lines)):
        if number > start and _HEADER.match(lines[number]):
            break
        if pattern.match(lines[number]):
            return number + 1
    return start + 1


def _split(path: Sequence[str | int]) -> tuple[str | None, int, str | None]:
    """The table's name, its index in an array of tables, and the key in it."""
    if not path:
        return None, 0, None
    if len(path) == 1:
        return None, 0, str(path[0])
    if isinstance(path[1], int):
        return str(path[0]), path[1], str(path[2]) if len(path) > 2 else None
    return str(path[0]), 0, str(path[1])


def _unquoted(name: str) -> str:
    return name.strip().strip("\"'")
