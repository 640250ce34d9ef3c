"""Statistics into a shadow: pg_restore_relation_stats, pg_restore_attribute_stats and, byte by byte, extended ones.

The functions came with PostgreSQL 18, which the shadow always runs; what they take is plain pg_stats of any version.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import asyncpg
import msgspec

from dbperf.postgres.shadow_expressions import derive
from dbperf.records.shadow import Catalog, CatalogNote, ColumnStatistics, ExtendedStatistics

_ROWS_PER_CALL = 2000
_FIELDS = (
    ("null_frac", "real"),
    ("avg_width", "int"),
    ("n_distinct", "real"),
    ("most_common_vals", "text"),
    ("most_common_freqs", "real[]"),
    ("histogram_bounds", "text"),
    ("correlation", "real"),
    ("most_common_elems", "text"),
    ("most_common_elem_freqs", "real[]"),
    ("elem_count_histogram", "real[]"),
    ("range_length_histogram", "text"),
    ("range_empty_frac", "real"),
    ("range_bounds_histogram", "text"),
)
_RELATION_SQL = """
SELECT pg_restore_relation_stats('schemaname', r.s, 'relname', r.n, 'relpages', r.pages, 'reltuples', r.tuples,
                                 'relallvisible', r.visible, 'relallfrozen', 0)
FROM jsonb_to_recordset($1::jsonb) r(s text, n text, pages int, tuples real, visible int)
"""


def _attribute_sql(column: str, kind: str) -> str:
    arguments = ", ".join(f"'{name}', r.{name}" for name, _ in _FIELDS)
    fields = ", ".join(f"{name} {type_}" for name, type_ in _FIELDS)
    return (
        f"SELECT pg_restore_attribute_stats('schemaname', r.s, 'relname', r.n, '{column}', r.a, 'inherited', r.i, "
        f"{arguments}) "
        f"FROM jsonb_to_recordset($1::jsonb) r(s text, n text, a {kind}, i bool, {fields})"
    )


async def restore(conn: asyncpg.Connection, catalog: Catalog, created: set[tuple[str, str]]) -> list[CatalogNote]:
    """Gives every relation in `created` (schema, name) its statistics.

    Returns:
        What PostgreSQL refused, by object.
    """
    notes: list[CatalogNote] = []
    await _in_chunks(conn, _RELATION_SQL, _relation_rows(catalog, created), notes)
    await _in_chunks(conn, _attribute_sql("attname", "text"), _column_rows(catalog, created), notes)
    await _in_chunks(conn, _attribute_sql("attnum", "int2"), _expression_rows(catalog, created), notes)
    notes += await _hidden_expressions(conn, catalog, created)
    notes += await _extended(conn, catalog)
    return notes


async def restore_expression(
    conn: asyncpg.Connection, schema: str, index: str, position: int, s: ColumnStatistics
) -> None:
    """Gives one expression key of an index its statistics.

    Raises:
        asyncpg.PostgresError: PostgreSQL refuses them.
    """
    await conn.fetch(_attribute_sql("attnum", "int2"), _json([_statistics_row(schema, index, position, s)]))


async def _hidden_expressions(
    conn: asyncpg.Connection, catalog: Catalog, created: set[tuple[str, str]]
) -> list[CatalogNote]:
    """pg_stats shows the statistics of an index's expressions to its owner and to pg_read_all_data only."""
    notes: list[CatalogNote] = []
    for r in catalog.relations:
        if r.tuples <= 0 or not any(c.statistics for c in r.columns):
            continue
        names = {c.name for c in r.columns}
        for x in r.indexes:
            hidden = [i for i, key in enumerate(x.keys, 1) if key not in names and i not in x.statistics]
            if not hidden or (x.schema, x.name) not in created:
                continue
            how = "unknown to this role (GRANT pg_read_all_data shows them)"
            for position in hidden:
                if s := await derive(conn, r, x.keys[position - 1]):
                    how = "derived from the column's (GRANT pg_read_all_data shows the real ones)"
                    await _in_chunks(
                        conn, _attribute_sql("attnum", "int2"), [_statistics_row(x.schema, x.name, position, s)], notes
                    )
            notes.append(CatalogNote(object=f"{x.schema}.{x.name}", reason=f"statistics of its expressions: {how}"))
    return notes


async def _in_chunks(
    conn: asyncpg.Connection, sql: str, rows: Iterable[dict[str, Any]], notes: list[CatalogNote]
) -> None:
    pending = list(rows)
    for start in range(0, len(pending), _ROWS_PER_CALL):
        chunk = pending[start : start + _ROWS_PER_CALL]
        try:
            async with conn.transaction():
                await conn.fetch(sql, _json(chunk))
        except asyncpg.PostgresError:
            # One bad row (a value that its type no longer reads) fails the call: find it, keep the others.
            for row in chunk:
                try:
                    async with conn.transaction():
                        await conn.fetch(sql, _json([row]))
                except asyncpg.PostgresError as e:
                    column = f".{row['a']}" if "a" in row else ""
                    notes.append(
                        CatalogNote(object=f"{row['s']}.{row['n']}{column}", reason=f"statistics not carried over: {e}")
                    )


