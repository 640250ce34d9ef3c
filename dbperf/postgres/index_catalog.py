"""What the catalog says of tables and indexes that are about to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from dbperf.postgres.collect import collector
from dbperf.postgres.shadow_ddl import literal
from dbperf.records.advice import quoted


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition of a table; its own partitions where it is partitioned again."""

    schema: str
    table: str
    partitioned: bool = False
    children: tuple[Partition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IndexDetails:
    """An index that exists, and how to get it back."""

    schema: str
    name: str
    table_schema: str
    table: str
    definition: str
    """pg_get_indexdef, every name qualified."""
    size_bytes: int
    """With its partitions'."""
    partitioned: bool
    is_part: bool
    """It belongs to a partitioned index, which can only go as a whole."""
    carries_rule: bool
    """Unique, or behind a constraint, a foreign key or a replica identity."""
    valid: bool
    tablespace: str | None
    settings: tuple[str, ...]
    """Statements for what the definition leaves out: comment, statistics targets, cluster mark."""
    children: tuple[IndexDetails, ...] = ()


async def index_details(conn: asyncpg.Connection[Any], schema: str, name: str) -> IndexDetails | None:
    """An index with the indexes of its partitions; None where there is no such index."""
    sql = collector("index_details", (conn.get_server_version().major,))
    async with conn.transaction(readonly=True):
        # With an empty path every name in a definition is qualified.
        await conn.execute("SET LOCAL search_path = ''")
        rows = [dict(r) for r in await conn.fetch(sql, schema, name)]
    top = [r for r in rows if r["parent"] is None]
    return _details(top[0], rows) if top else None


def _details(row: dict[str, Any], rows: list[dict[str, Any]]) -> IndexDetails:
    children = tuple(_details(r, rows) for r in rows if r["parent"] == row["oid"])
    where = f"{quoted(row['schema'])}.{quoted(row['name'])}"
    settings = []
    if row["comment"] is not None:
        settings.append(f"COMMENT ON INDEX {where} IS {literal(row['comment'])}")
    for target in row["statistics_targets"]:
        column, value = target.split("=")
        settings.append(f"ALTER INDEX {where} ALTER COLUMN {column} SET STATISTICS {value}")
    if row["clustered"]:
        table = f"{quoted(row['table_schema'])}.{quoted(row['table'])}"
        settings.append(f"ALTER TABLE {table} CLUSTER ON {quoted(row['name'])}")
    return IndexDetails(
        schema=row["schema"],
        name=row["name"],
        table_schema=row["table_schema"],
        table=row["table"],
        definition=row["definition"],
        size_bytes=row["size_bytes"] + sum(c.size_bytes for c in children),
        partitioned=row["partitioned"],
        is_part=row["is_part"],
        carries_rule=row["carries_rule"],
        valid=row["valid"],
        tablespace=row["tablespace"],
        settings=tuple(settings),
        children=children,
    )


@dataclass(frozen=True, kw_only=True)
class TableDetails:
    """A table that exists."""

    schema: str
    table: str
    partitions: tuple[Partition, ...] | None
    """None: it is not partitioned."""


async def table_details(conn: asyncpg.Connection[Any], schema: str, table: str) -> TableDetails | None:
    """A table with its partitions; None where there is no such table."""
    rows = await conn.fetch(collector("partitions", (conn.get_server_version().major,)), schema, table)
    top = [r for r in rows if r["parent"] is None]
    if not top:
        return None

    def below(oid: int) -> tuple[Partition, ...]:
        return tuple(
            Partition(schema=r["schema"], table=r["table"], partitioned=r["partitioned"], children=below(r["oid"]))
            for r in rows
            if r["parent"] == oid
        )

    return TableDetails(schema=schema, table=table, partitions=below(top[0]["oid"]) if top[0]["partitioned"] else None)


async def taken_names(conn: asyncpg.Connection[Any], schema: str) -> set[str]:
    """Names of relations in a schema."""
    rows = await conn.fetch(collector("taken_names", (conn.get_server_version().major,)), schema)
    return {r["name"] for r in rows}
