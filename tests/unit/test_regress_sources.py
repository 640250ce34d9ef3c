"""Files of Locust, pytest-benchmark and k6: real ones are read, broken ones are named to the column."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dbperf.errors import RecordError
from dbperf.load.imports import as_load, read_foreign
from dbperf.records.baseline import Baseline
from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from dbperf.regress.sources import read_side
from tests.support.comparing import lognormal, make_run

GOLDEN = Path(__file__).parents[1] / "golden" / "compare"
"""Written by Locust 2.47 and pytest-benchmark 5.2 themselves."""


def test_locusts_csv_with_its_history() -> None:
    figures = read_side(GOLDEN / "locust_stats.csv")
    assert [m.subject for m in figures.measurements] == ["GET /delay", "GET /flaky", "GET /ok"]
    flaky = figures.measurements[1]
    assert (flaky.requests, flaky.errors) == (186, 25)
    assert (flaky.conditions.users, flaky.conditions.duration_s) == (5, 6)
    assert {q.q: q.value_ms for q in flaky.quantiles}[0.95] == 5
    assert flaky.latency is None


def test_locusts_csv_without_its_history_does_not_know_the_users(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "locust_stats.csv", tmp_path / "x_stats.csv")
    figures = read_side(tmp_path / "x_stats.csv")
    assert figures.measurements[0].conditions.users is None
    assert "unknown" in figures.notes[0]


def test_locusts_json_is_a_rounded_histogram() -> None:
    figures = read_side(GOLDEN / "locust.json")
    ok = next(m for m in figures.measurements if m.subject == "GET /ok")
    assert ok.latency is not None
    assert (ok.latency.count, ok.requests, ok.rounded_by) == (620, 620, "locust")


def test_pytest_benchmarks_json_with_and_without_samples() -> None:
    full, short = read_side(GOLDEN / "pytest_benchmark.json"), read_side(GOLDEN / "pytest_benchmark_summary.json")
    sleep = full.measurements[0]
    assert sleep.subject == "test_b.py::test_sleep"
    assert sleep.samples_ms is not None
    assert len(sleep.samples_ms) == 120
    assert 1 < sleep.samples_ms[0] < 50
    assert [c.name for c in sleep.custom] == ["rows"]
    assert sleep.conditions.machine.cpu_count == 2
    assert short.measurements[0].samples_ms is None
    assert "--benchmark-save-data" in short.notes[0]


def k6(**metrics: Any) -> dict[str, Any]:
    """The shape that k6's documentation gives for handleSummary()'s data."""
    return {
        "root_group": {"name": "", "path": ""},
        "state": {"testRunDurationMs": 30500.5},
        "metrics": {
            "http_req_duration": {
                "type": "trend", "contains": "time",
                "values": {"avg": 40.0, "min": 10.0, "med": 35.0, "max": 150.0, "p(90)": 80.0, "p(95)": 90.0},
            },
            "http_req_duration{name:login}": {"type": "trend", "values": {"med": 12.0, "p(95)": 20.0}},
            "http_req_duration{expected_response:true}": {"type": "trend", "values": {"med": 1.0, "p(95)": 2.0}},
            "http_req_failed": {"type": "rate", "values": {"rate": 0.02, "passes": 18, "fails": 882}},
            "http_reqs": {"type": "counter", "values": {"count": 900, "rate": 29.5}},
            "vus_max": {"type": "gauge", "values": {"value": 20, "min": 20, "max": 20}},
            "sandbox_violations": {"type": "counter", "values": {"count": 3, "rate": 0.1}},
            **metrics,
        },
    }  # fmt: skip


def test_k6_in_both_shapes(tmp_path: Path) -> None:
    exported = {"metrics": {}, "root_group": {}}
    for name, m in k6()["metrics"].items():
        values = dict(m["values"])
        if "rate" in values and m["type"] == "rate":
            values["value"] = values.pop("rate")
        exported["metrics"][name] = values
    for content in (k6(), exported):
        (tmp_path / "k6.json").write_text(json.dumps(content))
        figures = read_side(tmp_path / "k6.json")
        whole, login = figures.measurements
        assert (whole.requests, whole.errors, whole.conditions.users) == (900, 18, 20)
        assert whole.conditions.duration_s == 30.5
        assert [(c.name, c.value, c.unit) for c in whole.custom] == [("sandbox_violations", 3, "count")]
        assert login.subject == "login"
        assert {q.q: q.value_ms for q in login.quantiles} == {0.5: 12, 0.95: 20}
        load = as_load(read_foreign(tmp_path / "k6.json"), tmp_path / "k6.json")
        (stage,) = load.stages
        assert (stage.requests, stage.errors, stage.users, load.generator.engine) == (900, 18, 20, "k6")
        (endpoint,) = stage.endpoints  # login has percentiles and no count
        assert (endpoint.requests_per_s, endpoint.mean_ms, endpoint.max_ms) == (29.5, 40, 150)
        assert {q.q: q.value_ms for q in endpoint.quantiles} == {0.5: 35, 0.9: 80, 0.95: 90, 0.99: None, 0.999: None}
        assert {q.reason for q in endpoint.quantiles} == {"imported: the file holds no samples", "not in the file"}


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("locust_stats.csv", lambda t: t[:400], r"line 3, column \d+: \d+ columns where the header has 22"),
        ("locust_stats.csv", lambda t: t.replace(",", ";"), "line 1: column 'Type' is missing"),
        ("locust_stats.csv", replaced("Request Count", "Anfragen"), "line 1: column 'Request Count' is missing"),
        ("locust_stats.csv", replaced("GET,/delay,154,", "GET,/delay,nan,"), "line 2, column 'Request Count': 'nan'"),
        ("locust_stats.csv", replaced("/delay,154,", "/delay,-4,"), "line 2, column 'Request Count': '-4' is negative"),
        ("locust_stats.csv", replaced("25.630200968358036", '"25,63"'), "line 2, column 'Requests/s': '25,63' is not"),
        ("locust_stats.csv", lambda t: t.splitlines()[0] + "\n", "holds no measurement"),
        ("locust_stats.csv", lambda t: t[: t.index(",Aggregated") + 5], "line 5, column 3: 2 columns where"),
        ("locust_stats.csv", lambda t: "".join(t.splitlines(True)[:3]), "line 3: it ends without Locust's row"),
        ("locust_stats.csv", lambda _: "", "line 1: the file is empty"),
        ("locust_stats.csv", replaced("66%", "50%"), "column '50%' comes twice"),
        ("locust_stats.csv", replaced("GET,/ok", "GET,/delay"), r"line \d: it names 'GET /delay' twice"),
        ("locust_stats.csv", replaced("/flaky,186,25,", "/flaky,186,187,"), "line 3: 187 errors of 186 requests"),
        ("locust_stats_history.csv", lambda t: t, "is Locust's history|column 'Request Count' is missing"),
        ("locust.json", lambda t: t[:700], r"line \d+, column \d+: "),
        ("locust.json", lambda _: "[]", "holds no measurement"),
        ("locust.json", lambda _: '[{"a": 1}]', "line 1, column 2: it is no entry of Locust"),
        ("locust.json", replaced('"num_requests": 620', '"num_requests": NaN'), "column 25: NaN is not a number"),
        ("locust.json", replaced('"8": 6', '"-8": 6'), r"line \d+, column \d+, field response_times: '-8' is neg"),
        ("locust.json", replaced('"8": 6', '"8": 1, "8": 6'), r"line \d+, column \d+: '8' comes twice"),
        ("locust.json", replaced('"num_failures": 0', '"num_failures": 0.5'), "field num_failures: 0.5 is not a whole"),
        ("locust.json", replaced('"num_requests": 620', '"num_requests": 1' + "0" * 400), "a number of 401 digits"),
        ("locust.json", replaced('"num_requests": 620', '"num_requests": 1' + "0" * 5000), "Exceeds the limit"),
        ("locust.json", replaced('"start_time": 17', '"start_time": 27'), "a clock jump"),
        ("pytest_benchmark.json", lambda t: t[: len(t) // 2], r"line \d+, column \d+: "),
        ("pytest_benchmark.json", replaced('"median": 0', '"median": -1'), r"column \d+, field stats.median: -1"),
        ("pytest_benchmark.json", replaced('"median": 0', '"median": 1e999, "x": 0'), "inf is not a finite number"),
        ("pytest_benchmark.json", replaced('"fullname": "test_b.py::test_sleep",', ""), r"column \d+: it is no"),
        ("pytest_benchmark.json", lambda _: '{"machine_info": {}, "benchmarks": []}', "holds no measurement"),
        ("pytest_benchmark.json", lambda _: '{"machine_info": {}, "benchmarks": [3]}', "is no benchmark"),
        ("other.json", lambda _: '{"x": 1}', "is of no known kind"),
        ("other.json", lambda _: "3", "is of no known kind"),
        ("other.json", lambda _: "\x00", "line 1, column 1"),
        ("other.json", lambda _: "[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_broken_files_are_named_with_line_and_column(
    tmp_path: Path, name: str, change: Callable[[str], str], message: str
) -> None:
    source = GOLDEN / name
    path = tmp_path / name
    text = source.read_text() if source.exists() else ""
    path.write_text(change(text))
    with pytest.raises(RecordError, match=message) as e:
        read_side(path)
    assert str(path) in e.value.message
    assert e.value.exit_code == 3
    assert "\n" not in e.value.message
    if name.startswith("locust"):  # `dbperf load --import` says the same
        with pytest.raises(RecordError) as imported:
            as_load(read_foreign(path), path)
        assert imported.value.message == e.value.message


def test_a_broken_file_of_failures_is_named(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "locust_stats.csv", tmp_path)
    failures = tmp_path / "locust_failures.csv"
    failures.write_text("Method,Name,Error,Occurrences\nGET,/flaky,HTTPError('503 Server Error'),many\n")
    for read in (read_side, read_foreign):
        with pytest.raises(RecordError, match=r"locust_failures.csv, line 2, column 'Occurrences': 'many' is not"):
            read(tmp_path / "locust_stats.csv")


def test_time_that_runs_backwards_in_the_history(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "locust_stats.csv", tmp_path)
    lines = (GOLDEN / "locust_stats_history.csv").read_text().splitlines()
    lines[2], lines[3] = lines[3], lines[2]
    (tmp_path / "locust_stats_history.csv").write_text("\n".join(lines))
    with pytest.raises(RecordError, match="line 4, column 'Timestamp': time runs backwards"):
        read_side(tmp_path / "locust_stats.csv")


def test_a_clock_that_jumps_ahead_in_the_history(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "locust_stats.csv", tmp_path)
    lines = (GOLDEN / "locust_stats_history.csv").read_text().splitlines()
    first, _, rest = lines[-1].partition(",")
    lines[-1] = f"{int(first) + 3600},{rest}"
    (tmp_path / "locust_stats_history.csv").write_text("\n".join(lines))
    with pytest.raises(RecordError, match=rf"line {len(lines)}, column 'Timestamp': a clock jump of 36"):
        read_side(tmp_path / "locust_stats.csv")


def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path: Path) -> None:
    for name in ("locust_stats.csv", "locust.json"):
        (tmp_path / name).write_bytes(b'"a",\n "\xff"')
        with pytest.raises(RecordError, match="line 2, column 3: not UTF-8"):
            read_side(tmp_path / name)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"http_reqs": {"values": {"count": 0, "rate": 0}}}, "holds no requests"),
        ({"http_req_failed": {"values": {"rate": 1}}}, "every one of 900 requests failed"),
        (
            {"http_req_duration": {"values": {"med": -3}}},
            r"line 1, column \d+, field metrics.http_req_duration.values.med",
        ),
        ({"http_req_duration": 3}, "'http_req_duration' is no table"),
    ],
)
def test_k6_figures_that_cant_be(tmp_path: Path, metrics: dict[str, Any], message: str) -> None:
    (tmp_path / "k6.json").write_text(json.dumps(k6(**metrics)))
    with pytest.raises(RecordError, match=message):
        read_side(tmp_path / "k6.json")


def test_runs_that_measured_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="every one of 5 requests failed"):
        read_side(make_run(tmp_path / "failed", {"GET /a": []}, errors={"GET /a": 5}))
    with pytest.raises(RecordError, match="holds no requests"):
        read_side(make_run(tmp_path / "none", {"GET /a": []}))
    run = RunDirectory.open(make_run(tmp_path / "x", {"GET /a": lognormal(10)}))
    (run.path / Load.file_name).unlink()
    with pytest.raises(RecordError, match="holds no measurement"):
        read_side(run.path)
    with pytest.raises(RecordError, match="does not exist"):
        read_side(tmp_path / "nowhere")


def test_clock_jumps_in_a_run(tmp_path: Path) -> None:
    run = RunDirectory.open(make_run(tmp_path / "x", {"GET /a": lognormal(600)}))
    load = run.read(Load)
    [stage] = load.stages
    for change in (timedelta(seconds=-100), timedelta(hours=5)):
        jumped = msgspec.structs.replace(stage, ended_at=stage.ended_at + change)
        run.write(msgspec.structs.replace(load, stages=[jumped]))
        with pytest.raises(RecordError, match="clock jump"):
            read_side(run.path)


def test_a_baseline_of_a_newer_dbperf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"kind": "baseline", "schema_version": Baseline.version + 1, "entries": []}))
    with pytest.raises(RecordError, match="newer dbperf"):
        read_side(path)
