"""What the exporter reads from files that others write: traces and loads, line by line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dbperf.errors import RecordError
from dbperf.monitor.follow import Files
from dbperf.monitor.levels import LevelCounters
from dbperf.monitor.loads import LoadCounters, regressions
from dbperf.monitor.relations import Relation, RelationCounters, RelationsLook
from dbperf.records.tail import Tail
from dbperf.records.verdicts import ServiceLevel
from dbperf.stats.hdr import Latencies
from dbperf.trace.parts import VERSION
from dbperf.trace.state import STATEMENT
from tests.support.comparing import comparison_of

MS = 1_000_000
TEXTS = ["SELECT a FROM t WHERE b = $1", "UPDATE t SET a = $1 WHERE b = $2", "SELECT a FROM t WHERE b = ANY ($1)"]


class Trace:
    """A trace file that grows."""

    def __init__(self, folder: Path, name: str = "1") -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{name}.trace.jsonl"
        self.began_ns = time.time_ns()
        self.requests = 0
        # The two clocks are the same here: times are wall clock.
        self.append(
            ["h", VERSION, 1, 0, 0, "", name, 1], *(["t", i, t] for i, t in enumerate(TEXTS)), ["s", 1, "/a.py", 3, "f"]
        )

    def append(self, *items: list[Any]) -> None:
        with self.path.open("a") as f:
            f.writelines(json.dumps(item) + "\n" for item in items)

    def request(
        self, route: str, *, ms: float = 5.0, status: int = 200, calls: tuple[int, ...] = (), same: bool = False,
        old: bool = False,
    ) -> None:  # fmt: skip
        """`calls`: a text number for each statement of 1 ms; `old`: it was long before the exporter, not long after."""
        self.requests += 1
        start = self.began_ns + (-1 if old else 1) * 3_600_000_000_000
        events = [
            [STATEMENT, text, 1, start + i * MS, start + (i + 1) * MS, 1, 1, 7 if same else i, 1, False]
            for i, text in enumerate(calls)
        ]
        self.append(["r", self.requests, "GET", route, status, start, int(ms * MS), 0, 10, 0, 0, False, events])


def samples(files: Files | LoadCounters, metric: str) -> dict[tuple[str, ...], float]:
    families = files.seen if isinstance(files, Files) else files.families()
    found = [s for f in families for s in f.samples if s.name == metric]
    return {tuple(s.labels.values()): s.value for s in found}


def following(**arguments: Any) -> tuple[Files, list[str]]:
    said: list[str] = []
    given = {"traces": None, "runs": None, "levels": [], "most": 10, **arguments}
    return Files(**given, tell=said.append), said


def test_requests_are_counted_by_endpoint_as_they_are_written(tmp_path: Path) -> None:
    old = Trace(tmp_path / "traces", "0")
    old.request("/a", old=True)
    files, _ = following(traces=tmp_path / "traces", levels=[ServiceLevel(endpoint="GET /a", p95_ms=10)])
    files.look()
    assert samples(files, "dbperf_requests_total") == {}, "what was before the exporter is not counted"
    old.request("/a", calls=(0, 0))
    new = Trace(tmp_path / "traces", "1")
    new.request("/a", ms=20.0)
    new.request("/b", status=503)
    files.look()
    files.look()
    assert samples(files, "dbperf_requests_total") == {("GET /a",): 2, ("GET /b",): 1}
    assert samples(files, "dbperf_request_errors_total") == {("GET /a",): 0, ("GET /b",): 1}
    assert samples(files, "dbperf_request_statements_total")["GET /a",] == 2
    assert samples(files, "dbperf_request_sql_seconds_total")["GET /a",] == pytest.approx(0.002)
    buckets = samples(files, "dbperf_request_seconds_bucket")
    assert [buckets["GET /a", le] for le in ("0.0025", "0.005", "0.01", "0.025", "+Inf")] == [0, 1, 1, 2, 2]
    assert samples(files, "dbperf_request_seconds_sum")["GET /a",] == pytest.approx(0.025)
    assert samples(files, "dbperf_slo_bad_requests_total") == {("app", "GET /a", "p95 < 10 ms"): 1}


def test_requests_that_loop_are_told_from_those_that_do_not(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "traces")
    trace.request("/reads", calls=(0,) * 6)
    trace.request("/reads", calls=(0,) * 4)
    trace.request("/writes", calls=(1,) * 5)
    trace.request("/sets", calls=(2,) * 9)
    trace.request("/polls", calls=(0,) * 9, same=True)
    files, _ = following(traces=tmp_path / "traces")
    files.look()
    assert {k for k, v in samples(files, "dbperf_request_findings_total").items() if v} == {
        ("GET /reads", "n_plus_one"),
        ("GET /writes", "row_by_row_write"),
    }
    assert samples(files, "dbperf_request_findings_total")["GET /reads", "n_plus_one"] == 1


def test_a_broken_trace_is_told_once_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "0.trace.jsonl").write_text('["h", 99]\n')
    trace = Trace(tmp_path)
    trace.request("/a")
    files, said = following(traces=tmp_path)
    for _ in range(3):
        files.look()
    assert samples(files, "dbperf_requests_total") == {("GET /a",): 1}
    assert samples(files, "dbperf_follow_errors_total") == {("traces",): 1}
    assert [line.partition(" is no trace")[0] for line in said] == [str(tmp_path / "0.trace.jsonl")]


def test_a_tail_gives_whole_lines_and_begins_anew_where_the_file_did(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\nthr")
    tail = Tail(path)
    assert tail.lines() == (1, [b"one", b"two"])
    with path.open("ab") as f:
        f.write(b"ee\n")
    assert tail.lines() == (3, [b"three"])
    assert tail.lines() == (4, [])
    (tmp_path / "g").write_bytes(b"anew\n")
    (tmp_path / "g").replace(path)
    assert tail.lines() == (1, [b"anew"])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        tail.lines()


def event(kind: str, at: float, stage: int = 0, **fields: object) -> dict[str, object]:
    return {"event": kind, "at": at, "stage": stage, "name": f"stage {stage}", **fields}


def second(at: float, latencies_ms: list[float], *, errors: int = 0, stage: int = 0) -> dict[str, object]:
    row = {
        "method": "GET", "name": "GET /a", "stage": stage, "requests": len(latencies_ms) + errors, "errors": errors,
        "bytes": 0, "latency": Latencies.of_ms(latencies_ms).encode().encoded, "failed": None,
        "sum_ms": sum(latencies_ms), "min_ms": None, "max_ms": None, "kinds": [],
    }  # fmt: skip
    return {
        "second": 1, "at": at, "stage": max(stage, 0), "phase": "measured", "users": 7, "series": [row],
        "cpu_share": 0.25, "lag_ms": 3.0, "late_starts": 0,
    }  # fmt: skip


def append(path: Path, *lines: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_loads_stages_and_requests(tmp_path: Path) -> None:
    levels = LevelCounters([ServiceLevel(endpoint="all", p95_ms=50, error_rate=0.01)], most=10)
    loads = LoadCounters(tmp_path, levels, most=10, began_s=100)
    loads.look(time.time())
    assert samples(loads, "dbperf_load_running") == {(): 0}
    file = tmp_path / "20300101-a" / "load.jsonl"
    append(file, event("ramp", 90), second(91, [1.0], stage=-1), event("warm-up", 95))
    append(file, event("measuring", 101, window=101), second(102, [10.0, 20.0, 600.0], errors=1))
    loads.look(time.time())
    assert samples(loads, "dbperf_load_running") == {(): 1}
    assert samples(loads, "dbperf_load_users") == {(): 7}
    assert samples(loads, "dbperf_load_stage_info") == {("20300101-a", "stage 0", "measured"): 1}
    assert samples(loads, "dbperf_load_requests_total") == {("GET /a",): 4}, "not what was before the exporter"
    assert samples(loads, "dbperf_load_request_errors_total") == {("GET /a",): 1}
    buckets = samples(loads, "dbperf_load_request_seconds_bucket")
    assert [buckets["GET /a", le] for le in ("0.005", "0.01", "0.025", "0.5", "1.0", "+Inf")] == [0, 1, 2, 2, 3, 3]
    assert samples(loads, "dbperf_load_generator_cpu_ratio") == {(): 0.25}
    assert {key[2].name: bad for key, bad in levels.bad.items()} == {"p95 < 50 ms": 1, "errors < 1 %": 1}
    append(file, event("ramp", 110, 1), event("ended", 120))
    loads.look(time.time())
    assert samples(loads, "dbperf_load_running") == {(): 0}
    assert samples(loads, "dbperf_load_users") == {(): 0}
    assert samples(loads, "dbperf_load_mark_timestamp_seconds") == {
        ("20300101-a", "stage 0", "ramp"): 90, ("20300101-a", "stage 0", "warm-up"): 95,
        ("20300101-a", "stage 0", "measured"): 101, ("20300101-a", "stage 1", "ramp"): 110,
        ("20300101-a", "", "ended"): 120,
    }  # fmt: skip
    append(tmp_path / "20300102-b" / "load.jsonl", event("ramp", 200), second(201, [1.0]))
    os.utime(file, (1, 1))
    loads.look(time.time())
    assert {k[0] for k in samples(loads, "dbperf_load_mark_timestamp_seconds")} == {"20300102-b"}
    assert samples(loads, "dbperf_load_requests_total") == {("GET /a",): 5}, "counters go on over loads"


def test_a_load_that_was_killed_has_ended_and_a_broken_line_costs_only_itself(tmp_path: Path) -> None:
    loads = LoadCounters(tmp_path, LevelCounters([], most=1), most=10, began_s=0)
    file = tmp_path / "load.jsonl"
    append(file, event("ramp", 1), {"second": 1}, second(2, [1.0]))
    with pytest.raises(RecordError, match=r"load\.jsonl, line 2: not a line of a load"):
        loads.look(time.time())
    assert samples(loads, "dbperf_load_requests_total") == {("GET /a",): 1}
    assert loads.running
    loads.look(time.time() + 60)
    assert not loads.running


def test_the_newest_comparison_tells_of_regressions(tmp_path: Path) -> None:
    comparison = comparison_of("worse", "worse", "better")
    assert regressions(comparison) == 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "comparison.json").write_bytes(comparison.to_json())
    loads = LoadCounters(tmp_path, LevelCounters([], most=1), most=10, began_s=0)
    loads.look(time.time())
    assert samples(loads, "dbperf_regressions") == {("run",): 2}
    (tmp_path / "run" / "comparison.json").write_text("{")
    with pytest.raises(RecordError):
        loads.look(time.time())
    loads.look(time.time())
    assert samples(loads, "dbperf_regressions") == {("run",): 2}, "the last one that could be read"


TABLE_FIGURES = (
    "seq_scans", "seq_rows_read", "index_scans", "index_rows_fetched", "rows_inserted", "rows_updated", "rows_deleted",
    "rows_hot_updated", "blks_hit", "blks_read", "vacuums", "analyzes", "size_bytes", "live_rows", "dead_rows",
)  # fmt: skip


def relations(scans: dict[int, float], *, blocks: dict[int, float] | None = None) -> RelationsLook:
    """A table and an index for each OID, with its scans; the higher the number, the larger."""
    tables, indexes = {}, {}
    for oid, n in scans.items():
        own = {"seq_scans": n, "size_bytes": 8192.0 * oid, "blks_hit": (blocks or {}).get(oid, 0.0)}
        tables[oid] = Relation(name=("public", f"t{oid}"), figures={**dict.fromkeys(TABLE_FIGURES, 0.0), **own})
        figures = {"scans": n, "rows_read": n, "size_bytes": 8192.0 * oid}
        indexes[oid + 1000] = Relation(name=("public", f"t{oid}", f"i{oid}"), figures=figures)
    return RelationsLook(tables=tables, indexes=indexes)


def relation_samples(counters: RelationCounters, metric: str) -> dict[tuple[str, ...], float]:
    samples = [s for f in counters.families("app") for s in f.samples if s.name == metric]
    return {tuple(s.labels.values())[1:]: s.value for s in samples}


def test_tables_and_indexes_beyond_the_top_are_other_and_nothing_is_lost() -> None:
    counters = RelationCounters(2)
    counters.add(relations(dict.fromkeys(range(1, 6), 100.0)))
    counters.add(relations(dict.fromkeys(range(1, 6), 103.0), blocks={1: 500.0}))
    scans = relation_samples(counters, "dbperf_table_seq_scans_total")
    assert ("public", "t1") in scans, "the one that was read most"
    assert len(scans) == 3
    assert sum(scans.values()) == 15
    sizes = relation_samples(counters, "dbperf_index_size_bytes")
    assert {k[-1] for k in sizes} == {"i4", "i5", "other"}, "the largest"
    assert sum(sizes.values()) == 8192 * 15


def test_the_first_index_of_a_database_is_counted_from_its_beginning() -> None:
    counters = RelationCounters(5)
    counters.add(relations({}))
    counters.add(relations({1: 2.0}))
    assert relation_samples(counters, "dbperf_index_scans_total")["public", "t1", "i1"] == 2


def test_a_dropped_table_a_new_one_and_a_reset() -> None:
    counters = RelationCounters(5)
    counters.add(relations({1: 10.0, 2: 10.0}))
    counters.add(relations({2: 11.0, 3: 4.0}))
    scans = {k[-1]: v for k, v in relation_samples(counters, "dbperf_table_seq_scans_total").items()}
    assert scans == {"t2": 1, "t3": 4, "other": 0}
    counters.add(relations({2: 2.0, 3: 0.0}), counting=False)
    counters.add(relations({2: 3.0, 3: 1.0}))
    scans = {k[-1]: v for k, v in relation_samples(counters, "dbperf_table_seq_scans_total").items()}
    assert scans == {"t2": 2, "t3": 5, "other": 0}
    counters.add(relations({2: 1.0, 3: 1.0}))
    assert relation_samples(counters, "dbperf_table_seq_scans_total")["public", "t2"] == 3, "a crash: it began at 0"
