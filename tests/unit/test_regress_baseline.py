"""Baselines: promoted with a reason, kept in git, with exceptions that end."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dbperf.errors import RecordError, UsageError
from dbperf.records.base import read_document
from dbperf.records.baseline import Baseline
from dbperf.regress.baseline import accept, load_baseline, promote
from dbperf.regress.compare import compare
from dbperf.regress.judge import Rules
from dbperf.regress.sources import read_side
from tests.support.comparing import lognormal, make_run

A = "GET /a"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = Rules(services=[], overrides={})


def slow(factor: float = 1.4) -> list[float]:
    return [x * factor for x in lognormal(5000, seed=2)]


def test_promotions_keep_who_when_why_old_and_new(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "performance_baseline.json"
    first = make_run(tmp_path / "one", {A: lognormal(5000)}, git_revision="abc")
    promote(path, first, reason="first", who="kim")
    entry = promote(path, make_run(tmp_path / "two", {A: slow()}), reason="new check", who="lee")
    change = next(c for c in entry.changes if c.name == "GET /a [10 users] p95_ms")
    assert change.old is not None
    assert change.new is not None
    assert change.new > 1.3 * change.old
    baseline = read_document(Baseline, path)
    assert [(p.who, p.reason, p.source) for p in baseline.history] == [
        ("lee", "new check", "two"),
        ("kim", "first", "one"),
    ]
    assert baseline.history[1].git_revision == "abc"
    assert baseline.history[0].at > baseline.history[1].at


def test_a_baseline_has_the_conditions_of_every_figure(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    promote(path, make_run(tmp_path / "one", {A: lognormal(500)}), reason="x")
    [entry] = json.loads(path.read_text())["entries"]
    conditions = entry["measurement"]["conditions"]
    assert (conditions["users"], conditions["provenance"], conditions["scale"]) == (10, "measured", "smoke")
    assert conditions["machine"] == {"system": "Linux x86_64", "cpu_model": "EPYC", "cpu_count": 2}
    assert entry["origin"]["source"] == "one"


def test_the_file_has_a_stable_order(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / n, {f"GET /{n}": lognormal(500)}, users=u) for n, u in (("b", 1), ("a", 2), ("c", 1))]
    for order in ((0, 1, 2), (2, 1, 0)):
        path = tmp_path / f"{order[0]}.json"
        for i in order:
            promote(path, runs[i], reason="x", who="kim")
    one, other = (read_document(Baseline, tmp_path / f"{i}.json").entries for i in (0, 2))
    assert [e.measurement for e in one] == [e.measurement for e in other]
    assert [e.measurement.subject for e in one] == ["GET /b", "GET /c", "GET /a"]


def test_a_run_is_compared_with_the_stages_that_it_measured(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    promote(path, make_run(tmp_path / "ten", {A: lognormal(5000)}, users=10), reason="x")
    promote(path, make_run(tmp_path / "fifty", {A: slow()}, users=50), reason="x")
    same = read_side(make_run(tmp_path / "new", {A: lognormal(5000, seed=3)}, users=10))
    result = compare(read_side(path), same, RULES)
    assert result.verdict in ("pass", "cant_tell")
    assert {m.verdict for m in result.metrics} <= {"unchanged", "cant_tell"}
    assert "1 measurements that B did not make (50 users)" in " ".join(result.notes)
    assert compare(read_side(path), read_side(make_run(tmp_path / "bad", {A: slow()})), RULES).verdict == "fail"


def test_half_a_run_and_made_up_data_are_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    partial = make_run(tmp_path / "p", {A: lognormal(500)}, status="partial")
    with pytest.raises(RecordError, match="half a run is no baseline"):
        promote(path, partial, reason="x")
    sample = make_run(tmp_path / "s", {A: lognormal(500)}, provenance="sample")
    with pytest.raises(RecordError, match="sample data"):
        promote(path, sample, reason="x", force=True)
    with pytest.raises(UsageError, match="needs a reason"):
        promote(path, partial, reason=" ")
    assert not path.exists()
    promote(path, partial, reason="x", force=True)


def test_a_broken_baseline_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text('{"kind": "baseline", "schema_version": 99}')
    with pytest.raises(RecordError, match="newer dbperf"):
        promote(path, make_run(tmp_path / "one", {A: lognormal(500)}), reason="x")
    assert path.read_text() == '{"kind": "baseline", "schema_version": 99}'


def test_exceptions_are_accepted_until_a_day(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    promote(path, make_run(tmp_path / "one", {A: lognormal(5000)}), reason="x")
    with pytest.raises(UsageError, match="no metric 'GET /a p96'") as e:
        accept(path, "GET /a p96", until=date(2027, 1, 1), reason="x", now=NOW)
    assert "GET /a p9" in (e.value.hint or "")
    with pytest.raises(UsageError, match="is over"):
        accept(path, "GET /a p95", until=date(2026, 5, 31), reason="x", now=NOW)
    accept(path, "GET /a *", until=date(2026, 7, 1), reason="first", who="kim", now=NOW)
    accept(path, "GET /a *", until=date(2026, 8, 1), reason="longer", who="kim", now=NOW)
    assert [x.reason for x in load_baseline(path).accepted] == ["longer"]
    b = read_side(make_run(tmp_path / "two", {A: slow()}))
    assert compare(read_side(path), b, RULES, now=NOW).verdict != "fail"
    assert compare(read_side(path), b, RULES, now=datetime(2026, 8, 2, tzinfo=UTC)).verdict == "fail"


def test_there_is_no_baseline_yet(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no baseline") as e:
        load_baseline(tmp_path / "none.json")
    assert "promote" in (e.value.hint or "")
