"""Counters per statement that only grow and whose number is bounded, from snapshots of pg_stat_statements (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from dbperf.monitor.metrics import counter, gauge, one
from dbperf.monitor.top import OTHER, TopCounters
from dbperf.postgres.collect import is_own
from dbperf.postgres.session_text import masked_text
from dbperf.postgres.statement_difference import compare, differences, hidden_difference
from dbperf.postgres.statement_merge import Part
from dbperf.postgres.statements import Snapshot
from dbperf.records.statements import StatementKey

TEXT_LIMIT = 200
FIGURES = (
    "calls", "seconds", "planning_seconds", "rows", "shared_blks_hit", "shared_blks_read", "shared_blks_written",
    "temp_blks_read", "temp_blks_written", "wal_bytes",
)  # fmt: skip


class StatementCounters:
    """The `top` statements by recent time, over all users; one bucket for all others (see `TopCounters`).

    Only statements that clients sent: what a function ran is in its caller.
    """

    def __init__(self, top: int) -> None:
        self._top: TopCounters[int] = TopCounters(top)
        self.members = self._top.members
        """By queryid."""
        self.other = self._top.other
        self.labels: dict[int, str] = {}
        """The members' texts, constants masked, on one line and cut; empty where this role may not see them."""
        self.texts: dict[StatementKey, str] = {}
        self.resets = self.restarts = self.replaced = self.lost = 0
        self.evictions: int | None = 0
        """None: the extension's version can't tell."""
        self.hidden = 0
        """Statements of other roles, active since the last look, that this role may not see."""
        self.last: Snapshot | None = None

    def add(self, now: Snapshot) -> None:
        """The next look. The first one only says from where to count."""
        last, self.last = self.last, now
        self.texts.update(now.texts)
        self.texts = {key: text for key, text in self.texts.items() if key in now.entries}
        if last is None:
            return
        if _of_another_server(last, now):
            # What those statistics hold was not done since the last look: begin again, rather than count it as new.
            self.replaced += 1
            return
        changes = compare(last, now)
        self.resets += changes.reset
        self.restarts += changes.restarted
        known = self.evictions is not None and changes.evictions is not None
        self.evictions = (self.evictions or 0) + (changes.evictions or 0) if known else None
        if not changes.reset:
            self.lost += len(last.entries.keys() - now.entries.keys())
        done: dict[int, Counter[str]] = {}
        for key, part in differences(last, now, changes).items():
            if key.toplevel and not is_own(self.texts.get(key, "")):
                done.setdefault(key.queryid, Counter()).update(_figures(part))
        self._top.choose({queryid: figures["seconds"] for queryid, figures in done.items()})
        self._top.count(done)
        texts = {key.queryid: text for key, text in self.texts.items()}
        self.labels = {q: self.labels.get(q) or _label(texts.get(q, "")) for q in self.members}
        self.hidden, ms, calls = hidden_difference(last, now)
        self.other.update({"seconds": max(0.0, ms) / 1000, "calls": max(0, calls)})

    def families(self, database: str) -> Iterator[Metric]:
        """Counters per member and for all other statements; and what weakens them."""
        for figure in FIGURES:
            family = counter(f"statement_{figure}")
            for queryid, figures in self.members.items():
                family.add_metric([database, str(queryid)], figures[figure])
            family.add_metric([database, OTHER], self.other[figure])
            yield family
        info = gauge("statement_info")
        for queryid in self.members:
            info.add_metric([database, str(queryid), self.labels.get(queryid, "")], 1)
        yield info
        yield one(counter("statements_resets"), self.resets)
        yield one(counter("server_restarts"), self.restarts)
        yield one(counter("server_replacements"), self.replaced)
        yield one(counter("statements_lost"), self.lost)
        if self.evictions is not None:
            yield one(counter("statements_evictions"), self.evictions)
        yield one(gauge("statements_hidden"), self.hidden)
        if self.last is not None:
            yield one(gauge("statements_entries"), self.last.entries_in_use)
            if limit := self.last.settings.get("pg_stat_statements.max"):
                yield one(gauge("statements_max"), float(limit))


def _of_another_server(last: Snapshot, now: Snapshot) -> bool:
    """A failover, or a restored copy: statistics that began at another moment, and not since the last look."""
    if now.database_id != last.database_id:
        return True
    return now.reset_at is not None and now.reset_at != last.reset_at and now.reset_at < last.at


def _label(text: str) -> str:
    return " ".join(masked_text(text.encode()).split())[:TEXT_LIMIT]


def _figures(part: Part) -> dict[str, float]:
    return {
        "calls": part.calls,
        "seconds": part.total_ms / 1000,
        "planning_seconds": part.planning_ms / 1000,
        "rows": part.rows,
        "shared_blks_hit": part.shared_blks_hit,
        "shared_blks_read": part.shared_blks_read,
        "shared_blks_written": part.shared_blks_written,
        "temp_blks_read": part.temp_blks_read,
        "temp_blks_written": part.temp_blks_written,
        "wal_bytes": part.wal_bytes or 0,
    }
