"""Runs the steps of a script one by one, each with its tries, waits and clean-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from dbperf.errors import DbperfError, ServerError
from dbperf.indexes.apply_checks import Planned, look
from dbperf.indexes.ddl import CreateIndex
from dbperf.indexes.script import Script, Step
from dbperf.postgres.connect import connected
from dbperf.postgres.index_build import any_lockers, build_progress, lockers, name_state
from dbperf.records.advice import quoted
from dbperf.records.proof import AppliedStatement
from dbperf.units import format_seconds

APPLICATION = "dbperf apply"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_CLEAN_UP_S = 15.0
_POLL_S = 0.5
_LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError,
         asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, OSError)  # fmt: skip
Event = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ApplyOptions:
    """How patient to be."""

    try_s: float | None = None
    """How long to ask for a lock before giving way; None: the file's lock_timeout."""
    wait_s: float = 600.0
    """How long to go on trying, for each statement."""
    dry_run: bool = False
    """Only look."""


@asynccontextmanager
async def worker(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection that writes, without a limit on how long a statement takes."""
    async with connected(
        dsn, read_only=False, statement_timeout_s=0, lock_timeout_s=None, application_name=APPLICATION
    ) as conn:
        with suppress(asyncpg.PostgresError):
            # A server process whose client is gone stops, instead of building on; not every platform can tell.
            await conn.execute("SET client_connection_check_interval = '1s'")
        yield conn


class _FailedError(DbperfError):
    """A statement failed for good; what it left has been dealt with."""


class Applier:
    """Runs steps on `work`, and looks at them from `watch`."""

    def __init__(
        self,
        *,
        dsn: str,
        work: asyncpg.Connection[Any],
        watch: asyncpg.Connection[Any],
        options: ApplyOptions,
        on_event: Event,
        source: str,
        own_names: frozenset[tuple[str, str]],
        undoing: Mapping[tuple[str, str], CreateIndex],
    ) -> None:
        self.dsn, self.work, self.watch, self.options, self.on_event = dsn, work, watch, options, on_event
        self.source, self.own_names, self.undoing = source, own_names, undoing
        self.try_s = 5.0
        self.notes: list[str] = []

    async def settle(self, script: Script) -> None:
        """The file's settings, of which lock_timeout is the length of a try."""
        for name, sql in script.settings.items():
            if name != "statement_timeout":
                await self.work.execute(sql)
        ms = await self.work.fetchval("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")
        self.try_s = self.options.try_s or (ms / 1000 if ms else self.try_s)

    async def look(self, step: Step) -> Planned:
        # Looking takes locks for an instant (ACCESS SHARE), and does not wait long for them.
        await self._lock_timeout(self.try_s)
        try:
            return await look(self.work, step, source=self.source, own_names=self.own_names, undoing=self.undoing)
        except asyncpg.LockNotAvailableError as e:
            raise ServerError(
                f"{self.source}, line {step.line}: its table is locked exclusively", hint="try again when it is free"
            ) from e

    async def run(
        self, steps: Sequence[Step], estimates: dict[tuple[str, str], int]
    ) -> tuple[list[AppliedStatement], str | None]:
        done: list[AppliedStatement] = []
        error: str | None = None
        for number, step in enumerate(steps, 1):
            if error is not None:
                done.append(AppliedStatement(sql=step.sql, name=step.where, outcome="not_reached"))
                continue
            self.on_event(f"{number} of {len(steps)}: {_words(step)}")
            estimated = estimates.get((step.schema, step.name))
            run = _Run(step=step, estimated=estimated)
            start = time.monotonic()
            try:
                await self._step(run)
            except DbperfError as e:
                error = f"{_words(step)}: {e.message}" + (f" ({e.hint})" if e.hint else "")
                run.outcome, run.note = "failed", e.message
            run.elapsed_s = time.monotonic() - start
            done.append(run.record())
        return done, error

    async def _step(self, run: _Run) -> None:
        deadline = time.monotonic() + self.options.wait_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                planned = await self._ready(run, deadline)
                if planned.need == "already":
                    run.outcome, run.note = ("done" if run.tries else "already"), run.note or planned.note
                    await self._finish(run)
                    return
                run.tries += 1
                if planned.need == "repair":
                    await self._remove(run.step, deadline)
                    run.outcome, run.note = "repaired", planned.note
                await self._execute(run.step, planned, deadline)
                await self._finish(run)
                return
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as e:
                left = await self._clean_up(run.step)
                why = await self._in_the_way(run.step, e)
                if time.monotonic() + pause_s > deadline:
                    raise _FailedError(
                        f"gave up after {format_seconds(self.options.wait_s)} and {run.tries} tries: {why}{left}",
                        hint="run the same command again later, or with a longer --wait",
                    ) from e
                self.on_event(f"{why}; next try in {format_seconds(pause_s)}")
                await asyncio.sleep(pause_s)
                run.waited_s += pause_s
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except asyncpg.DiskFullError as e:
                left = await self._clean_up(run.step)
                raise _FailedError(
                    f"the disk is full: {e.message}{left}", hint="make room, then run the same command again"
                ) from e
            except _LOST as e:
                raise _FailedError(
                    f"the connection was lost: {e}",
                    hint="when the server is back, run the same command again: it removes what is left, and goes on",
                ) from e
            except asyncpg.PostgresError as e:
                left = await self._clean_up(run.step)
                raise _FailedError(f"{e.message}{left}", hint=e.hint or "what was done before stays") from e
            except asyncio.CancelledError:
                self.on_event("interrupted: removing what is half built")
                with suppress(DbperfError, asyncpg.PostgresError, OSError, TimeoutError):
                    await asyncio.wait_for(self._after_cancel(run.step), _CLEAN_UP_S)
                raise

    async def _ready(self, run: _Run, deadline: float) -> Planned:
        """What the step needs, after whoever builds the index right now is done."""
        while True:
            planned = await self.look(run.step)
            if planned.need != "wait":
                return planned
            if time.monotonic() > deadline:
                raise _FailedError(
                    f"pid {planned.builder} still builds it",
                    hint=f"wait for it, or end it: SELECT pg_cancel_backend({planned.builder})",
                )
            run.note = planned.note
            assert planned.builder is not None
            self.on_event(f"{planned.note}: {await build_progress(self.watch, planned.builder) or 'waiting'}")
            await asyncio.sleep(_POLL_S)
            run.waited_s += _POLL_S

    async def _execute(self, step: Step, planned: Planned, deadline: float) -> None:
        if not step.concurrently:
            await self._lock_timeout(self.try_s)
            await self.work.execute(step.sql)
            return
        if planned.on is not None:
            await self._probe(planned.on)
        await self._lock_timeout(max(1.0, deadline - time.monotonic()))
        watcher = asyncio.create_task(self._watch(self.work.get_server_pid()))
        try:
            await self.work.execute(step.sql)
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError, *_LOST, asyncpg.PostgresError):
                await watcher

    async def _probe(self, table: tuple[str, str]) -> None:
        """Asks for the lock that a concurrent build takes, in a short try, and gives it back."""
        await self._lock_timeout(self.try_s)
        async with self.work.transaction():
            where = ".".join(quoted(n) for n in table)
            await self.work.execute(f"LOCK TABLE ONLY {where} IN SHARE UPDATE EXCLUSIVE MODE")

    async def _watch(self, pid: int) -> None:
        last = None
        while True:
            await asyncio.sleep(_POLL_S)
            text = await build_progress(self.watch, pid)
            if text is not None and text != last:
                last = text
                self.on_event(text)

    async def _finish(self, run: _Run) -> None:
        """Validates what was built."""
        step = run.step
        if step.create is None:
            return
        state = await name_state(self.watch, step.schema, step.name)
        if state is None:  # the same index under another name was there
            return
        if step.kind == "create" and not state.valid:
            raise _FailedError(f"{step.where} is invalid after its build", hint="run the same command again")
        run.size_bytes = None if state.partitioned else state.size_bytes
        if step.create.has_expressions:
            note = f"run ANALYZE {step.create.schema}.{step.create.table}: it collects statistics of the expression"
            if note not in self.notes:
                self.notes.append(note)

    async def _clean_up(self, step: Step) -> str:
        """Removes an invalid index that a failed build left; says so where that was not possible."""
        if step.kind != "create":
            return ""
        try:
            # What held up the build mostly holds up this as well: the user's patience counts for both.
            await self._remove(step, time.monotonic() + min(_CLEAN_UP_S, self.options.wait_s))
        except (asyncpg.PostgresError, *_LOST):
            return f"; {step.where} is left invalid, and the next run removes it"
        return ""

    async def _remove(self, step: Step, deadline: float) -> None:
        state = await name_state(self.work, step.schema, step.name)
        if state is None or not state.is_index or state.valid or state.partitioned or state.builder is not None:
            return
        await self._lock_timeout(max(1.0, deadline - time.monotonic()))
        await self.work.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {step.where}")

    async def _after_cancel(self, step: Step) -> None:
        """On a connection of its own: the other one is still busy with what was cancelled."""
        with suppress(*_LOST, asyncpg.PostgresError):
            await self.work.close(timeout=3)
        async with worker(self.dsn) as self.work:
            for _ in range(round(_CLEAN_UP_S / _POLL_S)):
                state = await name_state(self.work, step.schema, step.name)
                if state is None or state.builder is None:
                    break
                await asyncio.sleep(_POLL_S)
            await self._clean_up(step)

    async def _in_the_way(self, step: Step, error: asyncpg.PostgresError) -> str:
        if isinstance(error, asyncpg.DeadlockDetectedError):
            return "a deadlock with another session"
        table = (step.create.schema, step.create.table) if step.create else None
        if table is None:
            state = await name_state(self.watch, step.schema, step.name)
            table = state.table if state and state.table else (step.schema, step.name)
        oid = await self.watch.fetchval("SELECT to_regclass($1)::oid::int8", ".".join(quoted(n) for n in table))
        who = await (lockers if step.concurrently else any_lockers)(self.watch, oid) if oid else []
        return (
            f"{'.'.join(table)} is held by {', '.join(who[:3])}" if who else f"a lock on {'.'.join(table)} is not free"
        )

    async def _lock_timeout(self, seconds: float) -> None:
        await self.work.execute(f"SET lock_timeout = {max(1, round(seconds * 1000))}")


@dataclass(kw_only=True)
class _Run:
    """A step while it runs."""

    step: Step
    estimated: int | None
    outcome: Literal["done", "already", "repaired", "failed"] = "done"
    note: str | None = None
    tries: int = 0
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    size_bytes: int | None = None

    def record(self) -> AppliedStatement:
        return AppliedStatement(
            sql=self.step.sql,
            name=self.step.where,
            outcome=self.outcome,
            note=self.note,
            elapsed_s=self.elapsed_s,
            waited_s=self.waited_s,
            tries=self.tries,
            size_bytes=self.size_bytes,
            estimated_bytes=self.estimated,
        )


def _words(step: Step) -> str:
    verb = {"create": "create", "create_parent": "create", "drop": "drop", "attach": "attach to", "setting": "set"}
    return f"{verb[step.kind]} {step.where}"
