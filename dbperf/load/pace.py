"""How fast the processors are during a load: the same small piece of work again and again.

Clocks change with heat, power saving and the company of other cores, and a host's other machines share its execution
units: an idle virtual machine was seen to take 1.0 to 1.4 s for a loop within two hours, and 0.5 s on other days,
without any stolen time. Two loads that ran at different paces differ by that alone. What slows a load down otherwise
(waking up, memory, the disk) is not in it.
"""

from __future__ import annotations

import math
import time
from statistics import median
from typing import NamedTuple

from dbperf.load.telemetry_figures import samples_of
from dbperf.records.load import Load
from dbperf.records.telemetry import Telemetry
from dbperf.stats.distributions import normal_quantile

EVERY_S = 0.1
_STEPS = 3000
_LEAST = 3
_TOLD = 0.05
_MEDIAN_ERROR = 1.4826 * math.sqrt(math.pi / 2)
"""Of a normal sample: its standard deviation from the median deviation, and the median's error from that."""


def piece_ms() -> float:
    """Processor time (ms) of a piece of work: some tenths of a millisecond. Waiting for a processor is not in it."""
    begin, found = time.thread_time_ns(), 0
    for step in range(_STEPS):
        found += step
    return (time.thread_time_ns() - begin) / 1e6


class Pace(NamedTuple):
    """Processor time of a piece of work."""

    median_ms: float
    error_ms: float
    """Standard error, from the median deviation: a second in which something else came between is no pace."""


class Slowdown(NamedTuple):
    """How much more time the same work took in the second of two loads."""

    ratio: float
    low: float
    high: float
    """95 % interval."""


UNKNOWN = Slowdown(1.0, 1.0, 1.0)


def pace_of(load: Load, telemetry: Telemetry) -> Pace | None:
    """The pace while a load was measured; None where too few seconds were watched."""
    samples = [s for stage in load.stages for s in samples_of(load, stage, telemetry)]
    pieces = [s.machine.piece_ms for s in samples if s.machine.piece_ms is not None]
    if len(pieces) < _LEAST:
        return None
    middle = median(pieces)
    return Pace(middle, _MEDIAN_ERROR * median(abs(p - middle) for p in pieces) / math.sqrt(len(pieces)))


def slowdown(first: Pace | None, second: Pace | None) -> Slowdown:
    """The second load's pace over the first's (delta method); `UNKNOWN` where one was not watched.

    >>> slowdown(Pace(0.2, 0.0), Pace(0.25, 0.0))
    Slowdown(ratio=1.25, low=1.25, high=1.25)
    """
    if first is None or second is None:
        return UNKNOWN
    ratio = second.median_ms / first.median_ms
    wide = normal_quantile(0.975) * math.hypot(first.error_ms / first.median_ms, second.error_ms / second.median_ms)
    return Slowdown(ratio, ratio * math.exp(-wide), ratio * math.exp(wide))


def slowdown_words(s: Slowdown) -> str | None:
    """A sentence where it is worth one."""
    if abs(math.log(s.ratio)) < math.log1p(_TOLD):
        return None
    return (
        f"the processors took {s.ratio:.2f} times as long for the same work during the second load "
        f"({s.low:.2f} to {s.high:.2f}): endpoints changed only where that does not explain it"
    )
