"""Reads what decides on the health of indexes: catalog, statistics, real sizes; with pgstattuple also their density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from dbperf.errors import ServerError
from dbperf.postgres.collect import collector
from dbperf.postgres.connect import connected, mask_dsn

_DENSITY = (
    "SELECT /* dbperf index_density */ avg_leaf_density AS density, leaf_fragmentation AS fragmentation, "
    "empty_pages + deleted_pages AS free_pages FROM {schema}.pgstatindex($1::oid::regclass)"
)
_EXACT_FROM_BYTES = 1 << 20
"""Below it rebuilding is not worth a thought, and reading it neither."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """A row of `sql/collect/health_indexes`."""

    oid: int
    table_oid: int
    schema: str
    table: str
    name: str
    method: str
    definition: str
    keys: tuple[str, ...]
    """Text, operator class and collation of each key."""
    options: tuple[int, ...]
    """pg_index.indoption: 1 descending, 2 nulls first."""
    key_columns: tuple[int, ...]
    """Column numbers; 0 for an expression."""
    include: tuple[int, ...]
    predicate: str | None
    unique: bool
    primary: bool
    replica_identity: bool
    clustered: bool
    has_expressions: bool
    valid: bool
    partitioned: bool
    constraint: str | None
    referenced: bool
    """By a foreign key."""
    parent: int | None
    """The partitioned index that it belongs to."""
    size_bytes: int
    entries: float
    fillfactor: int
    width_bytes: float | None
    width_known: bool
    """Every column of the index has statistics."""
    scans: int | None
    last_scan_at: datetime | None
    building: bool
    density: float | None = None
    """Exact share of its leaf pages in use (0..1), from pgstatindex; None: not read."""


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """A row of `sql/collect/health_tables`. Counters are None for partitioned tables and where nothing is counted."""

    oid: int
    schema: str
    name: str
    partitioned: bool
    parent: int | None
    """The partitioned table that it belongs to."""
    rows: float
    size_bytes: int
    inserts: int | None
    updates: int | None
    deletes: int | None
    hot_updates: int | None
    new_page_updates: int | None
    fillfactor: int


@dataclass(frozen=True, kw_only=True)
class ForeignKeyFacts:
    """A row of `sql/collect/health_foreign_keys`."""

    name: str
    table_oid: int
    referenced_oid: int
    columns: tuple[int, ...]
    column_names: tuple[str, ...]
    on_delete: str
    on_update: str


@dataclass(frozen=True, kw_only=True)
class HealthFacts:
    """All that `dbperf.indexes.health` judges."""

    database: str
    server_version: str
    major: int
    now: datetime
    stats_reset_at: datetime | None
    counted_since: datetime | None
    """When the counters began, at the latest."""
    in_recovery: bool
    block_bytes: int
    indexes: list[IndexFacts]
    tables: dict[int, TableFacts]
    foreign_keys: list[ForeignKeyFacts]
    replica_scans: dict[str, dict[tuple[str, str], int | None]] = field(default_factory=dict)
    """By masked connection string."""
    notes: list[str] = field(default_factory=list)


async def read_health(
    conn: asyncpg.Connection[Any], *, replicas: Sequence[str] = (), exact: bool = False
) -> HealthFacts:
    """Reads the connection's database, and the use of its indexes on standbys.

    Args:
        replicas: connection strings of standbys of the same server.
        exact: also measure B-trees with pgstattuple, which reads each of them whole.

    Raises:
        ServerError: a table was locked while it was read.
        ConnectError: a replica can't be reached.
    """
    try:
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            # With an empty path definitions are printed with every name qualified.
            await conn.execute("SET LOCAL search_path = ''")
            facts = await _read(conn, exact=exact)
    except asyncpg.LockNotAvailableError as e:
        raise ServerError("a table was locked while its indexes were read", hint="try again") from e
    for dsn in replicas:
        async with connected(dsn) as replica:
            rows = await replica.fetch(collector("health_scans", (replica.get_server_version().major,)))
            facts.replica_scans[mask_dsn(dsn)] = {(r["schema"], r["name"]): r["scans"] for r in rows}
    return facts


async def _read(conn: asyncpg.Connection[Any], *, exact: bool) -> HealthFacts:
    version = (conn.get_server_version().major,)
    info = await conn.fetchrow(collector("health_database", version))
    assert info is not None
    locked = await conn.fetch(collector("catalog_locked", version))
    notes = [f"{r['schema']}.{r['name']}: left out, someone holds it locked (ACCESS EXCLUSIVE)" for r in locked]
    oids = [r["oid"] for r in locked]
    tables = await conn.fetch(collector("health_tables", version), oids)
    keys = await conn.fetch(collector("health_foreign_keys", version), oids)
    rows = [_values(r) for r in await conn.fetch(collector("health_indexes", version), oids)]
    if exact:
        notes += await _measure(conn, rows, info["pgstattuple_schema"], info["block_bytes"])
    return HealthFacts(
        database=info["database"],
        server_version=info["server_version"],
        major=version[0],
        now=info["now"],
        stats_reset_at=info["stats_reset"],
        counted_since=info["stats_reset"] or info["counted_since"],
        in_recovery=info["in_recovery"],
        block_bytes=info["block_bytes"],
        indexes=[IndexFacts(**r) for r in rows],
        tables={r["oid"]: TableFacts(**r) for r in tables},
        foreign_keys=[ForeignKeyFacts(**_values(r)) for r in keys],
        notes=notes,
    )


def _values(row: asyncpg.Record) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v.decode() if isinstance(v, bytes) else v for k, v in row.items()}


async def _measure(
    conn: asyncpg.Connection[Any], rows: list[dict[str, Any]], schema: str | None, block_bytes: int
) -> list[str]:
    """Adds the exact density to B-trees of at least 1 MB. Returns what could not be measured and why."""
    if schema is None:
        return ["bloat is estimated: the extension pgstattuple is not installed (CREATE EXTENSION pgstattuple)"]
    sql = _DENSITY.format(schema='"' + schema.replace('"', '""') + '"')
    for row in rows:
        if row["method"] != "btree" or not row["valid"] or row["size_bytes"] < _EXACT_FROM_BYTES or row["partitioned"]:
            continue
        try:
            async with conn.transaction():
                # A number needs no quoting, whatever the index is called.
                found = await conn.fetchrow(sql, row["oid"])
        except asyncpg.InsufficientPrivilegeError:
            return ["bloat is estimated: this role may not call pgstatindex (GRANT pg_stat_scan_tables)"]
        assert found is not None
        pages = row["size_bytes"] / block_bytes
        # Empty and deleted pages are wasted as a whole; NaN is what an index without leaves gives.
        if found["density"] == found["density"]:
            row["density"] = found["density"] / 100 * (1 - min(1.0, found["free_pages"] / pages))
    return []
