"""The database side of a window: what its counters say at two moments, and the difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from dbperf.postgres.collect import collector
from dbperf.records.base import Record
from dbperf.records.database import (
    CheckpointCounters,
    DatabaseActivity,
    DatabaseCounters,
    IndexActivity,
    IoCounters,
    Replica,
    ReplicationSlot,
    Setting,
    TableActivity,
    WalCounters,
)

Row = dict[str, Any]
R = TypeVar("R", bound=Record)
_ONE = ("database", "wal", "checkpoints")
_MANY: dict[str, tuple[str, ...]] = {
    "io": ("backend_type", "object", "context"),
    "tables": ("relid",),
    "indexes": ("indexrelid",),
}
_NOW = ("replicas", "slots")


class Counters(Record, frozen=True, kw_only=True):
    """The server's counters at one moment, by query of `sql/collect/`. Missing: this server has none, or denied."""

    one: dict[str, Row]
    many: dict[str, dict[tuple[Any, ...], Row]]
    now: dict[str, list[Row]]
    facts: Row
    denied: dict[str, str]


async def counters(conn: asyncpg.Connection, *, whole: bool = True, facts: Row | None = None) -> Counters:
    """Reads the counters of the connection's database and server.

    Args:
        conn: dbperf's connection.
        whole: False leaves out what only the window's end needs (replicas, slots).
        facts: those of an earlier look, for one in between: settings and the database's size cost as much as all else.

    Raises:
        asyncpg.PostgresError, OSError: the connection broke. A query that this role may not run is noted instead.
    """
    version = (conn.get_server_version().major,)
    denied: dict[str, str] = {}

    async def rows(name: str) -> list[Row]:
        try:
            query = collector(name, version)
        except LookupError:
            return []
        try:
            return [dict(r.items()) for r in await conn.fetch(query)]
        except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError, asyncpg.UndefinedTableError,
                asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError, asyncpg.FeatureNotSupportedError,
                asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as e:  # fmt: skip
            # Managed services and forks lack single views; the rest of the profile is still worth having.
            denied[name] = str(e)
            return []

    one = {name: found[0] for name in _ONE if (found := await rows(name))}
    many = {name: {tuple(r[k] for k in key): r for r in await rows(name)} for name, key in _MANY.items()}
    now = {name: await rows(name) for name in _NOW} if whole else {}
    if facts is None:
        facts = next(iter(await rows("facts")), {})
    return Counters(one=one, many=many, now=now, facts=facts, denied=denied)


def activity(before: Counters, after: Counters, *, seconds: float) -> DatabaseActivity:
    """What the database did between two moments."""
    notes = [f"{name}: {why}" for name, why in sorted(after.denied.items())]

    def difference(name: str, cls: type[R]) -> R | None:
        was, is_ = before.one.get(name), after.one.get(name)
        if was is None or is_ is None:
            return None
        if reset_at(was) != reset_at(is_) or _fell(was, is_):
            notes.append(f"the server's {name} statistics were reset, or lost in a crash, within the window")
            return None
        return cls(**_differences(was, is_, cls))

    database = after.one.get("database", {})
    found = difference("database", DatabaseCounters)
    return DatabaseActivity(
        database=after.facts.get("database", ""),
        server_version=after.facts.get("server_version", ""),
        size_bytes=after.facts.get("size_bytes"),
        seconds=seconds,
        stats_reset_at=reset_at(database),
        counters=_with_ratio(found),
        wal=difference("wal", WalCounters),
        checkpoints=difference("checkpoints", CheckpointCounters),
        io=_io(before, after),
        tables=_tables(before, after),
        indexes=_indexes(before, after),
        in_recovery=bool(after.facts.get("in_recovery")),
        recovery_lag_ms=after.facts.get("recovery_lag_ms") if after.facts.get("in_recovery") else None,
        replicas=[Replica(**r) for r in after.now.get("replicas", [])],
        slots=[ReplicationSlot(**r) for r in after.now.get("slots", [])],
        settings=[Setting(**s) for s in json.loads(after.facts.get("settings") or "[]")],
        notes=notes,
    )


def reset_at(row: Mapping[str, Any]) -> datetime | None:
    at: datetime | None = row.get("stats_reset")
    return at


