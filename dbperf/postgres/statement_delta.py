"""Statistics of a window: snapshots of pg_stat_statements, folded one after the other (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbperf.postgres.collect import is_own
from dbperf.postgres.statement_difference import active_difference_ms, compare, differences, hidden_difference
from dbperf.postgres.statement_merge import Part, combine, merged
from dbperf.records.statements import OrderBy, Statement, StatementKey, Statements, Validity, Window

if TYPE_CHECKING:
    from dbperf.postgres.statements import Snapshot

CLOCK_TOLERANCE_S = 1.0
LOST = "its entry vanished within the window: what it did after dbperf last saw it is lost"


class Accumulation:
    """Sums what statements did from one snapshot to the next.

    Snapshots in between save most of what an eviction, a reset or a crash would lose, and keep what is known when the
    server does not come back.
    """

    def __init__(self, first: Snapshot) -> None:
        self.first = first
        self.last = first
        self.parts: dict[StatementKey, Part] = {}
        self.texts: dict[StatementKey, str] = {}
        self.lost: set[StatementKey] = set()
        self.reset = self.restarted = False
        self.evictions: int | None = 0
        self.hidden, self.hidden_ms, self.hidden_calls = 0, 0.0, 0
        self.active_ms: float | None = 0.0

    def add(self, now: Snapshot) -> None:
        """The next snapshot of the same server."""
        changes = compare(self.last, now)
        for key, part in differences(self.last, now, changes).items():
            self.parts[key] = combine(self.parts[key], part) if key in self.parts else part
        if not changes.reset:
            self.lost.update(self.last.entries.keys() - now.entries.keys())
        self.texts.update(now.texts)
        self.reset = self.reset or changes.reset
        self.restarted = self.restarted or changes.restarted
        known = self.evictions is not None and changes.evictions is not None
        self.evictions = (self.evictions or 0) + (changes.evictions or 0) if known else None
        count, ms, calls = hidden_difference(self.last, now)
        self.hidden, self.hidden_ms = max(self.hidden, count), self.hidden_ms + ms
        self.hidden_calls += calls
        active = active_difference_ms(self.last, now)
        self.active_ms = None if active is None or self.active_ms is None else self.active_ms + active
        self.last = now

    def result(
        self,
        *,
        requests: int | None = None,
        own_active_ms: float = 0.0,
        top: int | None = None,
        order_by: OrderBy = "total",
        notes: tuple[str, ...] = (),
    ) -> Statements:
        """The statistics from the first snapshot to the last; see `delta` for the arguments."""
        own = {k for k, t in self.texts.items() if is_own(t)}
        own_ms = sum(p.total_ms + p.planning_ms for k, p in self.parts.items() if k in own)
        parts = [p for k, p in self.parts.items() if k not in own]
        outer = [p for p in parts if p.key.toplevel]
        listed_ms = sum(p.total_ms + p.planning_ms for p in outer)
        total_ms = listed_ms + self.hidden_ms
        active = None if self.active_ms is None else max(0.0, self.active_ms - max(own_ms, own_active_ms))
        lost = self.lost - own
        parts = [combine_note(p, LOST) if p.key in lost else p for p in parts]
        statements = merged(parts, self.texts, self.last, total_ms=total_ms, requests=requests)
        invalid = sum(not s.valid for s in statements)
        return Statements(
            window=Window(
                started_at=self.first.at,
                ended_at=self.last.at,
                seconds=self.last.monotonic_s - self.first.monotonic_s,
            ),
            validity=self._validity(invalid, len(lost), notes),
            extension_version=self.last.extension_version,
            total_ms=total_ms,
            total_calls=sum(p.calls for p in outer) + self.hidden_calls,
            active_ms=active,
            attributed_share=attributed(listed_ms, self.hidden_ms, active),
            statements=ordered(statements, order_by)[:top],
        )

    def _validity(self, invalid: int, lost: int, more: tuple[str, ...]) -> Validity:
        last = self.last
        notes = list(more)
        if self.restarted:
            notes.append("the server restarted within the window")
        if self.reset:
            notes.append("pg_stat_statements was reset, or lost in a crash, within the window")
        if self.evictions:
            notes.append(
                f"entries were evicted {self.evictions} times within the window: what they counted is lost; "
                f"raise pg_stat_statements.max (now {last.settings.get('pg_stat_statements.max', 'unknown')})"
            )
        if lost:
            notes.append(f"{lost} entries vanished within the window")
        if self.hidden:
            notes.append(
                f"{self.hidden} statements of other roles are hidden from this role: GRANT pg_read_all_stats shows them"
            )
        if last.texts_error:
            notes.append(last.texts_error)
        jump = (last.at - self.first.at).total_seconds() - (last.monotonic_s - self.first.monotonic_s)
        clock = jump if abs(jump) > CLOCK_TOLERANCE_S else None
        if clock:
            notes.append(f"the server's clock moved by {clock:+.1f} s against dbperf's within the window")
        tracking = tracking_notes(last)
        return Validity(
            complete=not (notes or invalid or nothing_counted(last)),
            reset=self.reset,
            restarted=self.restarted,
            evictions=self.evictions,
            lost_statements=lost,
            invalid_statements=invalid,
            hidden_statements=self.hidden,
            hidden_ms=self.hidden_ms,
            clock_change_s=clock,
            settings=last.settings,
            notes=notes + tracking,
        )


def delta(
    before: Snapshot,
    after: Snapshot,
    *,
    requests: int | None = None,
    own_active_ms: float = 0.0,
    top: int | None = None,
    order_by: OrderBy = "total",
) -> Statements:
    """Statistics of the window between two snapshots of the same server.

    Args:
        before, after: `after` must have been taken with texts.
        requests: HTTP requests in the window; fills `calls_per_request`.
        own_active_ms: dbperf's own active time in the window; what pg_stat_statements says of it where that is more.
        top: keeps only the first so many statements; sums cover all.
        order_by: what "first" means.
    """
    window = Accumulation(before)
    window.add(after)
    return window.result(requests=requests, own_active_ms=own_active_ms, top=top, order_by=order_by)


def combine_note(part: Part, note: str) -> Part:
    """The part with one more reason why its figures are incomplete."""
    return combine(part, None, note=note)


def attributed(listed_ms: float, hidden_ms: float, active_ms: float | None) -> float | None:
    """Share of the database's active time that the listed statements account for.

    Active time is what sessions reported so far, so it can lag behind the statements: what all statements took is
    then the better lower bound of it.
    """
    whole = max(active_ms or 0.0, listed_ms + hidden_ms)
    if active_ms is None or whole <= 0:
        return None
    return listed_ms / whole


def ordered(statements: list[Statement], by: OrderBy) -> list[Statement]:
    """Statements, the most expensive first.

    "io" is the time of block reads and writes, and where that is not measured, blocks read and written.
    """

    def io(s: Statement) -> tuple[float, float]:
        times = (s.blk_read_ms, s.blk_write_ms, s.temp_blk_read_ms, s.temp_blk_write_ms, s.local_blk_read_ms)
        blocks = s.shared_blks_read + s.shared_blks_written + s.temp_blks_read + s.temp_blks_written
        return sum(t or 0.0 for t in times), blocks

    keys = {
        "total": lambda s: s.total_ms + (s.planning_ms or 0.0),
        "mean": lambda s: s.mean_ms or 0.0,
        "io": io,
        "temp": lambda s: s.temp_blks_read + s.temp_blks_written,
        "wal": lambda s: s.wal_bytes or 0,
        "planning": lambda s: s.planning_ms or 0.0,
        "rows": lambda s: s.rows,
    }
    return sorted(statements, key=keys[by], reverse=True)


def nothing_counted(last: Snapshot) -> bool:
    return last.settings.get("pg_stat_statements.track") == "none" or last.settings.get("compute_query_id") == "off"


def tracking_notes(after: Snapshot) -> list[str]:
    """What the settings leave out of the figures."""
    settings = after.settings
    track = settings.get("pg_stat_statements.track", "top")
    notes = []
    if track == "none":
        notes.append("pg_stat_statements.track is none: nothing is counted")
    if settings.get("compute_query_id") == "off":
        notes.append("compute_query_id is off: pg_stat_statements counts nothing unless another module gives query ids")
    if track == "all" and after.extension_version == "1.8":
        notes.append(
            "pg_stat_statements 1.8 with track = all can't tell nested statements: their time is counted twice"
        )
    if settings.get("pg_stat_statements.track_utility") == "off":
        notes.append("pg_stat_statements.track_utility is off: COMMIT, COPY, DDL and the like are not counted")
    if settings.get("track_io_timing") == "off":
        notes.append("track_io_timing is off: there are no times of block reads and writes")
    limit = int(settings.get("pg_stat_statements.max", 0))
    if limit and after.entries_in_use >= limit * 0.98:
        notes.append(f"pg_stat_statements is full: {after.entries_in_use} of {limit} entries are in use")
    return notes
