"""Values for a suite's placeholders, fetched before the load: files are read and queries run once."""

from __future__ import annotations

import csv
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from dbperf.errors import ConfigError
from dbperf.load.suite_file import PLACEHOLDER, placeholders
from dbperf.records.load import LeftOut
from dbperf.records.suite import DataSource, Suite

MAX_VALUES = 100_000
Query = Callable[[str], Awaitable[Sequence[Any]]]
"""Runs SQL and returns rows: ``connection.fetch`` of asyncpg."""


async def resolve_data(suite: Suite, query: Query | None = None) -> dict[str, list[Any]]:
    """The values of each data source that can be had, by name. A source in SQL is missing where `query` is None.

    A row with one column becomes its value, a row with several a dict. At most 100,000 are kept.

    Raises:
        ConfigError: a file that can't be read, SQL that the database refuses, a source that yields nothing.
    """
    found: dict[str, list[Any]] = {}
    for source in suite.data:
        if source.values is not None:
            values: list[Any] = source.values
        elif source.file is not None:
            values = _from_file(source, source.file)
        else:
            if query is None:
                continue
            assert source.sql is not None
            try:
                rows = await query(source.sql)
            except asyncpg.PostgresError as e:
                raise ConfigError(f"data {source.name!r} of suite {suite.name!r}: {e.args[0]}", hint=source.sql) from e
            values = [_plain(tuple(row.keys()), tuple(row.values())) for row in rows]
        if not values:
            raise ConfigError(f"data {source.name!r} of suite {suite.name!r} yields nothing", hint=source.sql)
        found[source.name] = values[:MAX_VALUES]
    return found


def without_data(suite: Suite, data: dict[str, list[Any]]) -> list[LeftOut]:
    """The endpoints that can't be called because a source has no values, or its rows lack a column.

    Raises:
        ConfigError: a placeholder names a column that the values lack.
    """
    out = []
    for endpoint in suite.endpoints:
        missing = [name for name in placeholders(endpoint) if name not in data]
        if missing:
            names = ", ".join(missing)
            out.append(LeftOut(endpoint=endpoint.name, reason=f"its data ({names}) comes from SQL: give --dsn"))
            continue
        for name, column in PLACEHOLDER.findall(endpoint.path + json.dumps(endpoint.json)):
            first = data[name][0]
            if column and not (isinstance(first, dict) and column in first):
                columns = ", ".join(first) if isinstance(first, dict) else "no columns"
                raise ConfigError(f"{endpoint.name}: data {name!r} has no column {column!r}", hint=f"it has {columns}")
    return out


def _from_file(source: DataSource, name: str) -> list[Any]:
    path = Path(name)
    try:
        with path.open(encoding="utf-8", newline="") as f:
            if path.suffix in (".jsonl", ".ndjson"):
                return [json.loads(line) for line in f if line.strip()]
            if path.suffix == ".csv":
                return [_plain(tuple(row), tuple(row.values())) for row in csv.DictReader(f)]
            return [line.rstrip("\r\n") for line in f if line.strip()]
    except OSError as e:
        raise ConfigError(f"data {source.name!r}: {path} can't be read: {e.strerror}") from None
    except (ValueError, UnicodeDecodeError) as e:
        raise ConfigError(f"data {source.name!r}: {path} is not what its name says: {e}") from None


def _plain(columns: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    kept = [v if isinstance(v, str | int | float | bool | None) else str(v) for v in values]
    return kept[0] if len(kept) == 1 else dict(zip(columns, kept, strict=True))
