"""What each entry of pg_stat_statements did between two snapshots, and how sure that is (pure)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dbperf.postgres.statement_merge import Part
from dbperf.records.base import Record
from dbperf.records.statements import StatementKey

if TYPE_CHECKING:
    from dbperf.postgres.statements import Entry, Snapshot

COUNTERS = (
    "plans", "planning_ms", "calls", "total_ms", "rows",
    "shared_blks_hit", "shared_blks_read", "shared_blks_dirtied", "shared_blks_written",
    "local_blks_hit", "local_blks_read", "local_blks_dirtied", "local_blks_written",
    "temp_blks_read", "temp_blks_written",
    "blk_read_ms", "blk_write_ms", "local_blk_read_ms", "local_blk_write_ms", "temp_blk_read_ms", "temp_blk_write_ms",
    "wal_records", "wal_fpi", "wal_bytes", "wal_buffers_full", "jit_functions", "jit_ms",
    "parallel_workers_to_launch", "parallel_workers_launched",
)  # fmt: skip


class Changes(Record, frozen=True, kw_only=True):
    """What is true of all entries between two snapshots."""

    reset: bool
    restarted: bool
    evictions: int | None


def compare(before: Snapshot, after: Snapshot) -> Changes:
    """What happened to the statistics as a whole; version 1.8 says neither, so it is inferred there."""
    restart = before.server_started_at != after.server_started_at
    if after.evictions is None or before.evictions is None:
        survivors = [
            k for k, was in before.entries.items() if k in after.entries and not restarted(was, after.entries[k])
        ]
        return Changes(
            reset=len(before.entries) > 1 and not survivors,
            restarted=restart,
            evictions=0 if never_full(after) else None,
        )
    reset = before.reset_at != after.reset_at
    # A reset or a crash starts the count of evictions at 0.
    evictions = after.evictions if reset else after.evictions - before.evictions
    return Changes(reset=reset, restarted=restart, evictions=evictions)


def never_full(snapshot: Snapshot) -> bool:
    """Whether the table can't have been full since its last reset: an eviction takes 5 %, at least 10 entries."""
    limit = int(snapshot.settings.get("pg_stat_statements.max", 0))
    return snapshot.entries_in_use < limit - max(10, limit * 5 // 100)


def differences(before: Snapshot, after: Snapshot, changes: Changes) -> dict[StatementKey, Part]:
    """The entries that did something between two snapshots."""
    parts = {}
    evicted = changes.evictions != 0
    for key, now in after.entries.items():
        was = before.entries.get(key)
        note = None
        if was is not None and (changes.reset or restarted(was, now)):
            was, note = None, "counted anew within the window: what it did before that is lost"
        elif was is None and changes.reset:
            note = "counted since the reset within the window"
        elif was is None and changes.evictions:
            note = "entries were evicted within the window: it may have been counted before and lost"
        elif was is not None and evicted and uncertain(was, now):
            note = "entries were evicted within the window: it can't be told whether this one was counted anew"
        if part := difference(key, was, now, note=note):
            parts[key] = part
    return parts


def restarted(was: Entry, now: Entry) -> bool:
    """Whether an entry was thrown out and began anew between two snapshots.

    From 1.11 on an entry says since when it counts. Before that, counters that went down prove it.
    """
    if was.stats_since is not None and now.stats_since is not None:
        return was.stats_since != now.stats_since
    if now.calls < was.calls or now.plans < was.plans or now.total_ms < was.total_ms or now.rows < was.rows:
        return True
    # A life's minimum only falls and its maximum only rises.
    return was.calls > 0 and (now.min_ms > was.min_ms or now.max_ms < was.max_ms)


def uncertain(was: Entry, now: Entry) -> bool:
    """Whether an entry may have begun anew without a trace: before 1.11, when it has since overtaken its old counts.

    A new life that has the old one's minimum or maximum to the last bit is taken as impossible.
    """
    if now.stats_since is not None or was.calls in (0, now.calls):
        return False
    return now.min_ms != was.min_ms and now.max_ms != was.max_ms


def difference(key: StatementKey, was: Entry | None, now: Entry, *, note: str | None) -> Part | None:
    """An entry's own figures in the window; None where it did nothing."""
    counters: dict[str, Any] = {}
    for name in COUNTERS:
        value = getattr(now, name)
        counters[name] = None if value is None else value - ((getattr(was, name) or 0) if was else 0)
    if not counters["calls"] and not counters["plans"]:
        return None
    old = was if was is not None and was.calls else None
    return Part(
        key=key,
        note=note,
        min_ms=now.min_ms,
        max_ms=now.max_ms,
        min_moved=old is None or now.min_ms != old.min_ms,
        max_moved=old is None or now.max_ms != old.max_ms,
        squares=_squares(was, now),
        **counters,
    )


def _squares(was: Entry | None, now: Entry) -> float | None:
    """Sum of squared deviations from the mean over the window's own calls (ms²).

    pg_stat_statements keeps it over the entry's life (Welford). Chan, Golub and LeVeque's formula for two parts,
    solved for the second: M2b = M2 - M2a - d² * na * nb / n, with d the difference of the means.
    """
    whole = now.stddev_ms**2 * now.calls
    if was is None or was.calls == 0:
        return whole
    calls = now.calls - was.calls
    if calls <= 0:
        return None
    mean_before, mean_window = was.total_ms / was.calls, (now.total_ms - was.total_ms) / calls
    squares = whole - was.stddev_ms**2 * was.calls - (mean_window - mean_before) ** 2 * was.calls * calls / now.calls
    # Below a billionth of the whole, rounding of the doubles is all that is left.
    if squares < whole * 1e-9:
        return None if whole > 0 and calls > 1 else 0.0
    return squares


def hidden_difference(before: Snapshot, after: Snapshot) -> tuple[int, float, int]:
    """Active hidden entries (at least), their time and calls: only sums compare, as they have no identity."""
    count, ms, calls = 0, 0.0, 0
    for group, entries in after.hidden.items():
        if not group[2]:
            continue
        was = before.hidden.get(group, [])
        known = {(e.calls, e.total_ms) for e in was}
        moved = sum((e.calls, e.total_ms) not in known for e in entries)
        more = sum(e.calls for e in entries) - sum(e.calls for e in was)
        took = math.fsum(e.total_ms + e.planning_ms for e in entries) - math.fsum(
            e.total_ms + e.planning_ms for e in was
        )
        if more > 0:
            count, ms, calls = count + moved, ms + max(0.0, took), calls + more
    return count, ms, calls


def active_difference_ms(before: Snapshot, after: Snapshot) -> float | None:
    ids = after.active_ms.keys() if after.all_databases else [after.database_id]
    if not all(i in after.active_ms for i in ids):
        return None
    total = 0.0
    for i in ids:
        step = after.active_ms[i] - before.active_ms.get(i, 0.0)
        if step < 0:  # the database's statistics were reset, or lost in a crash
            return None
        total += step
    return total
