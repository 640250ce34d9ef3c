"""Statistics of an expression that nobody has sampled, from the statistics of its column.

PostgreSQL collects statistics of an expression once an index has it; until then it guesses one row in 200. The column's
most common values and histogram bounds are a sample of its rows, and the expression of a sample is a sample of the
expression. Needed for candidates, and for existing indexes whose statistics `pg_stats` hides from a plain role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import postgast
from postgast.pg_query_pb2 import ColumnRef

from dbperf.postgres.shadow_ddl import quote
from dbperf.records.shadow import Column, ColumnStatistics, Relation

_COLLAPSES = 0.9
"""Below this share of distinct results the expression is taken to map many values to one."""
_MOST_COMMON = 100


def columns_of(expression: str) -> list[str]:
    """Names of the columns in an expression; empty where it does not parse.

    >>> columns_of("lower((email)::text)")
    ['email']
    """
    try:
        tree = postgast.parse(f"SELECT {expression}")
    except postgast.PgQueryError:
        return []
    found = []
    for node in postgast.find_nodes(tree, ColumnRef):
        name = node.fields[-1].string.sval
        if name and name not in found:
            found.append(name)
    return found


async def derive(conn: asyncpg.Connection, relation: Relation, expression: str) -> ColumnStatistics | None:
    """Statistics of an expression over one column; None where there are none to derive from.

    Args:
        conn: a session of the shadow. The expression is evaluated there on a few hundred values, in a transaction that
            is rolled back.
    """
    names = columns_of(expression)
    column = next((c for c in relation.columns if len(names) == 1 and c.name == names[0]), None)
    if column is None or not column.statistics:
        return None
    s = next((x for x in column.statistics if x.inherited == (relation.kind == "partitioned")), column.statistics[0])
    try:
        common = await _evaluate(conn, relation, column, expression, s.most_common_vals)
        bounds = await _evaluate(conn, relation, column, expression, s.histogram_bounds)
    except asyncpg.PostgresError:
        return None
    if not common and not bounds:
        return _only_width(s)
    weights: dict[str, float] = {}
    nulls = s.null_frac
    rest = max(0.0, 1 - s.null_frac - sum(s.most_common_freqs or ()))
    sample = [(v, f) for v, f in zip(common, s.most_common_freqs or (), strict=False)]
    sample += [(v, rest / len(bounds)) for v in bounds]
    for value, share in sample:
        if value is None:
            nulls += share
        else:
            weights[value] = weights.get(value, 0.0) + share
    if not weights:
        return _only_width(s, null_frac=min(nulls, 1.0))
    width = round(sum(len(v.encode()) + 1 for v in weights) / len(weights))
    values = sum(1 for v, _ in sample if v is not None)
    if len(weights) >= _COLLAPSES * values:
        # One to one: as many distinct values as the column has, the common ones as common as they were.
        kept = [(v, f) for v, f in zip(common, s.most_common_freqs or (), strict=False) if v is not None]
        return _statistics(kept, s.n_distinct, min(nulls, 1.0), width)
    top = sorted(weights.items(), key=lambda x: (-x[1], x[0]))[:_MOST_COMMON]
    return _statistics(top, float(len(weights)), min(nulls, 1.0), width)


async def _evaluate(
    conn: asyncpg.Connection, relation: Relation, column: Column, expression: str, values: str | None
) -> list[str | None]:
    if values is None:
        return []
    async with conn.transaction():
        rows: Sequence[Any] = await conn.fetch(
            f"SELECT ({expression})::text AS v "
            f"FROM unnest($1::text::{_array_type(column)}) AS {quote(relation.name)}({quote(column.name)})",
            values,
        )
    return [r["v"] for r in rows]


def _array_type(column: Column) -> str:
    return f"{column.type}[]"


def _only_width(s: ColumnStatistics, null_frac: float | None = None) -> ColumnStatistics:
    return ColumnStatistics(
        inherited=False,
        null_frac=s.null_frac if null_frac is None else null_frac,
        avg_width_bytes=s.avg_width_bytes,
        n_distinct=s.n_distinct,
    )


def _statistics(
    common: Sequence[tuple[str, float]], n_distinct: float, null_frac: float, width: int
) -> ColumnStatistics:
    return ColumnStatistics(
        inherited=False,
        null_frac=null_frac,
        avg_width_bytes=max(1, width),
        n_distinct=n_distinct,
        most_common_vals=_array([v for v, _ in common]) if common else None,
        most_common_freqs=[f for _, f in common] if common else None,
    )


def _array(values: Sequence[str]) -> str:
    """PostgreSQL's text form of an array."""
    return "{" + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values) + "}"
