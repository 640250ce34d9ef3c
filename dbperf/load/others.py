"""What else uses the machine's processors while a load runs: two loads beside different company can't be compared."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from statistics import fmean

import psutil

from dbperf.load.telemetry_figures import samples_of
from dbperf.records.load import Load
from dbperf.records.telemetry import Telemetry
from dbperf.units import format_share

TOLERANCE = 0.1
"""Of all processors: a difference beyond it is more than the background hum of a machine."""


class OwnTime:
    """Processor time of processes and all that they have started, from call to call.

    Args:
        roots: their pids; dbperf itself is one where the target and its server are its children.
    """

    def __init__(self, roots: Iterable[int] = ()) -> None:
        self._roots = [os.getpid(), *roots]
        self._used_s: dict[int, float] = {}
        self._at = time.monotonic()

    def share(self) -> float:
        """Of all processors since the last call, 0..1; what processes used that have ended meanwhile is missing."""
        now, before = time.monotonic(), self._used_s
        self._used_s = {}
        for root in self._roots:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(root)
                for p in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        self._used_s[p.pid] = sum(p.cpu_times()[:2])
        used = sum(s - before.get(pid, 0.0) for pid, s in self._used_s.items()) if before else 0.0
        seconds, self._at = max(now - self._at, 1e-3), now
        return used / seconds / (psutil.cpu_count() or 1)


def others_share(load: Load, telemetry: Telemetry) -> float | None:
    """The mean share of all processors (0..1) that others used while a load was measured; None where nobody looked."""
    samples = [s for stage in load.stages for s in samples_of(load, stage, telemetry)]
    shares = [s.machine.others_share for s in samples if s.machine.others_share is not None]
    return fmean(shares) if shares else None


def unlike(first: float | None, second: float | None) -> str | None:
    """Why two loads can't be compared, by the shares that others used during each; None where they can, or nobody
    looked.

    >>> unlike(0.05, 0.62)
    'other programs used 5.0 % of the processors during the first load, and 62 % during the second'
    """
    if first is None or second is None or abs(first - second) <= TOLERANCE:
        return None
    return (
        f"other programs used {format_share(first)} of the processors during the first load, and "
        f"{format_share(second)} during the second"
    )