def _json(rows: list[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()


def _relation_rows(catalog: Catalog, created: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for r in catalog.relations:
        if (r.schema, r.name) in created:
            yield {
                "s": r.schema,
                "n": r.name,
                "pages": r.stored_pages,
                "tuples": r.tuples,
                "visible": r.all_visible_pages,
            }
        for x in r.indexes:
            if (x.schema, x.name) in created and r.kind != "partitioned":
                # The planner takes an index's tuples from here and its pages from the file.
                yield {"s": x.schema, "n": x.name, "pages": x.pages, "tuples": x.tuples, "visible": 0}


def _statistics_row(schema: str, name: str, attribute: str | int, s: ColumnStatistics) -> dict[str, Any]:
    row = {field: getattr(s, "avg_width_bytes" if field == "avg_width" else field) for field, _ in _FIELDS}
    return {"s": schema, "n": name, "a": attribute, "i": s.inherited, **row}


def _column_rows(catalog: Catalog, created: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for r in catalog.relations:
        if (r.schema, r.name) in created:
            for c in r.columns:
                yield from (_statistics_row(r.schema, r.name, c.name, s) for s in c.statistics)


def _expression_rows(catalog: Catalog, created: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for r in catalog.relations:
        for x in r.indexes:
            if (x.schema, x.name) in created:
                for position, found in x.statistics.items():
                    yield from (_statistics_row(x.schema, x.name, position, s) for s in found)


async def _extended(conn: asyncpg.Connection, catalog: Catalog) -> list[CatalogNote]:
    """n_distinct and dependencies of statistics objects. Their types have no input function before PostgreSQL 19."""
    if not catalog.extended_statistics:
        return []
    await conn.execute(
        "CREATE CAST (bytea AS pg_ndistinct) WITHOUT FUNCTION; CREATE CAST (bytea AS pg_dependencies) WITHOUT FUNCTION"
    )
    notes = []
    for s in catalog.extended_statistics:
        name = f"{s.schema}.{s.name}"
        if s.has_mcv:
            notes.append(CatalogNote(object=name, reason="its most common value combinations are not carried over"))
        if s.has_expressions:
            notes.append(CatalogNote(object=name, reason="its statistics of expressions are not carried over"))
            continue
        found = await conn.fetchrow(
            "SELECT s.oid, s.stxkeys::int2[] AS keys FROM pg_statistic_ext s "
            "JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname = $1 AND s.stxname = $2",
            s.schema,
            s.name,
        )
        if found is None:
            continue
        # The same columns have other numbers here where the source dropped some; both lists are in column order.
        number_of = dict(zip(sorted(s.keys), sorted(found["keys"]), strict=True))
        await conn.execute(
            "INSERT INTO pg_statistic_ext_data (stxoid, stxdinherit, stxdndistinct, stxddependencies) "
            "VALUES ($1, $2, $3::bytea::pg_ndistinct, $4::bytea::pg_dependencies)",
            found["oid"],
            s.inherited,
            ndistinct_bytes(s, number_of),
            dependencies_bytes(s, number_of),
        )
    return notes


def ndistinct_bytes(s: ExtendedStatistics, number_of: dict[int, int]) -> bytes | None:
    """pg_ndistinct as statext_ndistinct_serialize writes it (mvdistinct.c); None where there is none."""
    if s.n_distinct is None:
        return None
    items = [([int(k) for k in keys.split(",")], float(n)) for keys, n in json.loads(s.n_distinct).items()]
    body = struct.pack("=3I", 0xA352BFA4, 1, len(items))
    for keys, n in items:
        body += struct.pack(f"=di{len(keys)}h", n, len(keys), *(number_of[k] for k in keys))
    return body


def dependencies_bytes(s: ExtendedStatistics, number_of: dict[int, int]) -> bytes | None:
    """pg_dependencies as statext_dependencies_serialize writes it (dependencies.c); None where there is none."""
    if s.dependencies is None:
        return None
    items = [
        ([int(k) for k in keys.replace("=>", ",").split(",")], float(degree))
        for keys, degree in json.loads(s.dependencies).items()
    ]
    body = struct.pack("=3I", 0xB4549A2C, 1, len(items))
    for keys, degree in items:
        body += struct.pack(f"=dh{len(keys)}h", degree, len(keys), *(number_of[k] for k in keys))
    return body
