"""PERF-001..008: P50 and P95 of the four heavy endpoints against the service levels; and the Phase 1-2 endpoints.

A limit is missed when the whole 95 % interval of the percentile lies above it: noise misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dbperf.bench.requests import (
    A_VERSION,
    BODIES,
    CLASSIFY,
    MOST_USED_CASE,
    PERF,
    SEARCH,
    TREE,
    WRITES,
)
from dbperf.bench.target import BenchTarget, one_value
from dbperf.phase3.levels import SERVICE_LEVELS
from dbperf.stats.samples import neighbours, sample_quantile
from dbperf.units import format_ms


@pytest.fixture(scope="session")
def case_id(dbperf_target: BenchTarget) -> str:
    """The most used case."""
    if dbperf_target.dsn is None:
        pytest.skip("the cases to ask for are in the database: give --dsn")
    return str(one_value(dbperf_target.dsn, MOST_USED_CASE))


@pytest.mark.parametrize(("perf", "endpoint", "q"), PERF, ids=[p[0] for p in PERF])
def test_perf(
    perf: str, endpoint: str, q: float, benchmark: Any, benchmark_endpoint: Callable[..., bytes],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if endpoint in WRITES and request.config.getoption("dbperf_url") and not request.config.getoption("dbperf_apply"):
        pytest.skip("it writes to your API: --apply allows it")
    body = BODIES.get(endpoint)
    if body is None:
        body = {"case_id": request.getfixturevalue("case_id"), "limit": 100}
    benchmark_endpoint(endpoint, body, q=q)
    level = next(x for x in SERVICE_LEVELS if x.endpoint == endpoint)
    limit_ms = level.p50_ms if q == 0.5 else level.p95_ms
    if benchmark.stats is None:  # --benchmark-disable
        return
    samples = [x * 1e3 for x in benchmark.stats.stats.data]
    found = sample_quantile(samples, q, block=neighbours(samples)[1])
    assert found.ci_low_ms is not None
    assert limit_ms is not None
    assert found.ci_low_ms <= limit_ms, (
        f"{perf}: P{q * 100:g} of {endpoint} is {format_ms(found.value_ms)} (95 % interval from "
        f"{format_ms(found.ci_low_ms)}), the limit is {format_ms(limit_ms)}"
    )


def test_classify(benchmark_endpoint: Callable[..., bytes]) -> None:
    benchmark_endpoint(CLASSIFY, BODIES[CLASSIFY])


def test_search(benchmark_endpoint: Callable[..., bytes]) -> None:
    benchmark_endpoint(SEARCH, BODIES[SEARCH])


def test_taxonomy_tree(benchmark_endpoint: Callable[..., bytes], dbperf_target: BenchTarget) -> None:
    if dbperf_target.dsn is None:
        pytest.skip("the versions are in the database: give --dsn")
    version = one_value(dbperf_target.dsn, A_VERSION)
    benchmark_endpoint(TREE, path=f"/taxonomy/{version}/tree")
