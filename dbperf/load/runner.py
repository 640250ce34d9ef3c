"""Runs a load: starts `loadtests/driver.py` as a child process, follows its events, and reads what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import DbperfError, OutputError, RecordError, TargetError, UsageError
from dbperf.load.abort import AbortOnFail
from dbperf.load.data import resolve_data
from dbperf.load.plan import Fleet, Place, driver_plan, select_endpoints, worker_plan
from dbperf.load.probe import checked_url, probe
from dbperf.load.progress import LoadEvent, as_event
from dbperf.load.reader import FILE_NAME, LoadReader
from dbperf.load.suites import with_overrides
from dbperf.records.load import LeftOut, Load
from dbperf.records.suite import Suite
from dbperf.resources import resource

STOP_S = 3.0
_MAY_BE_SET = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's threads for large matrices spin 0.08 s when they start, and the generator's processor time is measured."""
Edge = Callable[[str], Awaitable[None]]
"""Called with the stage's name at an edge of its measured window."""


async def run_load(
    suite: Suite,
    url: str,
    *,
    out_dir: Path,
    headers: Mapping[str, str] | None = None,
    users: int | None = None,
    duration_s: float | None = None,
    warm_up_s: float | None = None,
    data: dict[str, list[Any]] | None = None,
    allow_writes: bool = False,
    verify_tls: bool = True,
    locust_files: bool = True,
    fleet: Fleet | None = None,
    locustfile: Path | None = None,
    stop: asyncio.Event | None = None,
    on_event: Callable[[LoadEvent], None] | None = None,
    on_measuring: Edge | None = None,
    on_measured: Edge | None = None,
    on_partial: Callable[[Load], object] | None = None,
) -> Load:
    """Puts a suite's load on the API at `url` and returns what it measured.

    Args:
        suite: from `load_suite`, or derived from the API (`derive_suite`).
        url: base URL; endpoints' paths are appended.
        out_dir: an existing folder. `load.jsonl` grows there second by second (`read_load` makes a partial Load of
            it), Locust's own CSV and HTML are written beside.
        headers: sent with every request; never written to a file.
        users, duration_s, warm_up_s: replace the suite's own (see `with_overrides`).
        data: values of the suite's data sources; those that are missing and need no database are resolved here.
        allow_writes: also call the endpoints that change data.
        fleet: several processes, here or on other machines, instead of one.
        locustfile: its users make the load in the suite's stages, instead of the suite's endpoints; workers on other
            machines need the same file. What they still
            ask at a window's end is not followed up: only the suite's own users can be asked about that. `headers`
            become the default headers of its FastHttpUsers.
        stop: setting it ends the load within 3 s; the partial Load is returned.
        on_event: progress: what the driver does, and every second.
        on_measuring: awaited just before a stage's measured window opens (the load is already on).
        on_measured: awaited when the window has closed. If either raises, the load ends and the error is raised.
        on_partial: given what was measured where the load ends by an exception: it was cancelled, or one of the
            callbacks failed. Not called where nothing was.

    Raises:
        TargetError: nothing answers at the URL, or the driver failed.
        UsageError, ConfigError: options or suite do not fit.
        OutputError: `out_dir` can't be written.
        asyncio.CancelledError: the driver is stopped (within 3 s); what it wrote stays in `out_dir`.
    """
    url = checked_url(url)
    suite = with_overrides(suite, users=users, duration_s=duration_s, warm_up_s=warm_up_s)
    if locustfile is not None:
        suite = _only_stages(suite, locustfile)
        values: dict[str, list[Any]] = {}
        left_out: list[LeftOut] = []
    else:
        values = {**await resolve_data(suite), **(data or {})}
        suite, left_out = select_endpoints(suite, values, allow_writes=allow_writes)
    await asyncio.to_thread(probe, url, headers=headers, verify_tls=verify_tls)
    file = _prepared(out_dir)
    plan = driver_plan(
        suite, url, values, headers=headers or {}, file=file,
        handshake=on_measuring is not None, verify_tls=verify_tls,
        locust_prefix=str(out_dir / "load_test") if locust_files else None, fleet=fleet,
        locustfile=locustfile,
    )  # fmt: skip
    reader = LoadReader(file, suite, url, left_out=left_out)
    driver = await _Driver.start(plan, out_dir / "load.log")
    workers: list[_Driver] = []
    try:
        for number, place in enumerate(fleet.local if fleet else [], 1):
            assert fleet is not None
            told = worker_plan("127.0.0.1", fleet.port, place, locustfile)
            workers.append(await _Driver.start(told, out_dir / f"load_worker_{number}.log"))
        abort = AbortOnFail(suite, reader.load)
        await driver.follow(reader, stop, on_event, on_measuring, on_measured, abort)
    except BaseException:
        await _end([driver, *workers])
        with contextlib.suppress(RecordError):  # there is nothing to be read before the first second
            reader.catch_up()
            if on_partial:
                on_partial(reader.load())
        raise
    await _end([driver, *workers])
    if driver.problem:
        raise DbperfError(f"the load did not start: {driver.problem}", hint=f"see {out_dir}/load*.log")
    if not file.exists() or not file.stat().st_size:
        raise driver.failure("it wrote nothing")
    reader.catch_up()
    load = reader.load()
    if not load.complete and not (stop and stop.is_set()) and not load.stages:
        raise driver.failure("it ended before it measured anything")
    return load


