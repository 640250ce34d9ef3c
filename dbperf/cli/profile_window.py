"""The window of `dbperf profile`: seconds, a command, or Ctrl-C, whichever ends it first."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dbperf.processes import Child

if TYPE_CHECKING:
    from dbperf.postgres.profile import Profiler
    from dbperf.records.profile import Profile

POLL_S = 0.02


async def run_window(profiler: Profiler, *, limit_s: float | None, command: str | None) -> Profile:
    """Profiles until the time is up, the command has ended, or somebody interrupts; always ends with a profile.

    Raises:
        ConnectError, CapabilityError: the window could not be opened.
    """
    stopping = asyncio.Event()
    profiler.command = command
    await profiler.start()  # Ctrl-C cancels this: a server may let one wait, and nothing is measured yet
    with _interruptions(stopping):
        child: Child | None = None
        try:
            if command is not None:
                child = _started(command)
            await _until(profiler, child, stopping, limit_s)
        finally:
            if child is not None:
                # In a thread: a command that ignores SIGTERM must not hold up the sampler.
                await asyncio.to_thread(child.stop, 3)
            done = await profiler.stop()
    return done


def _started(command: str) -> Child:
    # Its output must not mix with the profile on stdout.
    return Child.start(["/bin/sh", "-c", f"exec 2>&1\n{command}"], stdout=sys.stderr.fileno(), name="the command")


async def _until(profiler: Profiler, child: Child | None, stopping: asyncio.Event, limit_s: float | None) -> None:
    deadline = None if limit_s is None else time.monotonic() + limit_s
    while True:
        if stopping.is_set():
            profiler.ended = "interrupted"
            return
        if child is not None and (code := child.poll()) is not None:
            profiler.command_exit_code = code
            if code != 0:
                profiler.ended = "command failed"
            return
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            if child is not None:
                profiler.ended = "time limit"
            return
        wait = POLL_S if child is not None else left
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), timeout=wait if left is None or wait is None else min(wait, left))


@contextmanager
def _interruptions(stopping: asyncio.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the window, the second one dbperf."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        stopping.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
