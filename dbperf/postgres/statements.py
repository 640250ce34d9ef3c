"""Snapshots of pg_stat_statements. `delta` (statement_delta.py) turns two of them into statistics of the window."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any

import asyncpg

from dbperf.errors import CapabilityError
from dbperf.postgres.collect import collector, parse_version
from dbperf.postgres.statement_delta import Accumulation, delta
from dbperf.records.base import Record
from dbperf.records.statements import StatementKey

__all__ = ["Accumulation", "Entry", "Snapshot", "delta", "entry_key", "snapshot"]

OLDEST = (1, 8)


class Entry(Record, frozen=True, kw_only=True):
    """One row of pg_stat_statements: counters since the entry began. None: the extension's version has no such column.

    `queryid` is None for other roles' entries where this role lacks pg_read_all_stats.
    """

    user_id: int
    database_id: int
    queryid: int | None
    toplevel: bool = True
    plans: int
    planning_ms: float
    calls: int
    total_ms: float
    min_ms: float
    max_ms: float
    stddev_ms: float
    rows: int
    shared_blks_hit: int
    shared_blks_read: int
    shared_blks_dirtied: int
    shared_blks_written: int
    local_blks_hit: int
    local_blks_read: int
    local_blks_dirtied: int
    local_blks_written: int
    temp_blks_read: int
    temp_blks_written: int
    blk_read_ms: float
    blk_write_ms: float
    local_blk_read_ms: float | None = None
    local_blk_write_ms: float | None = None
    temp_blk_read_ms: float | None = None
    temp_blk_write_ms: float | None = None
    wal_records: int
    wal_fpi: int
    wal_bytes: int
    wal_buffers_full: int | None = None
    jit_functions: int | None = None
    jit_ms: float | None = None
    parallel_workers_to_launch: int | None = None
    parallel_workers_launched: int | None = None
    stats_since: datetime | None = None
    minmax_stats_since: datetime | None = None


class Snapshot(Record, frozen=True, kw_only=True):
    """pg_stat_statements at one moment, with what decides whether it compares with another."""

    at: datetime
    """The server's clock."""
    monotonic_s: float
    """dbperf's monotonic clock."""
    took_ms: float
    """What reading it took, the client's side included."""
    extension_version: str
    server_started_at: datetime
    all_databases: bool
    database_id: int
    sees_all: bool
    """This role sees other roles' statements (pg_read_all_stats)."""
    entries_in_use: int
    """In all databases, beside the setting pg_stat_statements.max."""
    evictions: int | None = None
    reset_at: datetime | None = None
    settings: dict[str, str]
    databases: dict[int, str]
    users: dict[int, str]
    active_ms: dict[int, float]
    """Active time of each database's sessions since its statistics began (pg_stat_database)."""
    entries: dict[StatementKey, Entry]
    hidden: dict[tuple[int, int, bool], list[Entry]]
    """Entries without a queryid, by user, database and toplevel."""
    texts: dict[StatementKey, str]
    texts_error: str | None = None
    """Why there are no texts."""


def entry_key(row: Any) -> StatementKey:
    return StatementKey(
        user_id=row["user_id"],
        database_id=row["database_id"],
        queryid=row["queryid"],
        toplevel=row.get("toplevel", True),
    )


