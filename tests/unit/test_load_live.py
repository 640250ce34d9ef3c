"""What is shown of a running load."""

from __future__ import annotations

from dbperf.load.live import LiveView
from dbperf.load.progress import LoadEvent
from dbperf.records.telemetry import MachineSample, PostgresSample, TelemetrySample


def second(p95_ms: float | None) -> LoadEvent:
    return LoadEvent(
        kind="second", at=0, stage_index=1, phase="measured", users=50, requests_per_s=120.0, errors_per_s=2.0,
        p50_ms=5.0 if p95_ms else None, p95_ms=p95_ms, p99_ms=p95_ms,
    )  # fmt: skip


def test_stage_load_percentiles_with_their_past_and_waits_are_shown() -> None:
    view = LiveView(3)
    assert view.after(LoadEvent(kind="ramp", at=0, stage_index=1, stage="spike")) is None
    first = view.after(second(10.0))
    assert first is not None
    assert first.line == "spike (2 of 3), measured: 50 users, 120 req/s, P50/95/99 5 ms/10 ms/10 ms, 2 errors/s"
    postgres = PostgresSample(
        active_sessions=9, idle_in_transaction=0, connections=10, max_connections=97, waits={"CPU": 2, "Lock:tuple": 7},
        locks_waiting=7, commits=1, rollbacks=0, deadlocks=0, temp_bytes=0,
    )  # fmt: skip
    sample = TelemetrySample(at_s=1, machine=MachineSample(cpu_share=0.5, memory_available_bytes=1), postgres=postgres)
    now = view.after(second(80.0), sample)
    assert now is not None
    assert now.line.endswith("P50/95/99 5 ms/80 ms/80 ms, 2 errors/s, database: 7 × Lock:tuple")
    assert now.rows == [
        ("stage", "spike (2 of 3), measured"),
        ("load", "50 users, 120 req/s, 2 errors/s"),
        ("P50", "    5 ms  ██"),
        ("P95", "   80 ms  ▁█"),
        ("P99", "   80 ms  ▁█"),
        ("database", "7 × Lock:tuple, 2 × CPU"),
    ]


def test_a_second_without_an_answer_keeps_the_past() -> None:
    view = LiveView(1)
    view.after(second(10.0))
    now = view.after(second(None))
    assert now is not None
    assert "P50/95/99 –/–/–" in now.line
    assert ("P95", "       –  █") in now.rows
    assert " of " not in now.line
