"""What is shown beside a missed limit, and what is not."""

from __future__ import annotations

from dbperf.load.causes import causes
from dbperf.load.gates import judge_gates, with_gates
from dbperf.load.judge import judge
from dbperf.records.telemetry import Blocker, MachineSample, PostgresSample, ProcessSample, Telemetry, TelemetrySample
from tests.support.loads import NOW, endpoint, load_of, stage


def sample(at_s: float, *, cpu: float, waits: dict[str, int], blockers: list[Blocker] | None = None) -> TelemetrySample:
    return TelemetrySample(
        at_s=at_s,
        processes=[ProcessSample(pid=1, name="api", cpu_share=cpu, rss_bytes=1, threads=1)],
        machine=MachineSample(cpu_share=0.5, memory_available_bytes=1),
        postgres=PostgresSample(
            active_sessions=sum(waits.values()), idle_in_transaction=0, connections=10, max_connections=97,
            waits=waits, locks_waiting=0, blockers=blockers or [], commits=1, rollbacks=0, deadlocks=0, temp_bytes=0,
        ),
    )  # fmt: skip


def test_a_missed_limit_is_shown_with_what_its_window_saw() -> None:
    waited = Blocker(
        blocked_pid=1, blocking_pid=2, blocked_s=2.5, blocked_query="UPDATE a SET n = $1", blocking_query="LOCK b"
    )
    calm = [sample(i, cpu=0.2, waits={"CPU": 1}) for i in range(1, 10)]
    busy = [sample(20 + i, cpu=0.97, waits={"CPU": 2, "Lock:tuple": 18}, blockers=[waited]) for i in range(1, 10)]
    telemetry = Telemetry(started_at=NOW, samples=calm + busy, pool_size=20)
    load = load_of(stage(endpoint([5.0] * 500)), stage(endpoint([90.0] * 500), name="50 users", start_s=20))
    verdicts = with_gates(judge(load, []), judge_gates(load, ["p95 < 20ms"], telemetry))
    assert causes(load, verdicts, telemetry, None) == {
        "50 users": [
            "20.0 sessions were active on average, waiting for (CPU: running): Lock:tuple 18.0 (0.0 in '10 users'), "
            "CPU 2.0 (1.0 in '10 users')",
            "sessions blocked each other in 9 of 9 s, the longest for 2.5 s: 'UPDATE a SET n = $1' waited for 'LOCK b'",
            "the target's pool of 20 connections was 100 % in use",
            "the busiest process of the target used (of a core): 97 % (20 % in '10 users')",
        ]
    }


def test_nothing_is_said_where_nothing_was_missed_or_watched() -> None:
    load = load_of(stage(endpoint([5.0] * 500)))
    kept = with_gates(judge(load, []), judge_gates(load, ["p95 < 20ms"]))
    assert causes(load, kept, Telemetry(started_at=NOW, samples=[]), None) == {}
    missed = with_gates(judge(load, []), judge_gates(load, ["p95 < 2ms"]))
    assert causes(load, missed, None, None) == {}
