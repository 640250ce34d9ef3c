"""Watches the target's processes, the machine and PostgreSQL while a load runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import PurePath
from statistics import fmean
from urllib.parse import urlsplit

import asyncpg
import msgspec
import psutil

from dbperf.errors import DbperfError
from dbperf.load.others import OwnTime
from dbperf.load.pace import EVERY_S, piece_ms
from dbperf.postgres.connect import connected
from dbperf.postgres.load_activity import ActivityWatch
from dbperf.records.telemetry import MachineSample, PostgresSample, ProcessSample, Telemetry, TelemetrySample

STEP_S = 1.0


class Watch:
    """Samples once a second from `start` to `stop`; `telemetry()` gives what there is so far."""

    def __init__(
        self, *, pids: Iterable[int], dsn: str | None, pool_size: int | None = None, all_own: bool = False
    ) -> None:
        self._roots = list(pids)
        self._dsn = dsn
        self._pool_size = pool_size
        self._samples: list[TelemetrySample] = []
        self._notes: list[str] = []
        self._started_at = datetime.now(UTC)
        self._began = time.monotonic()
        self._processes: dict[int, tuple[psutil.Process, float, float, float | None]] = {}
        self._machine = _Machine()
        self._own = OwnTime() if all_own else None
        if not self._roots:
            self._notes.append("the target's processes are not known: not on this machine, or another user's")
        if dsn is None:
            self._notes.append("no database was given (--dsn)")

    @property
    def latest(self) -> TelemetrySample | None:
        return self._samples[-1] if self._samples else None

    def telemetry(self) -> Telemetry:
        return Telemetry(
            started_at=self._started_at,
            samples=list(self._samples),
            pool_size=self._pool_size,
            notes=list(self._notes),
        )

    async def run(self) -> None:
        """Samples until it is cancelled."""
        if self._dsn is None:
            await self._loop(None)
            return
        try:
            async with connected(self._dsn, statement_timeout_s=5) as conn:
                await self._loop(ActivityWatch(conn))
        except DbperfError as e:
            self._notes.append(f"the database could not be watched: {e.message}")
            await self._loop(None)

    async def _loop(self, activity: ActivityWatch | None) -> None:
        due, pieces = time.monotonic(), [piece_ms()]
        while True:
            processes = self._sample_processes()
            machine = self._machine.sample()
            own = self._own.share() if self._own is not None else None
            if machine is not None and own is not None:
                machine = msgspec.structs.replace(machine, others_share=max(0.0, machine.cpu_share - own))
            if machine is not None:
                machine = msgspec.structs.replace(machine, piece_ms=fmean(pieces))
            postgres: PostgresSample | None = None
            if activity is not None:
                try:
                    postgres = await activity.sample()
                except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as e:
                    self._notes.append(f"the database was watched until it failed: {type(e).__name__}: {e}")
                    activity = None
            if machine is not None:
                at_s = time.monotonic() - self._began
                self._samples.append(
                    TelemetrySample(at_s=at_s, processes=processes, machine=machine, postgres=postgres)
                )
            due, pieces = max(due + STEP_S, time.monotonic()), []
            while not pieces or time.monotonic() < due:
                await asyncio.sleep(max(0.0, min(EVERY_S, due - time.monotonic())))
                pieces.append(piece_ms())

    def _sample_processes(self) -> list[ProcessSample]:
        now = time.monotonic()
        found: dict[int, psutil.Process] = {}
        for pid in self._roots:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(pid)
                found |= {p.pid: p for p in (root, *root.children(recursive=True))}
        samples = []
        for pid, process in found.items():
            with contextlib.suppress(psutil.Error), process.oneshot():
                cpu_s = sum(process.cpu_times()[:2])
                switches = float(sum(process.num_ctx_switches()))
                known = self._processes.get(pid)
                self._processes[pid] = (process, now, cpu_s, switches)
                if known is None:
                    continue
                seconds = max(now - known[1], 1e-3)
                samples.append(
                    ProcessSample(
                        pid=pid,
                        name=_name(process),
                        cpu_share=(cpu_s - known[2]) / seconds,
                        rss_bytes=process.memory_info().rss,
                        threads=process.num_threads(),
                        file_descriptors=_descriptors(process),
                        context_switches_per_s=None if known[3] is None else (switches - known[3]) / seconds,
                    )
                )
        return samples


class _Machine:
    def __init__(self) -> None:
        self._before: tuple[float, object, object, object] | None = None

    def sample(self) -> MachineSample | None:
        """The machine since the last call; None from the first."""
        now = (time.monotonic(), psutil.cpu_times(), psutil.disk_io_counters(), psutil.net_io_counters())
        before, self._before = self._before, now
        if before is None:
            return None
        seconds = max(now[0] - before[0], 1e-3)

        def grown(at: int, field: str) -> float | None:
            old, new = getattr(before[at], field, None), getattr(now[at], field, None)
            return None if old is None or new is None else float(new - old)

        def per_s(at: int, field: str) -> float | None:
            change = grown(at, field)
            return None if change is None else change / seconds

        # guest time is part of user time already (proc(5)).
        fields = [f for f in now[1]._fields if not f.startswith("guest")]
        total = sum(grown(1, f) or 0.0 for f in fields) or 1e-9
        idle = (grown(1, "idle") or 0.0) + (grown(1, "iowait") or 0.0)
        steal = grown(1, "steal")
        return MachineSample(
            cpu_share=min(1.0, max(0.0, 1 - idle / total)),
            steal_share=None if steal is None else steal / total,
            memory_available_bytes=psutil.virtual_memory().available,
            disk_read_bytes_per_s=per_s(2, "read_bytes"),
            disk_written_bytes_per_s=per_s(2, "write_bytes"),
            network_sent_bytes_per_s=per_s(3, "bytes_sent"),
            network_received_bytes_per_s=per_s(3, "bytes_recv"),
        )


@asynccontextmanager
async def watching(
    url: str, *, dsn: str | None = None, pids: Iterable[int] | None = None, pool_size: int | None = None,
    all_own: bool = False,
) -> AsyncIterator[Watch]:  # fmt: skip
    """Watches the target of a load while the block runs.

    Args:
        url: the target; its processes are found by the port they listen on, where that is on this machine.
        dsn: the target's database; None: it is not watched.
        pids: the target's processes, where they are known already; their children are watched too.
        pool_size: connections that the target's own pools may open together.
        all_own: the target and its database are children of this process: what others use can be told.
    """
    found = list(pids) if pids is not None else await asyncio.to_thread(listening_pids, url)
    watch = Watch(pids=found, dsn=dsn, pool_size=pool_size, all_own=all_own)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def listening_pids(url: str) -> list[int]:
    """The processes on this machine that listen on a URL's port; none where its host is elsewhere."""
    parts = urlsplit(url)
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return []
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with contextlib.suppress(psutil.Error):
        listening = {
            c.pid for c in psutil.net_connections(kind="tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
        }  # fmt: skip
        # Workers that share the socket with their parent are found as its children.
        return sorted(p for p in listening if not any(a.pid in listening for a in _ancestors(p)))
    return []


def _ancestors(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).parents())
    return []


def _name(process: psutil.Process) -> str:
    """The program; for an interpreter also its module or script. No other argument: it may be a secret."""
    with contextlib.suppress(psutil.Error):
        name, arguments = str(process.name()), process.cmdline()[1:3]
        if arguments[:1] == ["-m"] and len(arguments) == 2:
            return f"{name} -m {arguments[1]}"
        if arguments and name.startswith("python") and not arguments[0].startswith("-"):
            return f"{name} {PurePath(arguments[0]).name}"
        return name
    return "?"


def _descriptors(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error, AttributeError):
        return int(process.num_fds())
    return None
