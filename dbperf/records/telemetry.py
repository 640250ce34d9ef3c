"""What the target's processes, the machine and PostgreSQL did during a load, on the load's clock, once a second."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from dbperf.records.base import Document, Record


class ProcessSample(Record, frozen=True, kw_only=True):
    pid: int
    name: str
    cpu_share: float
    """Of one core since the sample before; above 1 where it used several."""
    rss_bytes: int
    threads: int
    file_descriptors: int | None = None
    """None where the system does not tell (another user's process)."""
    context_switches_per_s: float | None = None


class MachineSample(Record, frozen=True, kw_only=True):
    cpu_share: float
    """Of all cores, 0..1."""
    steal_share: float | None = None
    """Time in which the hypervisor ran something else, 0..1."""
    others_share: float | None = None
    """Of all cores, 0..1: what belongs neither to dbperf nor to the target and its database, other machines on the same
    host included; None where those are not all dbperf's own."""
    piece_ms: float | None = None
    """Processor time of a piece of work that is always the same (mean over the second): how fast the processors are
    just then. `dbperf.load.pace`; None in older runs."""
    memory_available_bytes: int
    disk_read_bytes_per_s: float | None = None
    disk_written_bytes_per_s: float | None = None
    network_sent_bytes_per_s: float | None = None
    network_received_bytes_per_s: float | None = None


class Blocker(Record, frozen=True, kw_only=True):
    """A session that waited for another's lock."""

    blocked_pid: int
    blocking_pid: int
    blocked_s: float
    """How long it had waited when the sample was taken."""
    blocked_query: str
    blocking_query: str
    """Literals masked."""


class PostgresSample(Record, frozen=True, kw_only=True):
    """Counters are increases since the sample before."""

    active_sessions: int
    idle_in_transaction: int
    connections: int
    """Client connections of all databases."""
    max_connections: int
    """Without those reserved for superusers."""
    waits: dict[str, int] = {}
    """Wait event ("Lock:transactionid", "IO:DataFileRead"; "CPU" for none) to active sessions in it."""
    locks_waiting: int
    blockers: list[Blocker] = []
    commits: int
    rollbacks: int
    deadlocks: int
    temp_bytes: int
    wal_bytes: int | None = None
    checkpoints: int | None = None


class TelemetrySample(Record, frozen=True, kw_only=True):
    at_s: float
    """Since the load's start."""
    processes: list[ProcessSample] = []
    machine: MachineSample
    postgres: PostgresSample | None = None


class Telemetry(Document, frozen=True, kw_only=True):
    """`telemetry.json`."""

    kind: ClassVar[str] = "telemetry"
    file_name: ClassVar[str] = "telemetry.json"

    started_at: datetime
    samples: list[TelemetrySample]
    pool_size: int | None = None
    """Connections that the target's own pools may open together, where it is known."""
    notes: list[str] = []
    """What could not be watched, and why."""
