"""Where a field stands in a JSON text, so that an error can name the line."""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]  # undocumented, as py_make_scanner below
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # undocumented, but stable since Python 3.2
from typing import Any

Path = tuple[str | int, ...]


def line_of(data: bytes, path: Path) -> int:
    """The 1-based line on which the value at `path` starts; the nearest existing parent's line where it is missing.

    >>> line_of(b'{"a": 1,\\n "b": [\\n 2,\\n 3]}', ("b", 1))
    4
    """
    text = data.decode("utf-8", "replace")
    at = 0
    for part in path:
        child = _child(text, at, part)
        if child is None:
            break
        at = child
    return text.count("\n", 0, _skip(text, at)) + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r,:":
        at += 1
    return at


def _child(text: str, at: int, part: str | int) -> int | None:
    """The offset of one member of the object or array at `at`, or None."""
    scan = _scanner()
    at = _skip(text, at)
    if at >= len(text) or text[at] not in "{[":
        return None
    is_object = text[at] == "{"
    at, index = _skip(text, at + 1), 0
    while at < len(text) and text[at] not in "}]":
        key: str | int = index
        try:
            if is_object:
                key, at = scanstring(text, at + 1, False)
                at = _skip(text, at)
            if key == part:
                return at
            _, at = scan(text, at)
        except (StopIteration, ValueError):
            return None
        at, index = _skip(text, at), index + 1
    return None


def _scanner() -> Any:
    return py_make_scanner(json.JSONDecoder(strict=False))
