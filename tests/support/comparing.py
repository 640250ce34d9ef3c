"""Run directories made of given latencies, for tests of comparisons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dbperf.records.comparison import Comparison, MetricComparison, MetricVerdict, OverallVerdict, Side
from dbperf.records.load import EndpointLoad, Generator, Load, StageLoad
from dbperf.records.run import Host, LoadProfile, Manifest, Target
from dbperf.records.rundir import RunDirectory
from dbperf.regress.compare import Figures
from dbperf.regress.sources import read_side
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile

START = datetime(2026, 1, 1, tzinfo=UTC)


def lognormal(n: int, *, median_ms: float = 50, sigma: float = 0.4, seed: int = 1) -> Sequence[float]:
    return [float(x) for x in np.random.default_rng(seed).lognormal(np.log(median_ms), sigma, n)]


def make_run(
    path: Path,
    endpoints: dict[str, Sequence[float]],
    *,
    users: int = 10,
    seconds: float = 60,
    errors: dict[str, int] | None = None,
    rate: float | None = None,
    stage: str | None = None,
    **manifest: Any,
) -> Path:
    """A run whose load measured these latencies, in ms, per endpoint."""
    loads = []
    for name, latencies in endpoints.items():
        failed = (errors or {}).get(name, 0)
        latency = Latencies.of_ms(latencies)
        requests = len(latencies) + failed
        per_s = rate if rate is not None else requests / seconds
        loads.append(
            EndpointLoad(
                name=name,
                method=name.split()[0],
                path=name.split()[-1],
                requests=requests,
                errors=failed,
                requests_per_s=per_s,
                requests_per_s_ci=(per_s * 0.97, per_s * 1.03),
                latency=latency.encode(),
                quantiles=[quantile(latency, q) for q in LOAD_QUANTILES],
                mean_ms=None,
                min_ms=None,
                max_ms=None,
            )
        )
    total = sum(e.requests_per_s for e in loads)
    requests = sum(e.requests for e in loads)
    ended = START + timedelta(seconds=requests / total if requests else seconds)
    load = Load(
        suite="s", url="http://127.0.0.1:1", started_at=START, ended_at=ended, complete=True, seconds=[],
        stages=[
            StageLoad(
                name=stage or f"{users} users", model="closed", users=users, started_at=START, ended_at=ended,
                warm_up_s=0, requests=requests, errors=sum(e.errors for e in loads), requests_per_s=total,
                endpoints=loads,
            )
        ],
        generator=Generator(
            engine="locust", processes=1, cpu_share_max=None, loop_lag_max_ms=None, saturated=False
        ),
    )  # fmt: skip
    values: dict[str, Any] = {
        "name": path.name, "status": "complete", "provenance": "measured", "started_at": START,
        "dbperf_version": "0", "command": ["dbperf"], "pid": os.getpid(),
        "host": Host(
            hostname="h", system="Linux 6.1 x86_64", python_version="3.11", cpu_model="EPYC", cpu_count=2,
            memory_bytes=1,
        ),
        "target": Target(url="http://127.0.0.1:1", origin="reference", scale="smoke", workers=1),
        "load_profile": LoadProfile(
            suite="s", model="closed", users=users, duration_s=seconds, warm_up_s=0,
            mix={n: 1 / len(endpoints) for n in endpoints},
        ),
        **manifest,
    }  # fmt: skip
    run = RunDirectory.create(path, Manifest(**values))
    run.write(load)
    return path


def side(path: Path, endpoints: dict[str, Sequence[float]], **more: Any) -> Figures:
    return read_side(make_run(path, endpoints, **more))


def comparison_of(*verdicts: MetricVerdict) -> Comparison:
    """A comparison of one gating metric for each verdict."""
    side = Side(source="a", kind="run", provenance="measured")
    metrics = [
        MetricComparison(
            name=f"GET /{i} p95", subject=f"GET /{i}", metric="p95", kind="latency", unit="ms", direction="lower",
            a=1.0, b=2.0, tolerance="+10 %", evidence="samples", verdict=verdict, gate=True, reason="",
        )
        for i, verdict in enumerate(verdicts)
    ]  # fmt: skip
    overall: OverallVerdict = "fail" if "worse" in verdicts else "pass"
    return Comparison(
        verdict=overall, compared_at=START, a=side, b=side, family=len(metrics), alpha=0.05, metrics=metrics
    )
