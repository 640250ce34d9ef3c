"""Values for a statement's parameters, drawn from the target's column statistics: a common, a typical, a rare case."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import asyncpg

from dbperf.postgres.bindings import Binding, bindings
from dbperf.postgres.sql_text import parameters_of
from dbperf.resources import sql

Case = Literal["typical", "common", "rare"]
CASES: tuple[Case, ...] = ("typical", "common", "rare")
_PREPARED = "dbperf_types"
_DEFAULTS = (
    ("boolean", "true"),
    ("timestamp", "now"),
    ("date", "today"),
    ("time", "12:00"),
    ("interval", "1 day"),
    ("uuid", "00000000-0000-0000-0000-000000000000"),
    ("json", "{}"),
    ("inet", "127.0.0.1"),
    ("bytea", ""),
    ("text", ""),
    ("character", ""),
    ("name", ""),
    ("xml", ""),
)
_FAMILIES = {
    "text": ("text", "character", "name", "citext", '"char"'),
    "integer": ("integer", "bigint", "smallint"),
    "number": ("numeric", "real", "double"),
    "timestamp": ("timestamp", "date"),
}
_LIMITS: dict[str, dict[Case, str]] = {
    "limit": {"typical": "10", "common": "1000", "rare": "1"},
    "offset": {"typical": "0", "common": "1000", "rare": "0"},
}


class Values(NamedTuple):
    """One case: a value for each parameter, as text, and where it comes from."""

    case: Case
    values: tuple[str | None, ...]
    origins: tuple[str, ...]


class Column(NamedTuple):
    type: str
    common: list[str]
    """Most common first."""
    bounds: list[str]
    """Of a histogram with equally many rows in each part, the common values left out."""


async def representative_values(conn: asyncpg.Connection[Any], text: str) -> list[Values]:
    """Up to three different cases; one with defaults of the right types where nothing is known.

    "common" values and wide ranges find the most rows, "rare" ones the fewest. To be called in a transaction.

    Raises:
        asyncpg.PostgresError: the statement can't be prepared.
    """
    count = parameters_of(text)
    if not count:
        return []
    types = await _types(conn, text)
    bound = {b.number: b for b in bindings(text)}
    columns = await _columns(conn, list(bound.values()))
    found: list[Values] = []
    for case in CASES:
        values, origins = [], []
        for number in range(1, count + 1):
            binding = bound.get(number)
            column = column_of(binding, columns)
            declared = types[number - 1] if number <= len(types) else "text"
            value, origin = value_for(case, binding, column, declared)
            values.append(value)
            origins.append(origin)
        if not any(f.values == tuple(values) for f in found):
            found.append(Values(case, tuple(values), tuple(origins)))
    return found


async def _types(conn: asyncpg.Connection[Any], text: str) -> list[str]:
    """The parameters' types, as the server deduces them."""
    await conn.fetch(f"PREPARE {_PREPARED} AS {text}")
    try:
        return list(
            await conn.fetchval("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = $1", _PREPARED)
        )
    finally:
        await conn.execute(f"DEALLOCATE {_PREPARED}")


async def _columns(conn: asyncpg.Connection[Any], found: list[Binding]) -> dict[tuple[str, str], Column]:
    wanted = sorted({(t, b.column) for b in found if b.column for t in b.tables})
    if not wanted:
        return {}
    rows = await conn.fetch(sql("collect/column_values/14.sql"), [t for t, _ in wanted], [c for _, c in wanted])
    columns: dict[tuple[str, str], Column] = {}
    for row in rows:
        columns.setdefault(
            (row["table"], row["column"]), Column(row["type"], list(row["common"] or []), list(row["bounds"] or []))
        )
    return columns


def column_of(binding: Binding | None, columns: dict[tuple[str, str], Column]) -> Column | None:
    """What is known of a parameter's column, by table and column name."""
    if binding is None or binding.column is None:
        return None
    return next((columns[t, binding.column] for t in binding.tables if (t, binding.column) in columns), None)


def value_for(case: Case, binding: Binding | None, column: Column | None, declared: str) -> tuple[str, str]:
    """A parameter's value as text, and where it comes from.

    Args:
        declared: the parameter's type as format_type prints it.
    """
    if binding is not None and binding.role in _LIMITS:
        return _LIMITS[binding.role][case], f"a usual {binding.role.upper()}"
    if binding is None or column is None or not (column.common or column.bounds):
        return _default(declared, column), f"no statistics: a default of type {declared}"
    if binding.role != "any" and _family(declared) != _family(column.type):
        return _default(declared, column), f"not of {binding.column}'s type: a default of type {declared}"
    return _drawn(case, binding, column, declared)


def _drawn(case: Case, binding: Binding, column: Column, declared: str) -> tuple[str, str]:
    """A value that the column has, or a bound, a prefix or an array made of such."""
    origin = f"{case} value of {binding.column}"
    if binding.role in ("low", "high"):
        return _bound(case, binding.role == "low", column), f"{case} bound of {binding.column}"
    if binding.role == "like":
        value = _equal(case, column)
        length = {"common": 1, "typical": max(1, len(value) // 2), "rare": len(value)}[case]
        return re.sub(r"([%_\\])", r"\\\1", value[:length]) + "%", f"prefix of a {origin}"
    if binding.role == "any" and declared.endswith("[]"):
        several = (column.common or column.bounds)[: {"common": 10, "typical": 5, "rare": 1}[case]]
        quoted = ['"' + re.sub(r'(["\\])', r"\\\1", v) + '"' for v in several]
        return f"{{{','.join(quoted)}}}", f"values of {binding.column}"
    return _equal(case, column), origin


def _equal(case: Case, column: Column) -> str:
    if case == "common":
        return (column.common or column.bounds)[0]
    if case == "rare":
        # The ends of the histogram are values that the common ones do not include.
        return column.bounds[-1] if column.bounds else column.common[-1]
    middle = column.bounds or column.common
    return middle[len(middle) // 2]


def _bound(case: Case, is_low: bool, column: Column) -> str:
    """Wide for `common`, half for `typical`, nearly nothing for `rare`."""
    steps = column.bounds or column.common
    last = len(steps) - 1
    if case == "common":
        return steps[0 if is_low else last]
    if case == "rare":
        return steps[max(last - 1, 0) if is_low else last]
    return steps[last // 2 if is_low else min(last // 2 + 1, last)]


def _family(name: str) -> str:
    """Types whose values are written alike."""
    bare = re.sub(r"\(.*\)", "", name)
    for family, members in _FAMILIES.items():
        if bare.startswith(members):
            return family
    return bare


def _default(declared: str, column: Column | None) -> str:
    if declared.endswith("[]"):
        return "{}"
    if declared == "vector" or declared.startswith(("vector(", "halfvec")):
        m = re.search(r"\((\d+)\)", column.type if column is not None else "")
        return "[" + ",".join(["0.1"] * (int(m[1]) if m else 3)) + "]"
    return next((value for name, value in _DEFAULTS if declared.startswith(name)), "1")
