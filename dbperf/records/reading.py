"""Reads files that other programs wrote: what is wrong in one is named with file, line and column."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbperf.errors import RecordError
from dbperf.records.locate import place_at, second_of_its_name

Where = str | Callable[[], str]
"""File, line and column; a function where finding them takes time that only an error is worth."""
_EDITED = "the file is truncated or was edited"


def said(where: Where) -> str:
    return where if isinstance(where, str) else where()


def number(text: object, where: Where) -> float:
    """A finite number that is not negative.

    Raises:
        RecordError: it is none; `where` names file, line and column.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise RecordError(f"{said(where)}: {text!r} is not a number")
    try:
        value = float(text)
    except ValueError:
        hint = "the decimal sign must be a point" if isinstance(text, str) and "," in text else None
        raise RecordError(f"{said(where)}: {text!r} is not a number", hint=hint) from None
    except OverflowError:
        raise RecordError(f"{said(where)}: a number of {len(str(text))} digits is not a figure") from None
    if not math.isfinite(value):
        raise RecordError(f"{said(where)}: {text!r} is not a finite number")
    if value < 0:
        raise RecordError(f"{said(where)}: {text!r} is negative", hint="the clock was set back, or the file was edited")
    return value


def count(text: object, where: Where) -> int:
    """A whole number that is not negative.

    Raises:
        RecordError: it is none.
    """
    value = number(text, where)
    if value != int(value):
        raise RecordError(f"{said(where)}: {text!r} is not a whole number")
    return int(value)


def read_csv(path: Path, needed: tuple[str, ...], *, hint: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, by column, with their line numbers.

    Args:
        needed: columns that must be there.
        hint: where such a file comes from, for whoever has another one.

    Raises:
        RecordError: it can't be read, is cut off, or lacks a column.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except UnicodeDecodeError as e:
        raise RecordError(f"{path}, {place_at(data, e.start)}: not UTF-8") from e
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    reader = csv.reader(io.StringIO(text), strict=True)
    found: list[tuple[int, dict[str, str]]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = _checked_header(path, cells, needed, hint)
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                raise RecordError(
                    f"{path}, line {reader.line_num}, column {min(len(cells), len(header)) + 1}: {len(cells)} columns "
                    f"where the header has {len(header)}", hint=_EDITED,
                )  # fmt: skip
            found.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as e:
        raise RecordError(f"{path}, line {reader.line_num}: {e}", hint=_EDITED) from e
    if not header:
        raise RecordError(f"{path}, line 1: the file is empty")
    return found


def _checked_header(path: Path, cells: list[str], needed: tuple[str, ...], hint: str) -> list[str]:
    if missing := next((c for c in needed if c not in cells), None):
        if len(cells) == 1 and ";" in cells[0]:
            hint = "its columns are separated by ;: a spreadsheet saved it anew; use the original"
        raise RecordError(f"{path}, line 1: column {missing!r} is missing", hint=hint)
    if twice := next((c for c in cells if cells.count(c) > 1), None):
        raise RecordError(f"{path}, line 1: column {twice!r} comes twice")
    return cells


def read_json(path: Path) -> tuple[bytes, Any]:
    """The content of a JSON file: its bytes (to find places in, see `locate`) and what they say.

    Raises:
        RecordError: it can't be read or is no JSON; line and column are named.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    try:
        # "NaN" and "Infinity" are no JSON, and Python would read them.
        return data, json.loads(data, parse_constant=_no_constant, object_pairs_hook=_once_each)
    except json.JSONDecodeError as e:
        raise RecordError(f"{path}, line {e.lineno}, column {e.colno}: {e.msg}", hint=_EDITED) from e
    except UnicodeDecodeError as e:
        raise RecordError(f"{path}, {place_at(data, e.start)}: not UTF-8") from e
    except RecursionError as e:
        raise RecordError(f"{path}: it is nested too deeply to be a result") from e
    except _Constant as e:
        raise RecordError(f"{path}, {place_at(data, data.find(str(e).encode()))}: {e} is not a number") from e
    except ValueError as e:  # whole numbers of thousands of digits
        raise RecordError(f"{path}: {e}", hint="the file was edited") from e
    except _Twice:
        name, place = second_of_its_name(data) or ("a name", "line 1")
        raise RecordError(f"{path}, {place}: {name!r} comes twice", hint="the file was edited or merged") from None


class _Constant(Exception):
    pass


class _Twice(Exception):
    pass


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _no_constant(name: str) -> Any:
    raise _Constant(name)
