"""How good the samples of a benchmark are: what they show themselves, and what the machine did meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from dbperf.records.benchmarks import SampleQuality
from dbperf.stats.samples import modes, neighbours, outliers, warm_up_length

STEAL_WARNING, STEAL_INVALID = 0.02, 0.20
OTHERS_WARNING = 0.30
MHZ_WARNING = 0.10
RESOLUTION_WARNING, RESOLUTION_INVALID = 0.01, 0.20
_THROTTLED = Path("/sys/fs/cgroup/cpu.stat")


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """The machine's counters at a moment. Times in seconds, summed over its CPUs."""

    total_s: float
    idle_s: float
    steal_s: float
    own_s: float
    mhz: float | None
    throttled_s: float | None

    @classmethod
    def now(cls) -> MachineState:
        times = psutil.cpu_times()
        own = psutil.Process().cpu_times()
        mhz = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user as well
        return cls(
            total_s=sum(times) - guest,
            idle_s=times.idle + getattr(times, "iowait", 0.0),
            steal_s=getattr(times, "steal", 0.0),
            own_s=own.user + own.system + own.children_user + own.children_system,
            mhz=mhz.current if mhz else None,
            throttled_s=_throttled_s(),
        )


def judge_samples(
    samples_ms: list[float],
    *,
    iterations: int = 1,
    before: MachineState | None = None,
    after: MachineState | None = None,
    others_expected: bool = False,
) -> SampleQuality:
    """The quality of a series.

    Args:
        samples_ms: in the order in which they were taken.
        iterations: calls per sample.
        before, after: the machine around the series.
        others_expected: other processes do the measured work (a server on this machine): their CPU time is no noise.
    """
    warm_up = warm_up_length(samples_ms)
    steady = samples_ms[warm_up:]
    rho, block = neighbours(steady)
    median_ms = float(np.median(steady)) if steady else 0.0
    resolution_ms = time.get_clock_info("perf_counter").resolution * 1e3 / iterations
    resolution = resolution_ms / median_ms if median_ms > 0 else None
    steal = others = drop = None
    warnings: list[str] = []
    invalid: list[str] = []
    if before is not None and after is not None:
        steal, others, drop, warnings, invalid = _between(before, after, others_expected=others_expected)
    if median_ms <= 0:
        invalid.append("the samples are all zero: the clock did not move")
    if resolution is not None and resolution > RESOLUTION_WARNING:
        text = f"the clock's resolution is {resolution:.0%} of the median"
        (invalid if resolution > RESOLUTION_INVALID else warnings).append(text)
    if warm_up:
        warnings.append(f"the first {warm_up} samples are slower: taken for a warm-up and left out")
    if rho is not None and block > 1:
        warnings.append(f"neighbouring samples resemble each other (autocorrelation {rho:.2f}): intervals are widened")
    if (groups := modes(steady)) > 1:
        warnings.append("the samples fall into two groups: one percentile does not describe them")
    return SampleQuality(
        warm_up=warm_up, autocorrelation=rho, block=block, modes=groups, outliers=outliers(steady),
        clock_resolution_share=resolution, cpu_steal_share=steal, cpu_busy_other_share=others,
        cpu_mhz_drop_share=drop, warnings=warnings, invalid=invalid,
    )  # fmt: skip


def machine_remarks(before: MachineState, after: MachineState) -> list[str]:
    """What the machine did meanwhile that makes times less sure, in sentences; servers on it are expected to work."""
    *_, warnings, invalid = _between(before, after, others_expected=True)
    return warnings + invalid


def _between(
    before: MachineState, after: MachineState, *, others_expected: bool
) -> tuple[float | None, float | None, float | None, list[str], list[str]]:
    """Shares of stolen CPU time, of others' and of the clock's fall; what weakens and what invalidates figures."""
    steal = others = drop = None
    throttled = False
    if (total := after.total_s - before.total_s) > 0.05:
        steal = max(0.0, after.steal_s - before.steal_s) / total
        busy = total - (after.idle_s - before.idle_s) - (after.steal_s - before.steal_s)
        others = min(1.0, max(0.0, busy - (after.own_s - before.own_s)) / total)
        if before.mhz and after.mhz:
            drop = max(0.0, 1 - after.mhz / before.mhz)
        throttled = bool(
            before.throttled_s is not None and after.throttled_s and after.throttled_s > before.throttled_s
        )
    warnings: list[str] = []
    invalid: list[str] = []
    if steal is not None and steal > STEAL_WARNING:
        text = f"{steal:.0%} of the CPU time was stolen by other guests of the machine"
        (invalid if steal > STEAL_INVALID else warnings).append(text)
    if others is not None and others > OTHERS_WARNING and not others_expected:
        warnings.append(f"other processes used {others:.0%} of the CPUs")
    if throttled:
        warnings.append("the CPU quota of this container was used up: the process was throttled")
    if drop is not None and drop > MHZ_WARNING:
        warnings.append(f"the clock rate fell by {drop:.0%} during the run")
    return steal, others, drop, warnings, invalid


def _throttled_s() -> float | None:
    """For how long the cgroup's quota kept it from running (cgroup v2, cpu.stat)."""
    try:
        lines = _THROTTLED.read_text().split()
    except OSError:
        return None
    found = dict(zip(lines[::2], lines[1::2], strict=False))
    return int(found["throttled_usec"]) / 1e6 if "throttled_usec" in found else None
