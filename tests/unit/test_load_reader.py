"""What a driver writes is read while it grows, each line once, and is a Load at any moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbperf.errors import RecordError
from dbperf.load.assemble import Window, stage_of
from dbperf.load.reader import LoadReader, read_load
from dbperf.load.suite_file import parse_suite
from dbperf.stats.hdr import Latencies

SUITE = parse_suite('name = "x"\n[[stages]]\nusers = 4\nduration = "1h"\n[[endpoints]]\npath = "/ok"\n', "x")
START = 1_800_000_000.0


def event(name: str, after_s: float, **fields: Any) -> bytes:
    return json.dumps({"event": name, "at": START + after_s, "stage": 0, **fields}).encode() + b"\n"


def second(number: int, latencies_ms: list[float]) -> bytes:
    row = {
        "method": "GET", "name": "GET /ok", "stage": 0, "requests": len(latencies_ms), "errors": 0, "bytes": 10,
        "latency": Latencies.of_ms(latencies_ms).encode().encoded, "failed": None, "sum_ms": sum(latencies_ms),
        "min_ms": min(latencies_ms), "max_ms": max(latencies_ms), "kinds": [],
    }  # fmt: skip
    line = {
        "second": number, "at": START + number, "stage": 0, "phase": "measured", "users": 4, "late_starts": 0,
        "waiting": 0, "cpu_share": 0.1, "lag_ms": 1.0, "series": [row],
    }  # fmt: skip
    return json.dumps(line).encode() + b"\n"


def beginning() -> bytes:
    return event("started", 0, engine="locust 2", began=START, pid=1) + event("measuring", 0, window=START)


def append(file: Path, data: bytes) -> None:
    with file.open("ab") as f:
        f.write(data)


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    """An hour of load is summed up when it is interrupted: what is left to read then is its last second."""
    file = tmp_path / "load.jsonl"
    file.write_bytes(beginning() + b"".join(second(i, [10.0, 20.0]) for i in range(1, 31)))
    reader = LoadReader(file, SUITE, "http://x")
    reader.catch_up()
    before = reader.load()
    assert before == read_load(file, SUITE, "http://x")
    assert before.stages[0].requests == 60
    with file.open("r+b") as f:  # what lies behind could not be read any more
        f.write(b"x" * (file.stat().st_size - 1))
    half = second(31, [500.0])
    append(file, half[:40])
    reader.catch_up()
    assert reader.load() == before
    append(file, half[40:] + event("measured", 31, window=START + 31))
    append(file, event("ended", 31, complete=False, reason="stopped", unfinished=[], not_started=[]))
    reader.catch_up()
    after = reader.load()
    assert (after.stages[0].requests, after.stages[0].endpoints[0].max_ms) == (61, 500)
    assert after.notes[0] == "the load ended early: stopped"
    assert (after.complete, len(after.seconds)) == (False, 31)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "load.jsonl"
    reader = LoadReader(file, SUITE, "http://x")
    with pytest.raises(RecordError, match="can't be read"):
        reader.catch_up()
    file.write_bytes(beginning())
    reader.catch_up()
    append(file, b"nonsense\n")
    with pytest.raises(RecordError, match="line 3: not JSON"):
        reader.catch_up()


def test_requests_that_are_left_over_are_counted_not_listed(tmp_path: Path) -> None:
    """A generator that can't keep up has a hundred thousand of them: listed, they took seconds to write and to read."""
    waiting, under_way = [0, "GET", "GET /ok", 100_001], [0, "POST", "POST /slow", 1]
    file = tmp_path / "load.jsonl"
    file.write_bytes(beginning() + second(1, [10.0]) + event("measured", 10, window=START + 10))
    append(file, event("ended", 10, complete=False, reason="stopped", unfinished=[under_way], not_started=[waiting]))
    (stage,) = read_load(file, SUITE, "http://x").stages
    assert stage.not_started == 100_001
    assert {e.name: e.unfinished for e in stage.endpoints} == {"GET /ok": 100_001, "POST /slow": 1}


def test_a_rate_lies_in_its_interval_though_requests_end_in_other_seconds_than_they_began() -> None:
    window = Window(tick_seconds=[1.0] * 30, opened=0.0, closed=30.0)
    batch = window.endpoint(("POST", "POST /batch"))
    batch.requests = 7
    batch.ended_by_tick = {3: 1, 9: 1, 17: 1, 25: 1}  # three more after the window
    stage = stage_of(SUITE, 0, window)
    for rate, ci in [
        (stage.requests_per_s, stage.requests_per_s_ci),
        *((e.requests_per_s, e.requests_per_s_ci) for e in stage.endpoints),
    ]:
        assert rate == pytest.approx(7 / 30)
        assert ci is not None
        assert 0 < ci[0] < rate < ci[1]
        assert (ci[0] + ci[1]) / 2 == pytest.approx(rate)
