"""What sessions were doing over a window, from samples of pg_stat_activity."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from dbperf.records.base import Document, Record

CPU = "CPU"
"""The name of "active and waiting for nothing": running, or ready to run and waiting for a processor."""


class WaitEvent(Record, frozen=True, kw_only=True):
    """Time that active sessions spent in one wait event. Session time: two sessions waiting for 1 s are 2 s."""

    wait_event_type: str
    """PostgreSQL's own, or "CPU" where a session waited for nothing."""
    wait_event: str
    samples: int
    session_ms: float
    share: float
    """Of all active session time (0..1)."""


class StatementWaits(Record, frozen=True, kw_only=True):
    """Active session time of one statement, by wait event."""

    queryid: int | None
    """None: the server gave none (compute_query_id is off, or a command outside of any statement)."""
    text: str | None
    """Constants masked."""
    session_ms: float
    share: float
    events: list[WaitEvent]
    """Largest first; shares are of this statement's time."""


class Session(Record, frozen=True, kw_only=True):
    """A server process as dbperf last saw it."""

    pid: int
    """0: a prepared transaction."""
    backend_type: str | None = None
    user: str | None = None
    database: str | None = None
    application_name: str | None = None
    state: str | None = None
    queryid: int | None = None
    text: str | None = None
    """Its current or last statement, constants masked."""
    transaction_ms: float | None = None
    """Age of its transaction."""


class BlockedSession(Record, frozen=True, kw_only=True):
    """One wait for a lock that another session held or was first in line for."""

    session: Session
    lock_type: str | None
    """pg_locks.locktype: relation, transactionid, tuple, advisory, ..."""
    lock_mode: str | None
    relation: str | None
    """The relation that is locked, or holds the locked row."""
    started_at: datetime | None
    """On the server's clock; None where the server did not say."""
    waited_ms: float
    """Until dbperf last saw it wait: short of the whole by one sampling interval at most."""
    ended: bool
    """False: it still waited when dbperf last looked."""
    blocked: list[BlockedSession] = []
    """Who waited for this session."""


class BlockingChain(Record, frozen=True, kw_only=True):
    """A session that made others wait and waited for none itself, and everybody who waited because of it."""

    root: Session
    first_seen_at: datetime
    last_seen_at: datetime
    longest_wait_ms: float
    total_wait_ms: float
    sessions: int
    """Root and blocked ones together."""
    depth: int
    """Sessions on the longest path from the root; 3: A blocks B, B blocks C."""
    cycle: bool = False
    """Everybody waited for everybody: a deadlock before PostgreSQL broke it."""
    blocked: list[BlockedSession]


class IdleTransaction(Record, frozen=True, kw_only=True):
    """A transaction that was open and doing nothing."""

    session: Session
    longest_idle_ms: float
    """Longest stretch without a statement, as seen in samples."""
    longest_transaction_ms: float
    samples: int


class PoolUse(Record, frozen=True, kw_only=True):
    """Connections of one application and user, over the window's samples."""

    application_name: str
    user: str | None
    connections_mean: float
    connections_max: int
    active_mean: float
    active_max: int
    idle_in_transaction_max: int
    use_mean: float | None
    """Share of its connections that were in a transaction or running a statement (0..1)."""


class Sampler(Record, frozen=True, kw_only=True):
    """The sampler's own account: what it was asked for, what it got, what it cost."""

    rate_hz: float
    samples: int
    missed: int
    """Ticks without a sample: the server or dbperf was too slow, or there was no connection."""
    missed_share: float
    gaps: int = 0
    """Times that the connection was lost."""
    sample_ms_mean: float | None
    """Round trip of one sample."""
    sample_ms_max: float | None
    server_ms_mean: float | None
    """Of that, on the server."""
    longest_gap_ms: float | None
    """Longest time between two samples."""


class Waits(Document, frozen=True, kw_only=True):
    """`waits.json`."""

    kind: ClassVar[str] = "waits"
    file_name: ClassVar[str] = "waits.json"

    sampler: Sampler
    active_session_ms: float
    """Sum over all sessions; divided by the window: the mean number of active sessions."""
    active_sessions_mean: float
    active_sessions_max: int
    idle_in_transaction_ms: float
    hidden_sessions_max: int = 0
    """Sessions of other roles whose state this role may not see."""
    events: list[WaitEvent]
    by_statement: list[StatementWaits]
    blockers: list[BlockingChain]
    """The one with the longest wait first."""
    idle_transactions: list[IdleTransaction]
    pools: list[PoolUse]
    connections_max: int
    """Client connections of all databases."""
    max_connections: int | None
    """Those that this role could use: max_connections without the reserved ones."""
    notes: list[str] = []
