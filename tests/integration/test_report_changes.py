"""`dbperf report RUN --against OTHER`: what changed, in every output, and what can't be compared."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from typer.testing import CliRunner

from dbperf.cli.main import app
from dbperf.cli.report import other_side
from dbperf.errors import RecordError
from dbperf.records.comparison import Accepted
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.regress.baseline import accept, promote
from dbperf.report.build import build_report
from dbperf.report.changes_model import ChangesReport
from dbperf.report.html import render_html
from dbperf.report.junit import render_junit
from dbperf.report.markdown import render_markdown
from dbperf.report.model import Report
from tests.support.sample_run import HOSTILE, sample_run


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return sample_run(tmp_path_factory.mktemp("against") / "before", endpoints=3, flames=True, seed=1)


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return sample_run(tmp_path_factory.mktemp("against") / "after", endpoints=3, flames=True, factor=3)


@pytest.fixture(scope="module")
def report(before: RunDirectory, slower: RunDirectory) -> Report:
    return build_report(slower, against=other_side(slower, before.path, None))


def changes_of(report: Report) -> ChangesReport:
    assert report.changes is not None
    return report.changes


def test_a_regression_is_found_with_its_interval_and_linked_both_ways(report: Report) -> None:
    changes = changes_of(report)
    assert changes.verdict == "fail"
    worst = changes.metrics[0]
    assert (worst.subject, worst.verdict, worst.gate) == ("POST /reflection/batch", "worse", True)
    assert worst.ratio == pytest.approx(3, rel=0.3)
    html = render_html(report)
    assert 'id="change-1"' in html
    assert re.search(r'<tr id="change-1"><th scope="row"><a href="#endpoint-2">', html)
    p95 = next(i for i, m in enumerate(changes.metrics, 1) if m.name == "POST /reflection/batch p95")
    endpoint = html[html.index('id="endpoint-2"') : html.index('id="endpoint-3"')]
    assert f'href="#change-{p95}"' in endpoint
    assert "A regression (" in html[: html.index('id="endpoints"')]


def test_statements_stand_beside_with_their_plans_and_without_a_verdict(report: Report) -> None:
    first = changes_of(report).statements[0]
    assert "execution_log.log_id" in first.text
    assert first.before_ms is not None
    assert first.after_ms == pytest.approx(3 * first.before_ms)
    assert first.plan_after == ["Seq Scan on execution_log"]


def test_the_flame_graphs_difference_is_drawn_and_judged(report: Report) -> None:
    (flame,) = changes_of(report).flames
    assert (round(flame.before_ms), round(flame.after_ms)) == (6150, 14_350)
    assert flame.changes[0].change == pytest.approx(8200)
    assert {c.verdict for c in flame.changes[:3]} == {"more"}
    html = render_html(report)
    assert html.count('<figure class="flame"') == 3
    assert "After, coloured by change" in html


def test_markdown_and_junit_say_it_too(report: Report) -> None:
    text = render_markdown(report)
    assert "### Changes" in text
    assert re.search(r"\| `POST /reflection/batch p95` \| ❌ worse \| .* s \| .* s \| ×[23]\.", text)
    root = ElementTree.fromstring(render_junit(report))
    suite = next(s for s in root if (s.get("name") or "").startswith("against"))
    gating = [m for m in changes_of(report).metrics if m.gate]
    assert suite.get("tests") == str(len(gating))
    failed = [c.get("name") for c in suite if c.find("failure") is not None]
    assert len(failed) == sum(m.verdict == "worse" for m in gating) == int(suite.get("failures") or 0)


def test_the_same_two_runs_give_the_same_bytes(before: RunDirectory, slower: RunDirectory, report: Report) -> None:
    again = build_report(RunDirectory.open(slower.path), against=other_side(slower, before.path, None))
    # Only the day may differ, where midnight lies between the two.
    same_day = msgspec.structs.replace(
        again, changes=msgspec.structs.replace(changes_of(again), judged_on=changes_of(report).judged_on)
    )
    assert same_day.to_json() == report.to_json()
    assert render_html(same_day) == render_html(report)


def test_a_baseline_and_its_accepted_exceptions(tmp_path: Path) -> None:
    before = sample_run(tmp_path / "before", endpoints=3, seed=1)
    slower = sample_run(tmp_path / "after", endpoints=3, factor=3)
    for run in (before, slower):  # made-up figures are refused as a baseline
        run.update(provenance="measured")
    file = tmp_path / "baseline.json"
    promote(file, before.path, reason="first", who="Kim")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    accept(file, "POST /reflection/batch *", until=tomorrow, reason="ticket 12", who="Kim")
    report = build_report(slower, against=other_side(slower, file, None))
    changes = changes_of(report)
    assert changes.verdict != "fail"
    assert all(m.accepted for m in changes.metrics if m.verdict == "worse")
    html = render_html(report)
    assert f"accepted until {tomorrow} by Kim: ticket 12" in html
    assert f"accepted until {tomorrow}" in render_markdown(report)
    assert "<failure" not in render_junit(report).split('name="against')[1]
    expired = msgspec.json.decode(file.read_bytes())
    expired["accepted"][0]["until"] = "2020-01-01"
    file.write_bytes(msgspec.json.encode(expired))
    again = build_report(slower, against=other_side(slower, file, None))
    assert changes_of(again).verdict == "fail"
    assert "expired on 2020-01-01" in render_html(again)


def test_runs_of_different_targets_are_not_compared_and_it_says_why(slower: RunDirectory, tmp_path: Path) -> None:
    other = sample_run(tmp_path / "other", endpoints=3, seed=2)
    target = other.manifest.target
    assert target is not None
    other.update(target=msgspec.structs.replace(target, origin="user", url="http://10.0.0.7:8000"))
    report = build_report(slower, against=other_side(slower, other.path, None))
    changes = changes_of(report)
    assert changes.verdict == "not_comparable"
    assert all(m.ratio is None for m in changes.metrics)
    html = render_html(report)
    assert "Not comparable (" in html
    assert "target" in changes.metrics[0].reason


def test_a_run_without_figures_is_a_reason_and_its_statements_still_count(slower: RunDirectory, tmp_path: Path) -> None:
    partial = sample_run(tmp_path / "partial", endpoints=3, only={"statements"})
    report = build_report(slower, against=other_side(slower, partial.path, None))
    changes = changes_of(report)
    assert changes.verdict is None
    assert "holds no measurement" in (changes.reason or "")
    assert changes.statements
    assert "Not compared: " in render_html(report)
    assert "Not compared" in render_markdown(report)
    assert 'skipped="1"' in render_junit(report).split('name="against')[1]


def test_a_damaged_part_of_the_other_run_costs_that_part_only(slower: RunDirectory, tmp_path: Path) -> None:
    other = sample_run(tmp_path / "other", endpoints=3, flames=True, seed=2)
    (other.path / Statements.file_name).write_bytes(b"{")
    changes = changes_of(build_report(slower, against=other_side(slower, other.path, None)))
    assert changes.statements == []
    assert changes.flames
    assert changes.verdict == "fail"


@pytest.mark.parametrize("kind", ["nowhere", "empty", "no baseline"])
def test_what_is_no_other_side_is_an_error_before_anything_is_written(
    slower: RunDirectory, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "other"
    if kind == "empty":
        path.mkdir()
    elif kind == "no baseline":
        path.write_text('{"kind": "statements"}')
    with pytest.raises(RecordError):
        other_side(slower, path, None)


def test_the_comparison_that_compare_left_is_shown(before: RunDirectory, tmp_path: Path) -> None:
    after = sample_run(tmp_path / "after", endpoints=3, factor=3)
    CliRunner().invoke(app, ["compare", str(before.path), str(after.path)])
    changes = changes_of(build_report(RunDirectory.open(after.path)))
    assert changes.verdict == "fail"
    assert changes.against == str(before.path)


def test_the_command_writes_it_and_share_hides_the_other_sides_names(
    before: RunDirectory, slower: RunDirectory
) -> None:
    args = ["report", str(slower.path), "--against", str(before.path), "--share"]
    CliRunner().invoke(app, args, catch_exceptions=False)
    shared = (slower.path / "share" / "report.html").read_text()
    assert "A regression (" in shared
    assert str(before.path) not in shared
    assert before.path.name not in shared.split("<main")[1].split("Against")[1][:200]


def test_hostile_text_of_the_other_side_stays_text(tmp_path: Path) -> None:
    a = sample_run(tmp_path / "a", endpoints=3, flames=True, hostile=True, seed=1)
    b = sample_run(tmp_path / "b", endpoints=3, flames=True, hostile=True, factor=3)
    against = other_side(b, a.path, None)
    assert against.comparison is not None
    metric = against.comparison.metrics[0]
    bad = Accepted(metric=metric.name, until=date.max, reason=HOSTILE, who=HOSTILE, at=datetime.now(UTC))
    metrics = [msgspec.structs.replace(metric, reason=HOSTILE, accepted=bad), *against.comparison.metrics[1:]]
    comparison = msgspec.structs.replace(against.comparison, metrics=metrics, notes=[HOSTILE])
    report = build_report(b, against=msgspec.structs.replace(against, name=HOSTILE, comparison=comparison))
    html = render_html(report)
    assert "<script>window.pwned" not in html
    assert "<img" not in html
    assert "\x1b" not in html
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", render_markdown(report))
    assert "<" not in outside


def test_a_run_alone_has_no_such_section(slower: RunDirectory) -> None:
    assert build_report(slower).changes is None
    assert 'id="changes"' not in render_html(build_report(slower))