async def _end(drivers: list[_Driver]) -> None:
    await asyncio.gather(*(d.end() for d in drivers))


async def run_worker(host: str, port: int, place: Place | None, log: Path, *, locustfile: Path | None = None) -> int:
    """Works for a master on another machine until it says that the load has ended; returns the exit code.

    Args:
        locustfile: the same as the master's, where that has one.

    Raises:
        UsageError: there is no such locustfile, or a time is to be added to its requests.
    """
    if locustfile is not None:
        _checked_locustfile(locustfile)
    worker = await _Driver.start(worker_plan(host, port, place, locustfile), log)
    try:
        return await worker.process.wait()
    finally:
        await worker.end()


def _only_stages(suite: Suite, locustfile: Path) -> Suite:
    """The suite's stages, for the users of a locustfile.

    Raises:
        UsageError: the file is missing, or something is asked that only the suite's own users can do.
    """
    _checked_locustfile(locustfile)
    if any(s.users is None for s in suite.stages):
        raise UsageError(
            f"suite {suite.name!r} has an arrival rate, which the users of a locustfile don't follow",
            hint="choose a suite with users",
        )
    return msgspec.structs.replace(suite, endpoints=[], data=[])


def _checked_locustfile(locustfile: Path) -> None:
    if not locustfile.is_file():
        raise UsageError(f"there is no locustfile {locustfile}")


def _prepared(out_dir: Path) -> Path:
    file = out_dir / FILE_NAME
    try:
        file.unlink(missing_ok=True)
        file.touch()
    except OSError as e:
        raise OutputError(f"{out_dir} can't be written: {e.strerror}", hint="choose another with --out") from e
    return file


class _Driver:
    """The child process. It dies with this one: the end of its standard input tells it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.problem: str | None = None
        """Why the load did not start, from the driver's own mouth."""

    @classmethod
    async def start(cls, plan: dict[str, Any], log: Path) -> _Driver:
        script = resource("loadtests/main.py")
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=stderr, start_new_session=True, limit=1 << 26,
                env={**_MAY_BE_SET, **os.environ, "PYTHONUNBUFFERED": "1", "LOCUST_SKIP_UPDATE_CHECK": "1"},
            )  # fmt: skip
        driver = cls(process, log)
        await driver.send(json.dumps(plan))
        return driver

    async def send(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended; follow() notices
            self.process.stdin.write(line.encode() + b"\n")
            await self.process.stdin.drain()

    async def follow(
        self,
        reader: LoadReader,
        stop: asyncio.Event | None,
        on_event: Callable[[LoadEvent], None] | None,
        on_measuring: Edge | None,
        on_measured: Edge | None,
        abort: AbortOnFail,
    ) -> None:
        """Handles events until the driver ends."""
        assert self.process.stdout is not None
        stopping = asyncio.create_task(self._stop_when(stop)) if stop else None
        try:
            while line := await self.process.stdout.readline():
                raw = json.loads(line)
                reader.catch_up()
                if event := as_event(raw):
                    if on_event:
                        on_event(event)
                    if reason := await asyncio.to_thread(abort.failed, event):
                        await self.send(f"stop {reason}")
                if raw["event"] == "failed":
                    self.problem = raw["reason"]
                elif raw["event"] == "ready":
                    if on_measuring:
                        await on_measuring(raw["name"])
                    await self.send("go")
                elif raw["event"] == "measured" and on_measured:
                    await on_measured(raw["name"])
        finally:
            if stopping:
                stopping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await stopping

    async def _stop_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        await self.send("stop")
        await asyncio.sleep(STOP_S)
        self._signal_kill()

    async def end(self) -> None:
        """Sees to it that the process has ended: at once if it has, after 3 s by force if need be."""
        if self.process.returncode is None:
            assert self.process.stdin is not None
            await self.send("stop interrupted")
            self.process.stdin.close()  # for a worker, which knows no commands
            try:
                await asyncio.wait_for(self._drained(), STOP_S)
            except TimeoutError:
                self._signal_kill()
                await self.process.wait()
            except asyncio.CancelledError:
                self._signal_kill()
                raise
        # Closes the pipes now: left to the garbage collector, they would outlive the event loop.
        self.process._transport.close()  # type: ignore[attr-defined]  # asyncio offers no public way

    async def _drained(self) -> None:
        """Waits for the end, reading on so that the driver never blocks on a full pipe."""
        assert self.process.stdout is not None
        while await self.process.stdout.read(1 << 16):
            pass
        await self.process.wait()

    def _signal_kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def failure(self, what: str) -> DbperfError:
        tail = self.log.read_text(errors="replace").strip().splitlines()[-1:] if self.log.exists() else []
        return TargetError(
            f"the load generator failed: {what}", hint="; ".join([*tail, f"its messages are in {self.log}"])
        )
