"""py-spy: looks at a Python process from outside, by pid, while a watchdog looks at py-spy and at the process.

py-spy pauses the process for every sample. Where it can't keep up (deep stacks, Python 3.12's asyncio servers at full
load), the pauses become the load: the watchdog then ends it, keeps what was sampled, and goes on at half the rate.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from dbperf.errors import CapabilityError, DbperfError
from dbperf.flame.ops import merge, on_cpu
from dbperf.flame.readers import parse_speedscope
from dbperf.processes import Child
from dbperf.records.stacks import Stacks

DEFAULT_RATE = 100
MIN_RATE = 10
_BEHIND = "behind in sampling"
_BEHIND_S = 1.0
"""py-spy says so when it is a second late."""
_POLL_S = 0.1
_HEALTH_EVERY_S = 0.5
_HEALTH_FACTOR = 3.0
_HEALTH_FLOOR_MS = 20.0
"""A health check that takes three times as long as before, and 20 ms more, three times in a row, is slowed by us."""

Health = Callable[[], "float | None"]
"""Asks the target's health endpoint; milliseconds, or None where it did not answer."""

PTRACE_HINT = (
    "allow it: run as root or the same user, add the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE), or "
    "sysctl kernel.yama.ptrace_scope=0"
)


class PtraceError(CapabilityError):
    """The system does not let this process look into the other."""


def program() -> str:
    """The py-spy executable, of this environment or on PATH.

    Raises:
        CapabilityError: there is none.
    """
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise CapabilityError("py-spy is not installed", hint="install py-spy, or use --engine sampler")
    return found


