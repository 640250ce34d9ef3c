"""Events of a running load, for progress displays."""

from __future__ import annotations

from typing import Any, Literal

from dbperf.records.base import Record
from dbperf.stats.hdr import Latencies


class LoadEvent(Record, frozen=True, kw_only=True):
    """`kind` "second" comes once a second and carries the figures; the others mark what the driver does."""

    kind: Literal["ramp", "warm-up", "measuring", "measured", "second", "ended"]
    at: float
    """Seconds since the epoch."""
    stage_index: int
    stage: str | None = None
    phase: str | None = None
    """"ramp", "warm-up", "measured", "drain"."""
    users: int | None = None
    requests_per_s: float | None = None
    errors_per_s: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


def as_event(raw: dict[str, Any]) -> LoadEvent | None:
    """An event from one of the driver's lines; None for those that only the runner needs."""
    kind = raw["event"]
    if kind in ("ramp", "warm-up", "measuring", "measured", "ended"):
        return LoadEvent(
            kind=kind, at=raw["at"], stage_index=raw["stage"], stage=raw.get("name"), users=raw.get("users")
        )
    if kind != "second":
        return None
    total = Latencies()
    for row in raw["series"]:
        if row["latency"]:
            total.add(Latencies.decode(row["latency"]))
    n = total.count
    ranks = [max(1, round(q * n)) for q in (0.5, 0.95, 0.99)]
    p50, p95, p99 = total.at_ranks_ms(ranks).tolist() if n else (None, None, None)
    return LoadEvent(
        kind="second",
        at=raw["at"],
        stage_index=raw["stage"],
        phase=raw["phase"],
        users=raw["users"],
        requests_per_s=float(sum(row["requests"] for row in raw["series"])),
        errors_per_s=float(sum(row["errors"] for row in raw["series"])),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
    )
