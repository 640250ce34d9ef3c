"""What building an index on a live server needs to know: what has its name, who is in the way, how far it is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from dbperf.errors import StatementError
from dbperf.postgres.collect import collector
from dbperf.units import format_count, format_seconds, format_share

_LIKE = "dbperf_definition"
# Locks that CREATE INDEX CONCURRENTLY's own (SHARE UPDATE EXCLUSIVE) shares with others.
_HARMLESS = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NameState:
    """What has an index's name."""

    is_index: bool
    table: tuple[str, str] | None
    valid: bool
    partitioned: bool
    definition: str
    size_bytes: int
    builder: int | None
    """The process that builds it right now."""


async def name_state(conn: asyncpg.Connection[Any], schema: str, name: str) -> NameState | None:
    """None where nothing has the name."""
    async with conn.transaction(readonly=True):
        await conn.execute("SET LOCAL search_path = ''")
        row = await conn.fetchrow(_sql(conn, "index_state"), schema, name)
    if row is None:
        return None
    return NameState(
        is_index=row["kind"] in ("i", "I"),
        table=(row["table_schema"], row["table"]) if row["table"] else None,
        valid=bool(row["valid"]),
        partitioned=row["kind"] == "I",
        definition=row["definition"] or "",
        size_bytes=row["size_bytes"] or 0,
        builder=row["builder"],
    )


@dataclass(frozen=True, kw_only=True)
class TableState:
    oid: int
    kind: str
    """pg_class.relkind."""
    owned: bool
    owner: str
    role: str
    indexes: dict[str, str]
    """Definitions of valid indexes by qualified name."""


async def table_state(conn: asyncpg.Connection[Any], schema: str, table: str) -> TableState | None:
    """None where there is no such table."""
    async with conn.transaction(readonly=True):
        await conn.execute("SET LOCAL search_path = ''")
        row = await conn.fetchrow(_sql(conn, "table_state"), schema, table)
    if row is None:
        return None
    found = dict(i.split("\t", 1) for i in row["indexes"])
    return TableState(
        oid=row["oid"], kind=row["kind"], owned=row["owned"], owner=row["owner"], role=row["role"], indexes=found
    )


async def writable(conn: asyncpg.Connection[Any]) -> Row:
    """Whether indexes can be built on this server (standby, read_only, may_temp), its version and data folder."""
    row = await conn.fetchrow(_sql(conn, "writable"))
    assert row is not None
    return dict(row)


async def canonical_definition(conn: asyncpg.Connection[Any], table: tuple[str, str], create_sql: str) -> str:
    """How PostgreSQL itself would print an index: the part of pg_get_indexdef that begins with USING.

    The index is built on an empty temporary copy of the table's columns, and rolled back: two definitions are the
    same index exactly where this text is the same, however they were written.

    Args:
        create_sql: CREATE INDEX on the table `dbperf_definition`, without a schema and without CONCURRENTLY.

    Raises:
        StatementError: PostgreSQL refuses the index: a column, function or operator class is missing.
    """
    quoted = ".".join('"' + n.replace('"', '""') + '"' for n in table)
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"CREATE TEMP TABLE {_LIKE} (LIKE {quoted}) ON COMMIT DROP")
        await conn.execute(create_sql)
        await conn.execute("SET LOCAL search_path = ''")
        text = await conn.fetchval(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::text::regclass", f"pg_temp.{_LIKE}"
        )
    except asyncpg.PostgresError as e:
        raise StatementError(f"PostgreSQL refuses it: {e.message}") from e
    finally:
        await transaction.rollback()
    return definition_part(text)


def definition_part(definition: str) -> str:
    """What of pg_get_indexdef tells two indexes of a table apart.

    >>> definition_part("CREATE UNIQUE INDEX i ON ONLY s.t USING btree (a)")
    'UNIQUE USING btree (a)'
    """
    head, _, rest = definition.partition(" USING ")
    unique = "UNIQUE " if head.startswith("CREATE UNIQUE ") else ""
    return f"{unique}USING {rest}"


LIKE_TABLE = _LIKE


async def lockers(conn: asyncpg.Connection[Any], table_oid: int) -> list[str]:
    """Who holds a lock on a table that a concurrent build has to wait for, in words."""
    rows = await conn.fetch(_sql(conn, "table_lockers"), table_oid)
    return [_locker(dict(r)) for r in rows if r["mode"] not in _HARMLESS]


async def any_lockers(conn: asyncpg.Connection[Any], table_oid: int) -> list[str]:
    """Who holds any lock on a table."""
    return [_locker(dict(r)) for r in await conn.fetch(_sql(conn, "table_lockers"), table_oid)]


def _locker(row: Row) -> str:
    who = "autovacuum" if row["backend_type"] == "autovacuum worker" else row["application_name"] or "a session"
    if row["wraparound"]:
        who += " to prevent wraparound, which does not give way"
    what = f"{who} (pid {row['pid']}, {row['mode']}"
    if row["open_s"] is not None:
        what += f", {row['state'] or 'open'} for {format_seconds(row['open_s'])}"
    return what + ")"


async def old_transactions(conn: asyncpg.Connection[Any], older_than_s: float) -> list[str]:
    """Transactions that a concurrent build will have to wait for, in words."""
    rows = await conn.fetch(_sql(conn, "old_transactions"), older_than_s)
    return [
        f"the prepared transaction {r['prepared']!r} is open for {format_seconds(r['open_s'])}"
        if r["prepared"] is not None
        else f"pid {r['pid']} ({r['application_name'] or 'no name'}, {r['state']}) has a transaction open for "
        f"{format_seconds(r['open_s'])}"
        for r in rows
    ]


async def build_progress(conn: asyncpg.Connection[Any], pid: int) -> str | None:
    """How far a process is with its build, in words; None where it builds nothing."""
    row = await conn.fetchrow(_sql(conn, "build_progress"), pid)
    if row is None:
        return None
    text = str(row["phase"])
    if row["lockers_total"]:
        text += f", {row['lockers_done']} of {row['lockers_total']} transactions"
        if row["current_locker_pid"]:
            text += f" (now pid {row['current_locker_pid']})"
    elif row["blocks_total"]:
        text += (
            f", {format_share(row['blocks_done'] / row['blocks_total'])} of {format_count(row['blocks_total'])} blocks"
        )
    elif row["tuples_total"]:
        text += (
            f", {format_share(row['tuples_done'] / row['tuples_total'])} of {format_count(row['tuples_total'])} rows"
        )
    return text


def free_bytes(data_directory: str | None, *, local: bool) -> int | None:
    """Free space where a server of this machine keeps its data; None where nobody here can tell."""
    if not local or data_directory is None:
        return None
    try:
        return shutil.disk_usage(Path(data_directory)).free
    except OSError:
        return None


def _sql(conn: asyncpg.Connection[Any], name: str) -> str:
    return collector(name, (conn.get_server_version().major,))