def record(
    pid: int,
    seconds: float,
    *,
    rate: int = DEFAULT_RATE,
    wall: bool = False,
    gil: bool = False,
    native: bool = False,
    subprocesses: bool = False,
    health: Health | None = None,
    stop: Callable[[], bool] | None = None,
) -> Stacks:
    """Samples a running process and returns its stacks in milliseconds. Blocks for `seconds`.

    Args:
        wall: waiting threads too (py-spy --idle); only threads on the CPU by default.
        gil: only threads that hold the interpreter lock.
        native: frames of C extensions too, where the platform can.
        subprocesses: its children too (the workers of a server).
        health: asked every half second; sampling ends, with a note, where the target slows down by it.
        stop: asked ten times a second; True ends the sampling early.

    Raises:
        PtraceError: not permitted; the hint says what to allow.
        DbperfError: there is no such process, it is not Python, or it ended before the first sample.
    """
    if not psutil.pid_exists(pid):
        raise DbperfError(f"there is no process {pid}", hint="in a container, pids are counted from 1: look inside it")
    options = [
        *(["--idle"] if wall else []), *(["--gil"] if gil else []), *(["--native"] if native else []),
        *(["--subprocesses"] if subprocesses else []),
    ]  # fmt: skip
    parts: list[Stacks] = []
    notes: list[str] = []
    end = time.monotonic() + seconds
    watch = _Health(health)
    with tempfile.TemporaryDirectory(prefix="dbperf-pyspy-") as folder:
        while (left := end - time.monotonic()) > 0.2 or not parts:
            run = _Run(pid, max(0.3, left), rate, options, Path(folder))
            why = run.watch(watch, stop)
            if (part := run.result()) is not None:
                parts.append(part)
            if why == "behind" and rate > MIN_RATE:
                notes.append(f"py-spy fell behind at {rate} samples/s: the rate was halved")
                rate = max(MIN_RATE, rate // 2)
                continue
            if why == "behind":
                notes.append(f"sampling was ended: py-spy fell behind even at {rate} samples/s, and slows the process")
            if why == "health":
                notes.append("sampling was ended: the target's health check had become three times as slow")
            if not psutil.pid_exists(pid) and time.monotonic() < end - 0.3:
                notes.append("the process ended while it was sampled")
            break
    if not parts:
        raise DbperfError(f"process {pid} gave no sample", hint="it was idle (--wall shows waits) or ended at once")
    whole = merge(parts, name=f"process {pid}")
    if not wall:
        whole = on_cpu(whole)
    return _noted(whole, notes, rate, seconds)


def _noted(s: Stacks, notes: list[str], rate: int, seconds: float) -> Stacks:
    import msgspec

    return msgspec.structs.replace(
        s, source="py-spy", rate_per_s=float(rate), duration_s=seconds, notes=[*s.notes, *notes]
    )


class _Run:
    """One py-spy process."""

    def __init__(self, pid: int, seconds: float, rate: int, options: list[str], folder: Path) -> None:
        self.pid = pid
        number = len(list(folder.iterdir()))
        self.out = folder / f"{number}.speedscope"
        self.log = folder / f"{number}.log"
        self.log.touch()
        args = [
            program(), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(rate),
            "--format", "speedscope", "--full-filenames", "--output", str(self.out), *options,
        ]  # fmt: skip
        self.seconds = seconds
        env = {**os.environ, "RUST_BACKTRACE": "0"}
        self.child = Child.start(args, env=env, log=self.log, name="py-spy", stop_signals=(signal.SIGINT,))

    def watch(self, health: _Health, stop: Callable[[], bool] | None) -> str | None:
        """Waits for its end; why it was ended early, or None."""
        deadline = time.monotonic() + self.seconds
        why = None
        while self.child.poll() is None:
            time.sleep(_POLL_S)
            if time.monotonic() > deadline:
                break
            if _BEHIND in self.log.read_text(errors="replace"):
                why = "behind"
            elif health.slow():
                why = "health"
            elif stop is not None and stop():
                why = "stopped"
            if why:
                break
        self.child.stop(grace_s=20)  # SIGINT: it writes what it has
        return why

    def result(self) -> Stacks | None:
        """What it wrote; None where it took no sample.

        Raises:
            PtraceError, DbperfError: it could not look at the process.
        """
        if self.out.exists() and self.out.stat().st_size:
            s = parse_speedscope(self.out.read_bytes(), source=f"py-spy's profile of process {self.pid}")
            return s if s.stacks else None
        said = self.log.read_text(errors="replace")
        if "Permission Denied" in said or "Operation not permitted" in said:
            raise PtraceError(f"no permission to look into process {self.pid}", hint=PTRACE_HINT)
        if "Failed to find python version" in said or "Failed to find a python interpreter" in said:
            raise DbperfError(f"process {self.pid} is not a Python program", hint="give the pid of the Python process")
        if "No such file or directory" in said or not psutil.pid_exists(self.pid):
            raise DbperfError(f"process {self.pid} ended before the first sample")
        first = next((x for x in said.splitlines() if x.startswith("Error")), "")
        if first:
            raise DbperfError(f"py-spy can't sample process {self.pid}: {first.removeprefix('Error: ')}")
        return None


class _Health:
    def __init__(self, ask: Health | None) -> None:
        self.ask = ask
        self.limit_ms = 0.0
        self.bad = 0
        self.next = 0.0
        if ask is not None:
            before = [t for _ in range(5) if (t := ask()) is not None]
            typical = sorted(before)[len(before) // 2] if before else 0.0
            self.limit_ms = max(typical * _HEALTH_FACTOR, typical + _HEALTH_FLOOR_MS)

    def slow(self) -> bool:
        if self.ask is None or time.monotonic() < self.next:
            return False
        self.next = time.monotonic() + _HEALTH_EVERY_S
        took = self.ask()
        self.bad = self.bad + 1 if took is None or took > self.limit_ms else 0
        return self.bad >= 3


def may_trace() -> bool:
    """Whether py-spy may look into this user's processes, tried on one that is started for it."""
    with tempfile.TemporaryDirectory(prefix="dbperf-pyspy-") as folder:
        log = Path(folder) / "log"
        with Child.start([sys.executable, "-c", "import time; time.sleep(10)"], name="a probe") as probe:
            time.sleep(0.2)
            dump = Child.start([program(), "dump", "--pid", str(probe.pid)], log=log, name="py-spy")
            code = dump.wait(10)
            dump.stop()
    return code == 0
