"""Verdicts: each of pass, fail and can't tell, for the reason that is given."""

from __future__ import annotations

import msgspec
import pytest

from dbperf.load.generator import Health
from dbperf.load.judge import judge
from dbperf.records.load import EndpointLoad, LeftOut, Load
from dbperf.records.verdicts import LevelVerdict, ServiceLevel
from tests.support.loads import endpoint, load_of, stage


def load(*endpoints: EndpointLoad, saturated: bool = False, left_out: list[LeftOut] | None = None) -> Load:
    return load_of(stage(*endpoints), saturated=saturated, left_out=left_out or [])


def one(measured: Load, **limits: float) -> LevelVerdict:
    verdicts = judge(measured, [ServiceLevel(endpoint="GET /a", **limits)])
    assert len(verdicts.levels) == 1
    assert verdicts.overall == verdicts.levels[0].verdict
    return verdicts.levels[0]


def test_a_limit_that_is_kept_with_room_passes() -> None:
    found = one(load(endpoint([10.0] * 1000)), p99_ms=20)
    assert found.verdict == "pass"
    assert found.observed == pytest.approx(10, rel=1e-3)
    assert found.reason == "0 of 1,000 requests (0 %) took longer than 20 ms; 1.0 % may"


def test_a_limit_that_is_missed_clearly_fails() -> None:
    assert one(load(endpoint([10.0] * 900 + [30.0] * 100)), p95_ms=20).verdict == "fail"


def test_close_to_the_limit_can_not_be_told() -> None:
    found = one(load(endpoint([10.0] * 950 + [30.0] * 50)), p95_ms=20)
    assert found.verdict == "cant_tell"
    assert found.reason.startswith("too close to the limit: 50 of 1,000")


def test_too_few_requests_can_not_be_told_but_a_clear_miss_can() -> None:
    found = one(load(endpoint([10.0] * 100)), p99_ms=20)
    assert (found.verdict, found.reason) == ("cant_tell", "too few requests: 100, 368 are needed")
    assert one(load(endpoint([30.0] * 5)), p95_ms=20).verdict == "fail"


def test_correlated_requests_count_as_fewer() -> None:
    assert one(load(endpoint([10.0] * 1000)), p99_ms=20).verdict == "pass"
    found = one(load(endpoint([10.0] * 1000, effect=10)), p99_ms=20)
    assert found.verdict == "cant_tell"
    assert found.reason == "1000 requests that vary together in time tell as much as 100; 368 are needed"


def test_an_endpoint_that_only_fails_misses_its_latency_too() -> None:
    found = one(load(endpoint([], errors=50)), p95_ms=1000)
    assert (found.verdict, found.reason) == ("fail", "no request succeeded (50 failed: http 500)")


def test_requests_that_never_finished_count_as_slow() -> None:
    assert one(load(endpoint([10.0] * 80, unfinished=20)), p95_ms=20).verdict == "fail"


@pytest.mark.parametrize(
    ("errors", "n", "limit", "verdict"),
    [(0, 10000, 0.001, "pass"), (0, 100, 0.001, "cant_tell"), (50, 1000, 0.01, "fail"), (10, 1000, 0.01, "cant_tell")],
)
def test_error_rates_are_judged_with_their_interval(errors: int, n: int, limit: float, verdict: str) -> None:
    found = one(load(endpoint([10.0] * (n - errors), errors=errors)), error_rate=limit)
    assert found.verdict == verdict
    assert found.observed == errors / n


@pytest.mark.parametrize(("limit", "verdict"), [(80, "pass"), (100, "cant_tell"), (120, "fail")])
def test_throughput_is_judged_with_its_interval(limit: float, verdict: str) -> None:
    assert one(load(endpoint([10.0] * 1000)), requests_per_s=limit).verdict == verdict


def test_a_saturated_generator_judges_nothing() -> None:
    found = one(load(endpoint([10.0] * 1000), saturated=True), p99_ms=20)
    assert (found.verdict, found.reason) == ("cant_tell", "the load generator was the bottleneck: it was full")


def test_levels_for_all_judge_the_requests_together() -> None:
    measured = load(endpoint([10.0] * 500), endpoint([10.0] * 480, errors=20, name="GET /b"))
    verdicts = judge(measured, [ServiceLevel(endpoint="all", error_rate=0.001, requests_per_s=50)])
    assert [(x.endpoint, x.metric, x.verdict) for x in verdicts.levels] == [
        ("all", "error_rate", "fail"),
        ("all", "requests_per_s", "pass"),
    ]
    assert verdicts.unchecked == ["GET /a", "GET /b"]


def test_the_first_pattern_that_matches_holds_and_unmet_levels_are_not_passed() -> None:
    measured = load(
        endpoint([10.0] * 500, name="GET /x/health"), left_out=[LeftOut(endpoint="POST /run", reason="it writes")]
    )
    levels = [
        ServiceLevel(endpoint="GET */health", p50_ms=20),
        ServiceLevel(endpoint="GET /x/*", p50_ms=1),
        ServiceLevel(endpoint="POST /run", p50_ms=20),
        ServiceLevel(endpoint="GET /nowhere", p50_ms=20),
    ]
    verdicts = judge(measured, levels)
    by_endpoint = {x.endpoint: x.verdict for x in verdicts.levels}
    assert by_endpoint == {"GET /x/health": "pass", "GET /nowhere": "cant_tell"}
    assert verdicts.unchecked == ["POST /run (not called: it writes)"]
    assert verdicts.overall == "cant_tell"
    assert judge(msgspec.structs.replace(measured, stages=[]), []).overall == "cant_tell"


def test_a_generator_is_saturated_when_a_tenth_of_its_seconds_were_bad() -> None:
    health = Health()
    for i in range(20):
        health.add(0.99 if i < 3 else 0.3, 2.0, measured=True)
    health.add(1.0, 900.0, measured=False)
    record = health.record("locust")
    assert record.saturated
    assert record.reason == "a generator process filled its core (over 90%) in 3 of 20 s"
    assert record.loop_lag_max_ms == 2.0
    fine = Health()
    for i in range(20):
        fine.add(0.99 if i < 2 else 0.3, 2.0, measured=True)
    assert not fine.record("locust").saturated