async def snapshot(
    conn: asyncpg.Connection,
    *,
    since: Snapshot | None = None,
    texts: bool = True,
    known_texts: Collection[StatementKey] = (),
    all_databases: bool = False,
) -> Snapshot:
    """Reads pg_stat_statements once: the connection's database, or all of them.

    Args:
        conn: dbperf's connection; its own statements are told by a comment and left out of deltas.
        since: texts are read only of entries that moved since this snapshot.
        texts: False leaves the texts out, for the first snapshot of a window.
        known_texts: entries whose texts are known already and not read again.
        all_databases: not only the connection's database.

    Raises:
        CapabilityError: the extension is missing, too old or not preloaded.
        asyncpg.PostgresError, OSError: the connection broke.
    """
    started = time.monotonic()
    version_text, schema = await _extension(conn)
    version = parse_version(version_text)

    def query(name: str) -> str:
        return collector(name, version).replace("{schema}", schema)

    try:
        state = await conn.fetchrow(query("pg_stat_statements_state"))
    except asyncpg.ObjectNotInPrerequisiteStateError as e:
        raise CapabilityError(
            "pg_stat_statements is installed but not preloaded, so it counts nothing",
            hint="add it to shared_preload_libraries and restart the server",
        ) from e
    assert state is not None
    database_id = None if all_databases else state["database_id"]
    rows = await conn.fetch(query("pg_stat_statements"), database_id)
    read = time.monotonic()
    entries: dict[StatementKey, Entry] = {}
    hidden: dict[tuple[int, int, bool], list[Entry]] = {}
    for row in rows:
        entry = Entry(**dict(row.items()))
        if entry.queryid is None:
            hidden.setdefault((entry.user_id, entry.database_id, entry.toplevel), []).append(entry)
        else:
            entries[entry_key(row)] = entry
    found: dict[StatementKey, str] = {}
    error = None
    if texts:
        wanted = None
        if since is not None:
            moved = {k for k, e in entries.items() if _moved(since.entries.get(k), e)}
            wanted = sorted({k.queryid for k in moved.difference(known_texts)})
        found, error = await _texts(conn, query("pg_stat_statements_text"), database_id, wanted)
    return Snapshot(
        at=state["at"],
        monotonic_s=read,
        took_ms=(time.monotonic() - started) * 1000,
        extension_version=version_text,
        server_started_at=state["server_started_at"],
        all_databases=all_databases,
        database_id=state["database_id"],
        sees_all=state["sees_all"],
        entries_in_use=state["entries"],
        evictions=state.get("evictions"),
        reset_at=state.get("reset_at"),
        settings=_map(state["settings"], str),
        databases=_map(state["databases"], int),
        users=_map(state["users"], int),
        active_ms=_map(state["active_ms"], int),
        entries=entries,
        hidden=hidden,
        texts=found,
        texts_error=error,
    )


async def _extension(conn: asyncpg.Connection) -> tuple[str, str]:
    row = await conn.fetchrow(collector("pg_stat_statements_extension", (0,)))
    if row is None:
        raise CapabilityError(
            "the extension pg_stat_statements is not installed in this database",
            hint="CREATE EXTENSION pg_stat_statements; it must also be in shared_preload_libraries",
        )
    if parse_version(row["version"]) < OLDEST:
        raise CapabilityError(
            f"pg_stat_statements is version {row['version']}; dbperf reads 1.8 and newer",
            hint="ALTER EXTENSION pg_stat_statements UPDATE",
        )
    return row["version"], row["schema"]


async def _texts(
    conn: asyncpg.Connection, query: str, database_id: int | None, queryids: list[int] | None
) -> tuple[dict[StatementKey, str], str | None]:
    if queryids == []:
        return {}, None
    try:
        rows = await conn.fetch(query, database_id, None if queryids is None else ",".join(map(str, queryids)))
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError):
        # pg_stat_statements converts every text to this database's encoding, and one that does not fit fails them all.
        return {}, (
            "texts can't be read: a statement of a database in another encoding does not fit this database's encoding"
        )
    return {entry_key(r): r["text"].decode("utf-8", "replace") for r in rows if r["text"] is not None and r["queryid"]
            is not None}, None  # fmt: skip


def _moved(before: Entry | None, after: Entry) -> bool:
    return (
        before is None
        or before.calls != after.calls
        or before.plans != after.plans
        or before.stats_since != after.stats_since
    )


def _map(text: str | None, key: type[Any]) -> dict[Any, Any]:
    return {key(k): v for k, v in json.loads(text or "{}").items() if v is not None}
