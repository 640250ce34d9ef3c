"""Loads made of given latencies, for tests of what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dbperf.records.load import EndpointLoad, ErrorCount, Generator, LeftOut, Load, LoadSecond, StageLoad
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def endpoint(
    latencies_ms: Sequence[float],
    *,
    errors: int = 0,
    unfinished: int = 0,
    name: str = "GET /a",
    effect: float = 1.0,
    seconds: float = 10,
) -> EndpointLoad:
    latency = Latencies.of_ms(latencies_ms)
    rate = (len(latencies_ms) + errors) / seconds
    return EndpointLoad(
        name=name,
        method="GET",
        path="/a",
        requests=len(latencies_ms) + errors,
        errors=errors,
        errors_by_kind=[ErrorCount(kind="http 500", status=500, message="x", count=errors)] if errors else [],
        requests_per_s=rate,
        requests_per_s_ci=(rate * 0.9, rate * 1.1),
        unfinished=unfinished,
        latency=latency.encode(),
        quantiles=[quantile(latency, q, unfinished=unfinished, design_effect=effect) for q in LOAD_QUANTILES],
        mean_ms=None,
        min_ms=None,
        max_ms=max(latencies_ms, default=None),
    )


def stage(*endpoints: EndpointLoad, name: str = "10 users", users: int = 10, start_s: float = 0) -> StageLoad:
    requests, errors = sum(e.requests for e in endpoints), sum(e.errors for e in endpoints)
    rate = sum(e.requests_per_s for e in endpoints)
    return StageLoad(
        name=name,
        model="closed",
        users=users,
        started_at=NOW + timedelta(seconds=start_s),
        ended_at=NOW + timedelta(seconds=start_s + 10),
        warm_up_s=0,
        requests=requests,
        errors=errors,
        requests_per_s=rate,
        requests_per_s_ci=(rate * 0.9, rate * 1.1),
        endpoints=list(endpoints),
    )


def load_of(
    *stages: StageLoad,
    saturated: bool = False,
    left_out: Sequence[LeftOut] = (),
    seconds_all: Sequence[LoadSecond] = (),
) -> Load:
    generator = Generator(
        engine="locust",
        processes=1,
        cpu_share_max=None,
        loop_lag_max_ms=None,
        saturated=saturated,
        reason="it was full" if saturated else None,
    )
    return Load(
        suite="s",
        url="http://x",
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=10),
        complete=True,
        stages=list(stages),
        seconds=[],
        seconds_all=list(seconds_all),
        generator=generator,
        left_out=list(left_out),
    )


def second(at_s: float, ms: float | None, *, stage: str = "10 users", phase: str = "measured") -> LoadSecond:
    return LoadSecond(
        at_s=at_s, stage=stage, endpoint="all", users=10, requests=10, errors=0, p50_ms=ms, p95_ms=ms, p99_ms=ms,
        max_ms=ms, phase=phase,
    )  # fmt: skip
