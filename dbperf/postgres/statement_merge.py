"""Entries of pg_stat_statements that are one statement become one row (pure)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from dbperf.postgres.fingerprint import fingerprint, shape
from dbperf.records.base import Record
from dbperf.records.statements import Statement, StatementKey

if TYPE_CHECKING:
    from dbperf.postgres.statements import Snapshot

TEXT_LIMIT = 20_000
"""Characters of a statement's text that a record keeps."""
SUMMED = (
    "rows", "shared_blks_hit", "shared_blks_read", "shared_blks_dirtied", "shared_blks_written",
    "local_blks_hit", "local_blks_read", "local_blks_dirtied", "local_blks_written",
    "temp_blks_read", "temp_blks_written",
)  # fmt: skip
SUMMED_IF_KNOWN = (
    "temp_blk_read_ms", "temp_blk_write_ms", "local_blk_read_ms", "local_blk_write_ms", "blk_read_ms", "blk_write_ms",
    "wal_records", "wal_fpi", "wal_bytes", "wal_buffers_full", "jit_functions", "jit_ms",
    "parallel_workers_to_launch", "parallel_workers_launched",
)  # fmt: skip
TIMED_BY_IO_TIMING = frozenset(n for n in SUMMED_IF_KNOWN if "blk_" in n)


class Part(Record, frozen=True, kw_only=True):
    """One entry's own figures in the window."""

    key: StatementKey
    note: str | None
    """Why the figures are incomplete; None: they are not."""
    min_ms: float
    max_ms: float
    min_moved: bool
    """The minimum is of a call in the window."""
    max_moved: bool
    squares: float | None
    """Sum of squared deviations of its calls' times from their mean (ms²)."""
    plans: int
    planning_ms: float
    calls: int
    total_ms: float
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
    blk_read_ms: float | None
    blk_write_ms: float | None
    local_blk_read_ms: float | None
    local_blk_write_ms: float | None
    temp_blk_read_ms: float | None
    temp_blk_write_ms: float | None
    wal_records: int | None
    wal_fpi: int | None
    wal_bytes: int | None
    wal_buffers_full: int | None
    jit_functions: int | None
    jit_ms: float | None
    parallel_workers_to_launch: int | None
    parallel_workers_launched: int | None


def combine(a: Part, b: Part | None, *, note: str | None = None) -> Part:
    """One entry's figures over two stretches of time, the second of which may be missing."""
    if b is None:
        return msgspec.structs.replace(a, note=_joined([a.note, note]))
    sums = {n: getattr(a, n) + getattr(b, n) for n in ("plans", "planning_ms", "calls", "total_ms", *SUMMED)}
    optional = {n: _sum([getattr(a, n), getattr(b, n)]) for n in SUMMED_IF_KNOWN}
    changes: dict[str, Any] = sums | optional
    anew = b.note is not None  # a new life has its own minimum and maximum
    return msgspec.structs.replace(
        b,
        note=_joined([a.note, b.note, note]),
        min_ms=min(a.min_ms, b.min_ms) if anew else b.min_ms,
        max_ms=max(a.max_ms, b.max_ms) if anew else b.max_ms,
        min_moved=a.min_moved or b.min_moved,
        max_moved=a.max_moved or b.max_moved,
        squares=_squares([p for p in (a, b) if p.calls]),
        **changes,
    )


def merged(
    parts: list[Part],
    texts: dict[StatementKey, str],
    after: Snapshot,
    *,
    total_ms: float,
    requests: int | None,
) -> list[Statement]:
    """Statements by total time, largest first; variants of one statement by the same user and database are summed."""
    groups: dict[tuple[object, ...], list[Part]] = {}
    prints: dict[tuple[object, ...], str] = {}
    for part in parts:
        text = texts.get(part.key)
        known = fingerprint(text) if text else None
        what = (known, shape(text)) if known and text else part.key.queryid
        group = (part.key.user_id, part.key.database_id, part.key.toplevel, what)
        groups.setdefault(group, []).append(part)
        prints[group] = known or f"queryid:{part.key.queryid}"
    statements = [_statement(ps, texts, prints[g], after, total_ms, requests) for g, ps in groups.items()]
    return sorted(statements, key=lambda s: (-(s.total_ms + (s.planning_ms or 0.0)), s.queryid))


def _statement(
    parts: list[Part],
    texts: dict[StatementKey, str],
    known: str,
    after: Snapshot,
    total_ms: float,
    requests: int | None,
) -> Statement:
    # The busiest entry gives the queryid, the shortest text reads best.
    lead = max(parts, key=lambda p: (p.total_ms, p.calls, -p.key.queryid))
    text = min((texts.get(p.key, "") for p in parts), key=lambda t: (len(t), t))
    calls = sum(p.calls for p in parts)
    time_ms = math.fsum(p.total_ms for p in parts)
    plans = sum(p.plans for p in parts)
    planning = math.fsum(p.planning_ms for p in parts)
    planned = plans > 0 or after.settings.get("pg_stat_statements.track_planning") == "on"
    values: dict[str, Any] = {n: sum(getattr(p, n) for p in parts) for n in SUMMED}
    optional: dict[str, Any] = {n: _sum([getattr(p, n) for p in parts]) for n in SUMMED_IF_KNOWN}
    if after.settings.get("track_io_timing") == "off":
        optional = {n: (None if n in TIMED_BY_IO_TIMING and not v else v) for n, v in optional.items()}
    touched = values["shared_blks_hit"] + values["shared_blks_read"]
    note = _joined([p.note for p in parts])
    executed = [p for p in parts if p.calls]
    return Statement(
        queryid=lead.key.queryid,
        fingerprint=known,
        text=_shortened(text) if text else "(text not available)",
        merged=len(parts),
        user=after.users.get(lead.key.user_id),
        database=after.databases.get(lead.key.database_id),
        toplevel=lead.key.toplevel,
        calls=calls,
        total_ms=time_ms,
        mean_ms=time_ms / calls if calls else None,
        min_ms=min((p.min_ms for p in executed), default=None),
        max_ms=max((p.max_ms for p in executed), default=None),
        min_max_of="window" if all(p.min_moved and p.max_moved for p in executed) else "life",
        stddev_ms=_stddev(executed),
        plans=plans if planned else None,
        planning_ms=planning if planned else None,
        share=(time_ms + planning) / total_ms if total_ms > 0 else 0.0,
        calls_per_request=calls / requests if requests else None,
        rows_per_call=values["rows"] / calls if calls else None,
        hit_ratio=values["shared_blks_hit"] / touched if touched else None,
        valid=note is None,
        validity_note=note,
        **values,
        **optional,
    )


def _sum(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _joined(notes: list[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(n for n in notes if n)) or None


def _squares(parts: list[Part]) -> float | None:
    """Sum of squared deviations of all calls from the parts' common mean: within each part, and between means."""
    if not parts or any(p.squares is None for p in parts):
        return None
    calls = sum(p.calls for p in parts)
    mean = math.fsum(p.total_ms for p in parts) / calls
    return math.fsum((p.squares or 0.0) + p.calls * (p.total_ms / p.calls - mean) ** 2 for p in parts)


def _stddev(parts: list[Part]) -> float | None:
    squares = _squares(parts)
    return None if squares is None else math.sqrt(max(0.0, squares) / sum(p.calls for p in parts))


def _shortened(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    return f"{text[:TEXT_LIMIT]} … ({len(text):,} characters)"
