"""Error budgets and how fast they burn: known requests in, known rates out."""

from __future__ import annotations

from dbperf.monitor.levels import LevelCounters, objectives_of
from dbperf.records.verdicts import ServiceLevel

LEVEL = ServiceLevel(endpoint="GET /orders*", p95_ms=300, error_rate=0.001)


def samples(levels: LevelCounters, metric: str) -> dict[tuple[str, ...], float]:
    found = {f.name: f for f in levels.families()}[metric]
    return {tuple(s.labels.values()): s.value for s in found.samples if not s.name.endswith("_created")}


def request(levels: LevelCounters, endpoint: str, *, ms: float = 1.0, failed: bool = False, times: int = 1) -> None:
    timed = 0 if failed else times
    levels.add(
        "app", endpoint, requests=times, errors=times - timed, timed=timed,
        within=lambda limit_ms: timed if ms <= limit_ms else 0,
    )  # fmt: skip


def test_percentiles_and_error_rates_are_objectives_and_a_throughput_is_none() -> None:
    level = ServiceLevel(endpoint="all", p50_ms=100, p99_ms=2000, error_rate=0.005, requests_per_s=50)
    assert [(o.budget, o.limit_ms) for o in objectives_of(level)] == [(0.5, 100), (0.01, 2000), (0.005, None)]
    assert objectives_of(ServiceLevel(endpoint="all", error_rate=0.0)) == []


def test_a_request_counts_for_the_first_level_that_fits_and_for_all() -> None:
    whole = ServiceLevel(endpoint="all", p99_ms=1000)
    levels = LevelCounters([LEVEL, whole, ServiceLevel(endpoint="GET *", p50_ms=1)], most=10)
    request(levels, "GET /orders/{id}", ms=400, times=3)
    request(levels, "GET /orders/{id}", failed=True)
    request(levels, "GET /other", ms=1500)
    request(levels, "POST /nobody", ms=5)
    assert samples(levels, "dbperf_slo_requests") == {
        ("app", "GET /orders/{id}", "p95 < 300 ms"): 3,  # what failed at once has no latency
        ("app", "GET /orders/{id}", "errors < 0.1 %"): 4,
        ("app", "GET /other", "p50 < 1 ms"): 1,
        ("app", "all", "p99 < 1 s"): 5,
    }
    assert samples(levels, "dbperf_slo_bad_requests") == {
        ("app", "GET /orders/{id}", "p95 < 300 ms"): 3,
        ("app", "GET /orders/{id}", "errors < 0.1 %"): 1,
        ("app", "GET /other", "p50 < 1 ms"): 1,
        ("app", "all", "p99 < 1 s"): 1,
    }


def test_the_burn_rate_of_each_window() -> None:
    levels = LevelCounters([LEVEL], most=10)
    # Eight hours, a look a minute: 1 % of 100 requests a minute is slow, in the last five minutes half of them.
    for minute in range(8 * 60 + 1):
        slow = 50 if minute > 8 * 60 - 5 else 1
        request(levels, "GET /orders", ms=500, times=slow)
        request(levels, "GET /orders", ms=10, times=100 - slow)
        levels.tick(60.0 * minute)
    burn = {k[-1]: v for k, v in samples(levels, "dbperf_slo_burn_rate").items() if k[2] == "p95 < 300 ms"}
    assert burn["5m"] == 0.5 / 0.05
    assert abs(burn["30m"] - (5 * 50 + 25 * 1) / 3000 / 0.05) < 1e-9
    assert abs(burn["1h"] - (5 * 50 + 55 * 1) / 6000 / 0.05) < 1e-9
    assert abs(burn["6h"] - (5 * 50 + 355 * 1) / 36_000 / 0.05) < 1e-9
    assert abs(burn["3d"] - (5 * 50 + 476 * 1) / 48_100 / 0.05) < 1e-9, "all that was seen"
    assert all(v == 0 for k, v in samples(levels, "dbperf_slo_burn_rate").items() if k[2] == "errors < 0.1 %")


def test_a_window_without_requests_has_no_rate() -> None:
    levels = LevelCounters([LEVEL], most=10)
    request(levels, "GET /orders", ms=500)
    levels.tick(0.0)
    levels.tick(2 * 3600.0)
    assert {k[-1] for k in samples(levels, "dbperf_slo_burn_rate")} == {"6h", "3d"}


def test_three_days_of_looks_take_little_memory() -> None:
    levels = LevelCounters([ServiceLevel(endpoint="all", error_rate=0.01)], most=10)
    request(levels, "GET /a", times=100)
    for look in range(0, 4 * 86_400, 120):
        levels.tick(float(look))
    (history,) = levels._history.values()
    assert len(history._fine) + len(history._coarse) < 500


def test_the_number_of_endpoints_is_bounded() -> None:
    levels = LevelCounters([ServiceLevel(endpoint="*", p95_ms=300)], most=3)
    for i in range(1000):
        request(levels, f"GET /{i}")
    found = samples(levels, "dbperf_slo_requests")
    assert {k[1]: v for k, v in found.items()} == {"GET /0": 1, "GET /1": 1, "GET /2": 1, "other": 997}
    assert len(levels._of) == 3