def _fell(was: Row, is_: Row) -> bool:
    return any(isinstance(v, int | float) and not isinstance(v, bool) and v < (was.get(k) or 0) for k, v in is_.items())


def _differences(was: Mapping[str, Any], is_: Mapping[str, Any], cls: type[Record]) -> Row:
    """The counters that a record has, as differences; other values as they are now."""
    values = {}
    for name, value in is_.items():
        if name not in cls.__struct_fields__:
            continue
        counter = isinstance(value, int | float) and not isinstance(value, bool)
        values[name] = value - (was.get(name) or 0) if counter else value
    return values


def _with_ratio(found: DatabaseCounters | None) -> DatabaseCounters | None:
    if found is None:
        return None
    values = {f: getattr(found, f) for f in found.__struct_fields__}
    return DatabaseCounters(**{**values, "hit_ratio": _share(found.blks_hit, found.blks_hit + found.blks_read)})


def _io(before: Counters, after: Counters) -> list[IoCounters]:
    rows = []
    for key, is_ in after.many["io"].items():
        was = before.many["io"].get(key, {})
        if _fell(was, is_):
            was = {}
        row = IoCounters(**_differences(was, is_, IoCounters))
        if row.reads or row.writes or row.extends or row.fsyncs or row.hits:
            rows.append(row)
    return sorted(rows, key=lambda r: (-((r.read_ms or 0) + (r.write_ms or 0) + (r.fsync_ms or 0)), -(r.reads or 0)))


_TABLE_COUNTERS = (
    "seq_scans", "seq_rows_read", "index_scans", "index_rows_fetched", "rows_inserted", "rows_updated", "rows_deleted",
    "rows_hot_updated", "blks_read", "blks_hit", "vacuums", "analyzes",
)  # fmt: skip


def _moved(before: Counters, after: Counters, name: str, fields: tuple[str, ...]) -> list[tuple[Row, Row]]:
    """Rows of a per-object query with their own differences, only those that did something."""
    moved = []
    for key, is_ in after.many[name].items():
        was = before.many[name].get(key, {})
        step = {f: is_[f] - was.get(f, 0) for f in fields}
        if any(v < 0 for v in step.values()):  # its statistics were reset: what it did since
            step = {f: is_[f] for f in fields}
        if any(step.values()):
            moved.append((is_, step))
    return moved


def _tables(before: Counters, after: Counters) -> list[TableActivity]:
    tables = []
    for is_, step in _moved(before, after, "tables", _TABLE_COUNTERS):
        tables.append(
            TableActivity(
                schema=is_["schema"],
                relation=is_["relation"],
                seq_rows_per_scan=_share(step["seq_rows_read"], step["seq_scans"]),
                hot_share=_share(step["rows_hot_updated"], step["rows_updated"]),
                live_rows=is_["live_rows"],
                dead_rows=is_["dead_rows"],
                dead_share=_share(is_["dead_rows"], is_["dead_rows"] + is_["live_rows"]),
                size_bytes=is_["size_bytes"],
                last_vacuum_at=is_["last_vacuum_at"],
                last_analyze_at=is_["last_analyze_at"],
                **step,
            )
        )
    return sorted(tables, key=lambda t: (-(t.seq_rows_read + t.index_rows_fetched), t.schema, t.relation))


def _indexes(before: Counters, after: Counters) -> list[IndexActivity]:
    active = {is_["relid"] for is_, _ in _moved(before, after, "tables", _TABLE_COUNTERS)}
    steps = {is_["indexrelid"]: step for is_, step in _moved(before, after, "indexes", _INDEX_COUNTERS)}
    indexes = []
    for is_ in after.many["indexes"].values():
        if is_["relid"] not in active:
            continue
        step = steps.get(is_["indexrelid"], dict.fromkeys(_INDEX_COUNTERS, 0))
        indexes.append(
            IndexActivity(
                schema=is_["schema"],
                relation=is_["relation"],
                index=is_["index"],
                scans_since_reset=is_["scans"],
                size_bytes=is_["size_bytes"],
                unique=is_["is_unique"],
                **step,
            )
        )
    return sorted(indexes, key=lambda i: (-i.scans, i.schema, i.relation, i.index))


_INDEX_COUNTERS = ("scans", "rows_read", "rows_fetched")


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
