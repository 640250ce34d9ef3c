"""Statements of a workload with values for their parameters, ready to be executed in a trial."""

from __future__ import annotations

from typing import Any

import asyncpg
import postgast

from dbperf.errors import StatementError
from dbperf.postgres.bindings import bindings
from dbperf.postgres.collect import collector
from dbperf.postgres.explain import rolled_back, server_errors
from dbperf.postgres.index_trial import Case
from dbperf.postgres.readonly import prove_read_only
from dbperf.postgres.representative import representative_values
from dbperf.postgres.sql_text import parameters_of, plannable, repair_normalised

_VECTORS = 3
Drawn = tuple[str | None, ...]
_WRITING = ("insert_stmt", "update_stmt", "delete_stmt", "merge_stmt")


async def cases_of(conn: asyncpg.Connection[Any], sql: str) -> list[Case]:
    """Up to three cases of a statement: with a typical, a common and a rare value of each column.

    An INSERT gets the values of a row that exists, made new where they must be unique.

    Raises:
        StatementError: it can't be planned, or is a query that may do more than read.
    """
    text = plannable(repair_normalised(sql))
    tree = postgast.parse(text)
    kind = tree.stmts[0].stmt.WhichOneof("node")
    writes = kind in _WRITING
    with server_errors(text):
        async with rolled_back(conn):
            if not writes:
                await prove_read_only(conn, text)
            if not parameters_of(text):
                return [Case(text=text, writes=writes)]
            drawn = [v.values for v in await representative_values(conn, text)]
            drawn = await _stored_vectors(conn, text, drawn)
            if kind == "insert_stmt":
                drawn = [await _new_row(conn, tree.stmts[0].stmt.insert_stmt, drawn[0])]
            elif kind == "update_stmt":
                drawn = [await _changed_row(conn, tree.stmts[0].stmt.update_stmt, d) for d in drawn]
    return [Case(text=text, parameters=v, writes=writes) for v in drawn]


async def _new_row(
    conn: asyncpg.Connection[Any], insert: Any, fallback: tuple[str | None, ...]
) -> tuple[str | None, ...]:
    """Values for INSERT … VALUES ($1, …), from a row of the table."""
    relation = insert.relation
    parts = [p for p in (relation.schemaname, relation.relname) if p]
    where = ".".join('"' + p.replace('"', '""') + '"' for p in parts)
    rows = await conn.fetch(collector("insert_columns", (conn.get_server_version().major,)), where)
    columns = {r["name"]: r for r in rows}
    named = [t.res_target.name for t in insert.cols] or list(columns)
    lists = insert.select_stmt.select_stmt.values_lists
    if not lists or not rows:
        return fallback
    values = list(fallback)
    for row_list in lists:
        for name, item in zip(named, row_list.list.items, strict=False):
            number = _parameter(item)
            if number is None or name not in columns or number > len(values):
                continue
            quoted = '"' + name.replace('"', '""') + '"'
            # Names are quoted, and the table is the statement's own.
            value = await conn.fetchval(f"SELECT {quoted}::text FROM {where} LIMIT 1")  # noqa: S608
            if columns[name]["in_unique"]:
                value = await _unique(conn, where, quoted, columns[name]["type"], value)
            values[number - 1] = value
    return tuple(values)


async def _changed_row(conn: asyncpg.Connection[Any], update: Any, drawn: Drawn) -> Drawn:
    """Values for UPDATE … SET column = $1, from a row of the table: they pass its checks."""
    parts = [p for p in (update.relation.schemaname, update.relation.relname) if p]
    where = ".".join('"' + p.replace('"', '""') + '"' for p in parts)
    values = list(drawn)
    for target in update.target_list:
        number = _parameter(target.res_target.val)
        if number is None or number > len(values):
            continue
        quoted = '"' + target.res_target.name.replace('"', '""') + '"'
        # Names are quoted, and the table is the statement's own.
        values[number - 1] = await conn.fetchval(f"SELECT {quoted}::text FROM {where} LIMIT 1")  # noqa: S608
    return tuple(values)


async def _unique(conn: asyncpg.Connection[Any], where: str, column: str, type_: str, value: str | None) -> str | None:
    if type_ in ("integer", "bigint", "smallint", "numeric"):
        found = await conn.fetchval(f"SELECT (coalesce(max({column}), 0) + 1)::text FROM {where}")  # noqa: S608
        return str(found)
    if type_ == "uuid":
        return str(await conn.fetchval("SELECT gen_random_uuid()::text"))
    if type_.startswith(("text", "character")):
        return f"{value or ''}-dbperf"
    return value


async def _stored_vectors(conn: asyncpg.Connection[Any], text: str, drawn: list[Drawn]) -> list[Drawn]:
    """Vectors to compare with are stored ones, for want of statistics: any constant is far away from all of them."""
    found = {b.number: b for b in bindings(text) if b.column is not None and b.tables}
    for number, b in found.items():
        values = [d[number - 1] or "" for d in drawn]
        if not all(v.startswith("[") for v in values):
            continue
        where = '"' + b.tables[0].replace('"', '""') + '"'
        column = '"' + str(b.column).replace('"', '""') + '"'
        rows = await conn.fetch(
            f"SELECT {column}::text FROM {where} WHERE {column} IS NOT NULL ORDER BY ctid LIMIT {_VECTORS}"  # noqa: S608 - quoted
        )
        template = drawn[0]
        drawn = [(*template[: number - 1], r[0], *template[number:]) for r in rows] or drawn
    return drawn


def _parameter(node: Any) -> int | None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    return int(node.param_ref.number) if node.WhichOneof("node") == "param_ref" else None


def written_table(text: str) -> tuple[str, str] | None:
    """Schema (empty: by the search path) and name of the table that a statement writes to.

    Raises:
        StatementError: it does not parse.
    """
    try:
        statement = postgast.parse(text).stmts[0].stmt
    except postgast.PgQueryError as e:
        raise StatementError(f"it does not parse: {e}") from e
    kind = statement.WhichOneof("node")
    if kind not in _WRITING:
        return None
    relation = getattr(statement, kind).relation
    return relation.schemaname, relation.relname
