"""Whether the load generator itself was the bottleneck."""

from __future__ import annotations

from dbperf.records.load import Generator

CPU_FULL = 0.9
LAG_TOO_LONG_MS = 100.0
BAD_SHARE = 0.1
"""A second that is over one of the limits is bad; a tenth of the measured seconds being bad makes a load invalid."""

LATE_SHARE = 0.01
"""Open model: more late starts than this make a load invalid."""


class Health:
    """Collects a generator process's seconds."""

    def __init__(self) -> None:
        self.cpu_max: float | None = None
        self.lag_max_ms: float | None = None
        self.seconds = 0
        self.full = 0
        self.late = 0
        self.late_starts = 0
        self.requests = 0

    def add(self, cpu_share: float, lag_ms: float, *, measured: bool) -> None:
        """One second: CPU share of one core, and the longest that the event loop was late."""
        if not measured:
            return
        self.seconds += 1
        self.cpu_max = cpu_share if self.cpu_max is None else max(self.cpu_max, cpu_share)
        self.lag_max_ms = lag_ms if self.lag_max_ms is None else max(self.lag_max_ms, lag_ms)
        self.full += cpu_share > CPU_FULL
        self.late += lag_ms > LAG_TOO_LONG_MS

    def record(self, engine: str, processes: int = 1) -> Generator:
        reasons = []
        if self.seconds and self.full > BAD_SHARE * self.seconds:
            reasons.append(
                f"a generator process filled its core (over {CPU_FULL:.0%}) in {self.full} of {self.seconds} s"
            )
        if self.seconds and self.late > BAD_SHARE * self.seconds:
            reasons.append(f"its event loop was over {LAG_TOO_LONG_MS:.0f} ms late in {self.late} of {self.seconds} s")
        if self.late_starts > LATE_SHARE * self.requests:
            reasons.append(f"{self.late_starts} of {self.requests} requests started over 10 ms late")
        return Generator(
            engine=engine,
            processes=processes,
            cpu_share_max=self.cpu_max,
            loop_lag_max_ms=self.lag_max_ms,
            late_starts=self.late_starts,
            saturated=bool(reasons),
            reason="; ".join(reasons) or None,
        )
