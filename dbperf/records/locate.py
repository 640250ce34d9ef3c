"""Where a field stands in a JSON text, so that an error can name the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    return _place(text, _offset(text, path))[0]


def place_of(data: bytes, path: Path) -> str:
    """Line and column, both from 1, at which the value at `path` starts, in words; see `line_of`.

    >>> place_of(b'{"a": 1,\\n "b": [\\n 2,\\n 3]}', ("b", 1))
    'line 4, column 2'
    """
    text = data.decode("utf-8", "replace")
    line, column = _place(text, _offset(text, path))
    return f"line {line}, column {column}"


def place_at(data: bytes, offset: int) -> str:
    """Line and column of a byte, in words; columns count characters.

    >>> place_at("ä\\nöb".encode(), 5)
    'line 2, column 2'
    """
    line, column = _place(data[:offset].decode("utf-8", "replace"), len(data))
    return f"line {line}, column {column}"


def second_of_its_name(data: bytes) -> tuple[str, str] | None:
    """The first key that an object holds twice, and where it stands the second time; None where there is none.

    >>> second_of_its_name(b'{"a": {"x": 1, "y": {}},\\n "b": [{"k": 1, "k": 2}]}')
    ('k', 'line 2, column 17')
    """
    text = data.decode("utf-8", "replace")
    found = _twice(text, 0)
    if found is None:
        return None
    line, column = _place(text, found[1])
    return found[0], f"line {line}, column {column}"


def _place(text: str, at: int) -> tuple[int, int]:
    at = min(at, len(text))
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def _offset(text: str, path: Path) -> int:
    at = 0
    for part in path:
        child = _child(text, at, part)
        if child is None:
            break
        at = child
    return _skip(text, at)


def _twice(text: str, at: int) -> tuple[str, int] | None:
    """The same as `second_of_its_name`, in the value at `at`."""
    at = _skip(text, at)
    if at >= len(text) or text[at] not in "{[":
        return None
    seen: set[str | int] = set()
    for key, key_at, value_at in _members(text, at):
        if key in seen:
            return str(key), key_at
        seen.add(key)
        if (found := _twice(text, value_at)) is not None:
            return found
    return None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r,:":
        at += 1
    return at


def _child(text: str, at: int, part: str | int) -> int | None:
    """The offset of one member of the object or array at `at`, or None."""
    return next((value_at for key, _, value_at in _members(text, at) if key == part), None)


def _members(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    """Key, its offset and the value's, of each member of the object or array at `at`, as far as they can be read."""
    scan = _scanner()
    at = _skip(text, at)
    if at >= len(text) or text[at] not in "{[":
        return
    is_object = text[at] == "{"
    at, index = _skip(text, at + 1), 0
    while at < len(text) and text[at] not in "}]":
        key: str | int = index
        key_at = at
        try:
            if is_object:
                key, at = scanstring(text, at + 1, False)
                at = _skip(text, at)
            yield key, key_at, at
            _, at = scan(text, at)
        except (StopIteration, ValueError):
            return
        at, index = _skip(text, at), index + 1


def _scanner() -> Any:
    return py_make_scanner(json.JSONDecoder(strict=False))
