"""Sums samples of pg_stat_activity: wait events, statements, open transactions, connections (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from dbperf.postgres.session_text import masked_text
from dbperf.records.base import Record
from dbperf.records.waits import (
    CPU,
    BlockingChain,
    IdleTransaction,
    PoolUse,
    Sampler,
    Session,
    StatementWaits,
    WaitEvent,
    Waits,
)

IDLE_TRANSACTIONS = 20
STATEMENTS = 50
_ACTIVE = frozenset({"active", "fastpath function call"})
_CLIENTS = frozenset({"client backend", "parallel worker", None})
"""Types of backends that work for clients; None: this role may not see it."""
Event = tuple[str, str]


class Row(Protocol):
    """An asyncpg.Record, or a dict in tests."""

    def __getitem__(self, key: str, /) -> Any: ...


class Names(Record, frozen=True, kw_only=True):
    """Names of users and databases by oid."""

    users: dict[int, str]
    databases: dict[int, str]


def session_of(row: Row, names: Names) -> Session:
    """A row of sql/collect/activity* as a record."""
    text = row["text"]
    return Session(
        pid=row["pid"],
        backend_type=row["backend_type"],
        user=names.users.get(row["user_id"]),
        database=names.databases.get(row["database_id"]),
        application_name=row["application_name"],
        state=row["state"],
        queryid=row["queryid"],
        text=masked_text(text) if text else None,
        transaction_ms=ms_between(row["xact_start"], row["at"]),
    )


def ms_between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds() * 1000)


class _Pool:
    def __init__(self) -> None:
        self.connections = self.connections_max = 0
        """The sum over whole samples, and the most seen in any."""
        self.active: list[int] = []
        self.in_transaction: list[int] = []


class WaitTotals:
    """Adds one sample after the other; `result` turns counts into session time."""

    def __init__(self, names: Names, *, database_id: int | None = None) -> None:
        """`database_id`: sessions of other databases count as connections only; None: all are alike."""
        self._names = names
        self._database_id = database_id
        self._samples = self._whole_samples = 0
        self._events: Counter[tuple[int | None, Event]] = Counter()
        self._texts: dict[int | None, bytes] = {}
        self._active_max = self._hidden_max = self._connections_max = 0
        self._idle_in_transaction = 0
        self._open: dict[tuple[int, datetime | None], IdleTransaction] = {}
        self._pools: dict[tuple[str, str | None], _Pool] = defaultdict(_Pool)

    def add(self, rows: Iterable[Row], *, whole: bool = True) -> list[int]:
        """One sample's rows (sql/collect/activity). Returns the pids that wait for a heavyweight lock.

        `whole`: idle, hidden and other databases' sessions are among them.
        """
        self._samples += 1
        self._whole_samples += whole
        active = hidden = connections = 0
        waiting = []
        per_pool: dict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        for row in rows:
            state = row["state"]
            application = row["application_name"] or ""
            if row["backend_type"] not in _CLIENTS or (state == "idle" and application.startswith("dbperf")):
                continue  # another connection of dbperf counts only while it works
            worker = row["backend_type"] == "parallel worker"
            connections += not worker
            if self._database_id is not None and row["database_id"] != self._database_id:
                continue
            pool = per_pool[application, self._names.users.get(row["user_id"])]
            pool["connections"] += not worker
            if state is None:
                hidden += 1
            if state is None or state == "idle":
                continue
            if row["wait_event_type"] == "Lock":
                waiting.append(row["pid"])
            if state in _ACTIVE:
                active += 1
                pool["active"] += not worker
                self._count(row)
            elif state.startswith("idle in transaction"):
                pool["in_transaction"] += 1
                self._idle_in_transaction += 1
                self._opened(row)
        self._active_max = max(self._active_max, active)
        self._hidden_max = max(self._hidden_max, hidden)
        self._connections_max = max(self._connections_max, connections)
        for key, counts in per_pool.items():
            pool_ = self._pools[key]
            pool_.connections_max = max(pool_.connections_max, counts["connections"])
            pool_.connections += counts["connections"] if whole else 0
            pool_.active.append(counts["active"])
            pool_.in_transaction.append(counts["in_transaction"])
        return waiting

    def _count(self, row: Row) -> None:
        event = (row["wait_event_type"] or CPU, row["wait_event"] or CPU)
        self._events[row["queryid"], event] += 1
        if row["queryid"] not in self._texts and row["text"]:
            self._texts[row["queryid"]] = row["text"]

    def _opened(self, row: Row) -> None:
        key = (row["pid"], row["xact_start"])
        known = self._open.get(key)
        idle = ms_between(row["state_change"], row["at"]) or 0.0
        age = ms_between(row["xact_start"], row["at"]) or 0.0
        self._open[key] = IdleTransaction(
            session=session_of(row, self._names),
            longest_idle_ms=max(idle, known.longest_idle_ms if known else 0.0),
            longest_transaction_ms=max(age, known.longest_transaction_ms if known else 0.0),
            samples=1 + (known.samples if known else 0),
        )
        if len(self._open) > 50 * IDLE_TRANSACTIONS:  # a long window sees millions of short ones
            self._open = dict(self._longest_open(IDLE_TRANSACTIONS))

    def _longest_open(self, n: int) -> list[tuple[tuple[int, datetime | None], IdleTransaction]]:
        return sorted(self._open.items(), key=lambda i: i[1].longest_idle_ms, reverse=True)[:n]

    def result(
        self,
        sampler: Sampler,
        *,
        window_s: float,
        blockers: list[BlockingChain],
        max_connections: int | None,
        texts: dict[int, str],
        notes: list[str],
    ) -> Waits:
        """Session time is a state's share of the samples, times the window: missed samples don't shrink it."""
        per_sample_ms = window_s * 1000 / self._samples if self._samples else 0.0
        total = sum(self._events.values())
        by_event: Counter[Event] = Counter()
        by_statement: dict[int | None, Counter[Event]] = defaultdict(Counter)
        for (queryid, event), n in self._events.items():
            by_event[event] += n
            by_statement[queryid][event] += n

        def events(counts: Counter[Event]) -> list[WaitEvent]:
            whole = sum(counts.values())
            return [
                WaitEvent(
                    wait_event_type=kind,
                    wait_event=name,
                    samples=n,
                    session_ms=n * per_sample_ms,
                    share=n / whole,
                )
                for (kind, name), n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
            ]

        ranked = sorted(by_statement.items(), key=lambda i: -i[1].total())[:STATEMENTS]
        return Waits(
            sampler=sampler,
            active_session_ms=total * per_sample_ms,
            active_sessions_mean=total / self._samples if self._samples else 0.0,
            active_sessions_max=self._active_max,
            idle_in_transaction_ms=self._idle_in_transaction * per_sample_ms,
            hidden_sessions_max=self._hidden_max,
            events=events(by_event),
            by_statement=[
                StatementWaits(
                    queryid=queryid,
                    text=self._text(queryid, texts),
                    session_ms=counts.total() * per_sample_ms,
                    share=counts.total() / total,
                    events=events(counts),
                )
                for queryid, counts in ranked
            ],
            blockers=blockers,
            idle_transactions=[i for _, i in self._longest_open(IDLE_TRANSACTIONS)],
            pools=self._pool_use(),
            connections_max=self._connections_max,
            max_connections=max_connections,
            notes=notes,
        )

    def _text(self, queryid: int | None, texts: dict[int, str]) -> str | None:
        if queryid is not None and queryid in texts:
            return texts[queryid]
        raw = self._texts.get(queryid)
        return masked_text(raw) if raw else None

    def _pool_use(self) -> list[PoolUse]:
        pools = []
        for (application, user), pool in self._pools.items():
            active, in_transaction = (sum(x) / self._samples for x in (pool.active, pool.in_transaction))
            # Connections that come and go between two whole samples were busy ones at least.
            connections = max(pool.connections / max(1, self._whole_samples), active + in_transaction)
            pools.append(
                PoolUse(
                    application_name=application,
                    user=user,
                    connections_mean=connections,
                    connections_max=pool.connections_max,
                    active_mean=active,
                    active_max=max(pool.active),
                    idle_in_transaction_max=max(pool.in_transaction),
                    use_mean=(active + in_transaction) / connections if connections else None,
                )
            )
        return sorted(pools, key=lambda p: (-p.connections_max, p.application_name))
