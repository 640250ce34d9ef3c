"""Gates: what they mean, what is said of a wrong one, and each verdict for its reason."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from dbperf.errors import ConfigError
from dbperf.load.gate_language import parse_gate
from dbperf.load.gates import judge_gates
from dbperf.load.series import degradation, recovery_s
from dbperf.records.load import Load
from dbperf.records.telemetry import Blocker, MachineSample, PostgresSample, ProcessSample, Telemetry, TelemetrySample
from dbperf.records.verdicts import GateVerdict
from tests.support.loads import NOW, endpoint, load_of, second, stage


def verdict(load: Load, gate: str, telemetry: Telemetry | None = None) -> GateVerdict:
    (found,) = judge_gates(load, [gate], telemetry)
    assert found.expr == gate
    assert found.reason
    return found


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("p95 < 500ms", 500), ("p99.9 <= 1.5s", 1500), ("errors < 1%", 0.01), ("errors <= 0.005", 0.005),
        ("requests > 10", 10), ("rps >= 100", 100), ("recovery(p99) < 30s", 30), ("deadlocks == 0", 0),
        ("blocked < 1s", 1), ("cpu < 80%", 0.8), ("rss < 2GB", 2 << 30), ("pool<80%", 0.8), ("degradation < 10%", 0.1),
    ],
)  # fmt: skip
def test_gates_of_the_documentation_are_understood(text: str, limit: float) -> None:
    gate = parse_gate(text)
    assert gate.limit == pytest.approx(limit)
    assert gate.right is None


def test_a_gate_may_compare_stages_and_name_endpoints() -> None:
    gate = parse_gate('stage("50 users").endpoint("POST /a*").p95 <= 1.5 x stage("10 users").p95')
    assert (gate.left.stage, gate.left.endpoint, gate.operator, gate.factor) == ("50 users", "POST /a*", "<=", 1.5)
    assert gate.right is not None
    assert (gate.right.stage, gate.right.metric) == ("10 users", "p95")
    assert parse_gate('p95 < stage("a").p95').factor == 1


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("p95 < 500", 7, "500 lacks a unit"),
        ("p96 < 5ms", 1, "'p96' is no metric"),
        ("p95 500ms", 5, "one of <= >= == < > was expected, not 500ms"),
        ("", 1, "a metric was expected, not the end"),
        ("p95 < 5ms foo", 11, "nothing more was expected"),
        ("errors < 5", 10, "errors is a share, not 5"),
        ("p95 < 2 x rps", 11, "p95 can't be compared with rps"),
        ("stage(x).p95 < 1s", 7, "a name in quotes"),
        ("p95 < 5sheep", 7, "'5sheep' is not a duration"),
        ("p95 & 3", 5, "'&' does not belong there"),
        ("recovery(max) < 3s", 10, "recovery of 'max' is not known"),
        ('stage("a").stage("b").p95 < 1s', 12, "stage is given twice"),
        ("rss < 2 sheep", 9, "nothing more was expected"),
    ],
)
def test_a_wrong_gate_is_shown_with_the_position(text: str, column: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_gate(text)
    assert f"column {column}: " in caught.value.message
    assert message in caught.value.message


def test_latency_gates_are_judged_with_their_uncertainty() -> None:
    load = load_of(stage(endpoint([10.0] * 950 + [30.0] * 50)))
    assert verdict(load, "p50 < 20ms").verdict == "pass"
    assert verdict(load, "p99 < 20ms").verdict == "fail"
    assert verdict(load, "p95 < 20ms").verdict == "cant_tell"
    assert verdict(load_of(stage(endpoint([10.0] * 20))), "p95 < 20ms").reason == "too few requests: 20, 72 are needed"
    assert verdict(load, "p50 > 5ms").verdict == "pass"
    assert verdict(load, "max < 20ms").verdict == "fail"


def test_a_gate_holds_for_the_worst_stage_and_endpoint_it_names() -> None:
    fine = endpoint([10.0] * 500, name="GET /fine")
    slow = endpoint([90.0] * 500, name="GET /slow")
    load = load_of(stage(fine), stage(fine, slow, name="50 users", users=50, start_s=20))
    found = verdict(load, 'endpoint("GET /*").p95 < 50ms')
    assert (found.verdict, found.stage, found.endpoint) == ("fail", "50 users", "GET /slow")
    assert found.observed == pytest.approx(90, rel=1e-3)
    assert verdict(load, 'stage("10 users").p95 < 50ms').verdict == "pass"
    assert verdict(load, 'stage("50 users").endpoint("GET /fine").p95 < 50ms').verdict == "pass"
    assert verdict(load, "p50 < 95ms").verdict == "pass"


def test_stages_are_compared_with_both_intervals() -> None:
    rng = np.random.default_rng(2)
    base, double = rng.lognormal(3, 0.3, 3000).tolist(), rng.lognormal(3.7, 0.3, 3000).tolist()
    load = load_of(stage(endpoint(base)), stage(endpoint(double), name="50 users", users=50, start_s=20))
    gate = 'stage("50 users").p95 <= {} x stage("10 users").p95'
    assert [verdict(load, gate.format(x)).verdict for x in (1.5, 2.01, 2.5)] == ["fail", "cant_tell", "pass"]
    found = verdict(load, gate.format(1.5))
    assert found.limit is not None
    assert found.observed is not None
    assert found.observed / found.limit == pytest.approx(2.01 / 1.5, rel=0.05)
    missing = verdict(load, 'p95 < 2 x stage("11 users").p95')
    assert (missing.verdict, missing.limit) == ("cant_tell", None)
    assert "stage '11 users' was not measured (measured: '10 users', '50 users')" in missing.reason


def test_counts_and_rates() -> None:
    load = load_of(stage(endpoint([10.0] * 990, errors=10)))
    for gate, expected in (
        ("errors < 5%", "pass"), ("errors < 0.1%", "fail"), ("errors < 1%", "cant_tell"), ("requests > 10", "pass"),
        ("requests > 1000", "fail"), ("requests >= 1000", "pass"), ("rps >= 80", "pass"), ("rps >= 100", "cant_tell"),
        ("rps > 120", "fail"), ("requests == 1000", "pass"), ("requests == 999", "fail"),
    ):  # fmt: skip
        assert verdict(load, gate).verdict == expected, gate
    assert verdict(load_of(), "p95 < 1s").reason == "no stage was measured (measured: none)"
    assert verdict(load, 'endpoint("GET /none").p95 < 1s').reason == "no request went to 'GET /none'"


def test_a_saturated_generator_can_not_judge_latency_but_errors() -> None:
    load = load_of(stage(endpoint([10.0] * 990, errors=10)), saturated=True)
    assert verdict(load, "p50 < 20ms").verdict == "cant_tell"
    assert verdict(load, "errors < 5%").verdict == "pass"


def test_where_no_request_succeeded_a_saturated_generator_is_no_excuse() -> None:
    load = load_of(stage(endpoint([], errors=10)), saturated=True)
    (gate,) = judge_gates(load, ["p95 < 1s"])
    assert gate.verdict == "fail"
    assert "no request succeeded" in gate.reason


def test_recovery_is_when_the_percentile_is_back_and_stays() -> None:
    after = [second(100 + i, 500.0 if i < 12 or i == 13 else 10.0, stage="after") for i in range(30)]
    assert recovery_s(after, "p99", 20).value == pytest.approx(10, abs=1)  # the median of 5 s allows one outlier
    never = recovery_s([second(i, 500.0) for i in range(30)], "p99", 20)
    assert (never.value, never.low) == (None, 29)
    load = load_of(
        stage(endpoint([10.0] * 1000), name="baseline"),
        stage(endpoint([10.0] * 1000), name="after", start_s=100),
        seconds_all=after,
    )
    assert verdict(load, "recovery(p99) < 30s").verdict == "pass"
    assert verdict(load, "recovery(p99) < 5s").verdict == "fail"
    hopeless = load_of(*load.stages, seconds_all=[second(i, 500.0, stage="after") for i in range(30)])
    found = verdict(hopeless, "recovery(p99) < 20s")
    assert (found.verdict, found.observed) == ("fail", None)
    assert verdict(hopeless, "recovery(p99) < 60s").verdict == "cant_tell"
    assert "needs a stage before it" in verdict(hopeless, 'stage("baseline").recovery(p99) < 60s').reason


def test_degradation_compares_the_ends_of_a_long_stage() -> None:
    rng = np.random.default_rng(4)
    steady = [second(i, float(x)) for i, x in enumerate(rng.normal(100, 5, 400))]
    slower = [second(i, float(x) * (1 + i / 1000)) for i, x in enumerate(rng.normal(100, 5, 400))]
    measured = stage(endpoint([10.0] * 500))
    assert verdict(load_of(measured, seconds_all=steady), "degradation < 10%").verdict == "pass"
    assert verdict(load_of(measured, seconds_all=slower), "degradation < 10%").verdict == "fail"
    assert degradation(slower) == degradation(slower)
    assert verdict(load_of(measured, seconds_all=steady[:60]), "degradation < 10%").verdict == "cant_tell"


def postgres(**changed: object) -> PostgresSample:
    values: dict[str, object] = {
        "active_sessions": 5, "idle_in_transaction": 1, "connections": 30, "max_connections": 97, "locks_waiting": 0,
        "commits": 10, "rollbacks": 0, "deadlocks": 0, "temp_bytes": 0,
    }  # fmt: skip
    return PostgresSample(**{**values, **changed})  # type: ignore[arg-type]  # a test's own values


def test_gates_on_the_target_use_the_stage_s_telemetry() -> None:
    def sample(at_s: float, cpu: float, rss: int, db: PostgresSample) -> TelemetrySample:
        process = ProcessSample(pid=1, name="api", cpu_share=cpu, rss_bytes=rss, threads=1)
        machine = MachineSample(cpu_share=0.5, memory_available_bytes=1)
        return TelemetrySample(at_s=at_s, processes=[process], machine=machine, postgres=db)

    waited = Blocker(blocked_pid=1, blocking_pid=2, blocked_s=2.5, blocked_query="a", blocking_query="b")
    samples = [sample(float(i), 0.6, 1 << 30, postgres()) for i in range(1, 11)]
    samples += [sample(float(i), 0.95, 3 << 30, postgres(deadlocks=1, blockers=[waited])) for i in range(22, 28)]
    telemetry = Telemetry(started_at=NOW, samples=samples, pool_size=10)
    load = load_of(stage(endpoint([1.0] * 100)), stage(endpoint([1.0] * 100), name="50 users", start_s=20))
    for gate, calm, busy in (
        ("cpu < 80%", "pass", "fail"), ("rss < 2GB", "pass", "fail"), ("deadlocks == 0", "pass", "fail"),
        ("blocked < 1s", "pass", "fail"), ("pool < 80%", "pass", "pass"), ("pool < 50%", "fail", "fail"),
    ):  # fmt: skip
        assert verdict(load, f'stage("10 users").{gate}', telemetry).verdict == calm, gate
        assert verdict(load, f'stage("50 users").{gate}', telemetry).verdict == busy, gate
        assert verdict(load, gate, telemetry).verdict == ("fail" if "fail" in (calm, busy) else "pass")
        assert verdict(load, gate).reason == "the target was not watched (no telemetry)"
    later = Telemetry(started_at=NOW + timedelta(hours=1), samples=samples)
    assert verdict(load, "cpu < 80%", later).reason == "no telemetry in this stage"
