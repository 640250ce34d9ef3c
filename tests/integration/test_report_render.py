"""The report's figures, words and outputs, from made-up runs, with the real chart engine (too slow for tests/unit)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from dbperf.errors import RecordError
from dbperf.records.base import parse_document
from dbperf.records.capacity import Breaking, Capacity, CapacityPoint
from dbperf.records.load import Histogram, Load, LoadSecond
from dbperf.records.plans import Plan, PlanNode
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.records.telemetry import Telemetry
from dbperf.records.verdicts import Verdicts
from dbperf.records.waits import Waits
from dbperf.report import build, charts, write_report
from dbperf.report.build import MAX_STATEMENTS, build_report
from dbperf.report.capacity_chart import capacity_chart, capacity_spec
from dbperf.report.distribution import MAX_POINTS, bins, timeline
from dbperf.report.heat_chart import heat_chart, heat_spec
from dbperf.report.html import render_html
from dbperf.report.links import Links
from dbperf.report.markdown import render_markdown
from dbperf.report.model import Report
from dbperf.report.requests import finding_groups
from dbperf.report.resources import SERIES, resource_charts, resource_spec
from dbperf.report.templating import plan_rows
from dbperf.stats.capacity import fit_usl
from tests.support.sample_run import HOSTILE, sample_run, statements_of


class Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.text = ""
        self.raw: dict[str, str] = {}
        self._inside: str | None = None
        self.policy = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id" and value:
                self.ids.append(value)
            if name == "href" and value:
                self.links.append(value)
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("style", "script"):
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
            self._inside = None
        else:
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return sample_run(tmp_path_factory.mktemp("report") / "run", endpoints=4)


@pytest.fixture(scope="module")
def report(run: RunDirectory) -> Report:
    return build_report(run)


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_html(report)


def test_the_same_run_gives_the_same_bytes(run: RunDirectory) -> None:
    first = write_report(run)
    before = [p.read_bytes() for p in (first.html, first.markdown, first.json)]
    again = write_report(RunDirectory.open(run.path))
    assert [p.read_bytes() for p in (again.html, again.markdown, again.json)] == before


def test_json_holds_the_figures_and_reads_back(run: RunDirectory, report: Report) -> None:
    data = report.to_json()
    assert parse_document(Report, data, source="report.json") == report
    load = run.read(Load)
    told = json.loads(data)
    for endpoint, source in zip(told["endpoints"], load.stages[0].endpoints, strict=True):
        assert endpoint["requests"] == source.requests
        assert [q["value_ms"] for q in endpoint["quantiles"]] == [q.value_ms for q in source.quantiles]
    statements = run.read(Statements)
    assert [s["total_ms"] for s in told["statements"]["statements"]] == [s.total_ms for s in statements.statements]
    assert all(isinstance(s["queryid"], str) for s in told["statements"]["statements"])


def test_the_verdict_counts_every_level(run: RunDirectory, report: Report) -> None:
    verdicts = run.read(Verdicts)
    levels = [*verdicts.levels, *verdicts.gates]
    words = report.verdict
    assert words.failed == sum(v.verdict == "fail" for v in levels) > 0
    assert words.passed + words.failed + words.cant_tell == len(levels)
    assert words.title == f"{words.failed} of {len(levels)} service levels and gates are missed"


def test_three_facts_each_with_evidence_that_exists(report: Report, html: str) -> None:
    page = Page(html)
    assert [f.kind for f in report.verdict.facts] == ["service_level", "statement", "finding"]
    assert report.verdict.facts[0].figure == "1.6 ×"
    for fact in report.verdict.facts:
        assert fact.anchor in page.ids


def test_a_level_missed_without_a_value_says_how_that_is_known(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, only={"load", "verdicts"})
    verdicts = run.read(Verdicts)
    level = next(v for v in verdicts.levels if v.metric == "p95")
    why = "7 of 29 requests (24 %) took longer than 1 s; 5.0 % may"
    missed = msgspec.structs.replace(level, observed=None, ci_low=None, ci_high=None, verdict="fail", reason=why)
    run.write(msgspec.structs.replace(verdicts, overall="fail", levels=[missed], gates=[]))
    fact = build_report(run).verdict.facts[0]
    assert (fact.figure, fact.text) == ("> 1 s", f"P95 of POST /reflection/analyze: {why}")


def test_data_quality_says_what_weakens_which_figure_and_links_to_it(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=2)
    load, waits = run.read(Load), run.read(Waits)
    stage = load.stages[0]
    first = stage.endpoints[0]
    bursts = msgspec.structs.replace(
        first, quantiles=[msgspec.structs.replace(q, design_effect=3.0) for q in first.quantiles]
    )
    generator = msgspec.structs.replace(load.generator, loop_lag_max_ms=420.0, saturated=True, reason="100 % of a core")
    stages = [msgspec.structs.replace(stage, endpoints=[bursts, *stage.endpoints[1:]])]
    run.write(msgspec.structs.replace(load, generator=generator, stages=stages))
    sampler = msgspec.structs.replace(waits.sampler, longest_gap_ms=2300.0, missed_share=0.2)
    run.write(msgspec.structs.replace(waits, sampler=sampler))
    statements = run.read(Statements)
    validity = msgspec.structs.replace(statements.validity, reset=True, evictions=3)
    run.write(msgspec.structs.replace(statements, validity=validity, attributed_share=0.5))
    report = build_report(run)
    told = {n.about: [m.text for m in report.notes if m.about == n.about] for n in report.notes}
    assert any("saturated" in t for t in told["latencies"])
    assert any("420 ms" in t for t in told["latencies"])
    assert any("3 times fewer" in t for t in told["POST /reflection/analyze"])
    assert any("2.3 s" in t for t in told["waits"])
    assert any("20 %" in t for t in told["waits"])
    assert any("reset" in t for t in told["statements"])
    assert any("evicted 3 times" in t for t in told["statements"])
    assert any("50 %" in t for t in told["statements"])
    quality = render_html(report).split('id="quality"')[1].split("</section>")[0]
    for about, anchor in (("latencies", "endpoints"), ("statements", "statements"), ("waits", "waits")):
        assert f'<a href="#{anchor}">{about}</a>' in quality
    assert '<a href="#endpoint-1">POST /reflection/analyze</a>' in quality


def test_evidence_links_up_and_down(report: Report, html: str) -> None:
    """Endpoint to statement to plan node and index, and back."""
    links = Links(report)
    assert report.statements is not None
    first = report.statements.statements[0]
    batch = links.trace_of("POST /reflection/batch")
    assert batch is not None
    used = links.statement(fingerprint=batch.statements[0].fingerprint)
    assert used == first
    assert [(t.route, x.per_request) for t, x in links.users_of(first)] == [("POST /reflection/batch", 400)]
    assert [i for i, _ in links.recommendations_for(first)] == [1]
    assert links.trace_of("POST /reflection/analyze") is None
    for anchor in ("#index-1", "#statement-1", "#endpoint-2", "#traces", "#waits"):
        assert f'href="{anchor}"' in html


def test_capacity_is_drawn_with_its_law_and_what_breaks(tmp_path: Path) -> None:
    import altair

    run = sample_run(tmp_path / "run", endpoints=1)
    assert build_report(run).capacity is None
    assert 'id="capacity"' not in render_html(build_report(run))
    points = [
        CapacityPoint(stage=f"{n} users", load=float(n), requests_per_s=100 * n / (1 + 0.05 * (n - 1)), p95_ms=20.0)
        for n in (1, 10, 50)
    ]
    broken = Breaking(endpoint="GET /a", metric="p95", limit_ms=500, load=80, reason="predicted <b>")
    found = Capacity(points=points, usl=fit_usl(points), breaking=[broken])
    run.write(found)
    html = render_html(build_report(run))
    assert 'href="#capacity"' in html
    assert "P95 of 500 ms breaks at 80 users (predicted &lt;b&gt;)" in html
    chart = capacity_chart(found)
    assert f'aria-label="{chart.label}"' in html
    assert chart.hover[0][1] == "1 users: 100 requests/s at a load of 1.0"
    for one in (found, Capacity(points=points[:2], usl=None, reason="the law needs three")):
        altair.LayerChart.from_dict(capacity_spec(one), validate=True)
        assert len(capacity_spec(one)["layer"]) == (2 if one.usl else 1)


def test_resources_are_the_samples_highest_and_a_busy_machine_is_noted(tmp_path: Path) -> None:
    import altair

    run = sample_run(tmp_path / "run", endpoints=1)
    report = build_report(run)
    telemetry = run.read(Telemetry)
    assert report.resources is not None
    assert report.resources.deadlocks == 1
    assert report.resources.blocked_s_max == 1.42
    assert [p.machine_cpu_share for p in report.resources.points] == [s.machine.cpu_share for s in telemetry.samples]
    assert [t for t, _, _ in resource_charts(report.resources)] == [t for t, _, _ in SERIES.values()]
    altair.LayerChart.from_dict(resource_spec([(0.0, 1.0), (1.0, 2.0)], "datum.value"), validate=True)
    assert not any("processors were busy" in n.text for n in report.notes)
    busy = [
        msgspec.structs.replace(s, at_s=float(i), machine=msgspec.structs.replace(s.machine, cpu_share=0.97))
        for i, s in enumerate(telemetry.samples * 10)
    ]
    run.write(msgspec.structs.replace(telemetry, samples=busy))
    again = build_report(run)
    assert again.resources is not None
    assert len(again.resources.points) <= 180
    assert again.resources.samples_per_point == 4
    assert any("processors were busy 97 %" in n.text for n in again.notes)


def test_the_same_pattern_at_the_same_place_is_told_once(report: Report) -> None:
    assert report.trace is not None
    batch, health = report.trace.endpoints
    there = msgspec.structs.replace(batch.findings[0], route=health.route, saved_ms=1.0)
    elsewhere = msgspec.structs.replace(there, source="app/other.py:1", severity="warning")
    both = msgspec.structs.replace(
        report.trace, endpoints=[batch, msgspec.structs.replace(health, findings=[elsewhere, there])]
    )
    first, second = finding_groups(both)
    assert (first.finding.route, [f.route for f in first.also]) == (batch.route, [health.route])
    assert first.saved_ms == 3600.0 * 180 + 600
    assert second.finding.source == "app/other.py:1"


def test_parts_that_a_run_does_not_have_leave_no_trace(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, statements=3)
    report = build_report(run)
    assert (report.trace, report.advice, report.waits) == (None, None, None)
    assert not {"traced requests", "index advice", "waits"} & {m.part for m in report.missing}
    html = render_html(report)
    assert 'id="traces"' not in html
    assert 'href="#waits"' not in html
    failed = msgspec.structs.replace(run.manifest.stages[0], name="trace", status="failed", detail="no hook")
    run.update(stages=[*run.manifest.stages, failed])
    assert any(m.part == "traced requests" and "no hook" in m.reason for m in build_report(run).missing)


def test_every_link_inside_the_page_leads_somewhere_and_none_leads_out(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == set()
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_policy_names_exactly_our_style_and_script(html: str) -> None:
    page = Page(html)
    directives = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert directives == {
        "default-src": "'none'",
        "script-src": hashed(page.raw["script"]),
        "style-src": hashed(page.raw["style"]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert html.count("<script") == html.count("<style") == 1


def test_no_attribute_or_tag_that_the_policy_would_block_or_that_loads(html: str) -> None:
    page = Page(html)
    assert not {a for a in page.attributes if a.startswith("on")} | (page.attributes & {"style", "src", "srcset"})
    assert not page.tags & {"img", "iframe", "object", "embed", "link", "base", "form", "image", "use", "foreignobject"}
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


def test_figures_in_the_page_are_the_records_figures(report: Report, html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert "5.77 s – 6.44 s" in text
    for e in report.endpoints:
        assert e.name in text
    assert "7000000000000000000" in text
    assert "case-000042" in text


def test_provenance_is_prominent(html: str) -> None:
    assert "Sample data" in Page(html).text


@pytest.mark.parametrize(
    "only", [set(), {"load"}, {"statements"}, {"plans"}, {"verdicts"}, {"load", "verdicts"}, {"statements", "plans"}]
)
def test_partial_runs_render_and_say_what_is_missing(tmp_path: Path, only: set[str]) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, only=only)
    report = build_report(run)
    parts = {"load": "endpoints and latencies", "statements": "statements", "plans": "plans"}
    for kind, part in parts.items():
        assert any(m.part == part for m in report.missing) == (kind not in only)
    page = Page(render_html(report))
    assert "Partial run" in page.text
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "Partial run" in render_markdown(report)


def test_the_reason_for_a_missing_part_is_the_stage_that_ended_it(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, only={"load"})
    stages = [
        msgspec.structs.replace(s, status="failed", detail="server closed the connection") if s.name == "plans" else s
        for s in run.manifest.stages
    ]
    run.update(stages=stages)
    missing = {m.part: m.reason for m in build_report(run).missing}
    assert missing["plans"] == "the stage “Explain the top statements” failed: server closed the connection"


def test_a_damaged_document_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1)
    (run.path / Statements.file_name).write_bytes(b'{"kind": "statements", "schema_version": 1, "window"')
    report = build_report(run)
    assert report.statements is None
    assert report.endpoints
    assert any("statements.json, line 1" in m.reason for m in report.missing)
    assert "statements.json, line 1" in Page(render_html(report)).text


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('"schema_version": 1', '"schema_version": 99'), "was written by a newer dbperf (schema_version 99"),
        (('"schema_version": 1', '"schema_version": 0'), "field schema_version: 0 is not a version"),
        (('"kind": "statements"', '"kind": "waits"'), "field kind: 'waits' was found"),
        (('"total_calls": ', '"total_calls": "<b>many</b>", "x": '), "field total_calls"),
        (("", ""), None),
    ],
)
def test_a_document_that_is_newer_older_or_tampered_with_is_named(
    tmp_path: Path, edit: tuple[str, str], said: str | None
) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, statements=3)
    file = run.path / Statements.file_name
    file.write_text(file.read_text().replace(*edit, 1))
    report = build_report(run)
    assert (report.statements is None) == (said is not None)
    assert report.endpoints
    html = render_html(report)
    assert "<b>many" not in html
    if said:
        [missing] = [m for m in report.missing if m.part == "statements"]
        assert said in missing.reason
        assert str(run.path) not in missing.reason
        assert "statements.json" in Page(html).text


def test_a_manifest_of_a_newer_dbperf_is_refused_whole(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1, statements=3)
    file = run.path / "run.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2', 1))
    with pytest.raises(RecordError, match="newer dbperf") as error:
        RunDirectory.open(run.path)
    assert error.value.hint == "upgrade dbperf"


def test_a_hundred_thousand_statements_make_a_page_of_the_usual_size(report: Report) -> None:
    many = statements_of(100_000, requests=6000)
    found = build.statements_report(many, None)
    assert found.left_out == 100_000 - MAX_STATEMENTS
    shown_ms = sum(s.total_ms for s in found.statements)
    assert shown_ms + found.left_out_ms == pytest.approx(many.total_ms)
    html = render_html(msgspec.structs.replace(report, statements=found))
    assert len(html) < 1_500_000
    assert "99,000 more statements" in Page(html).text


def test_a_damaged_histogram_costs_one_picture(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=3)
    load = run.read(Load)
    stage = load.stages[0]
    broken = msgspec.structs.replace(stage.endpoints[0], latency=Histogram(encoded="HISTFAAA", count=3))
    run.write(
        msgspec.structs.replace(load, stages=[msgspec.structs.replace(stage, endpoints=[broken, *stage.endpoints[1:]])])
    )
    report = build_report(run)
    assert [bool(e.distribution) for e in report.endpoints] == [False] + [True] * (len(report.endpoints) - 1)
    assert any(m.part.startswith("latency distribution of") for m in report.missing)


def test_bins_hold_every_request_and_their_edges_meet(run: RunDirectory) -> None:
    for e in run.read(Load).stages[0].endpoints:
        found = bins(e.latency)
        assert sum(b.count for b in found) == e.latency.count
        assert all(a.high_ms == b.low_ms for a, b in pairwise(found))
        assert e.min_ms is not None
        assert e.max_ms is not None
        assert found[0].low_ms <= e.min_ms * 1.001
        assert found[-1].high_ms >= e.max_ms * 0.999


def test_long_timelines_are_joined_and_keep_their_totals() -> None:
    second = LoadSecond(
        at_s=0, stage="s", endpoint="e", users=1, requests=2, errors=0, p50_ms=1, p95_ms=None, max_ms=None
    )
    seconds = [
        msgspec.structs.replace(second, at_s=float(i), errors=int(i % 7 == 0), p95_ms=float(i)) for i in range(3600)
    ]
    points, step = timeline(seconds)
    assert len(points) <= MAX_POINTS
    assert step == 20
    assert sum(p.requests_per_s * p.seconds for p in points) == 7200
    assert sum(p.errors for p in points) == sum(s.errors for s in seconds)
    assert max(p.p95_ms or 0 for p in points) == 3599


def test_pictures_are_well_formed_and_carry_nothing_active(report: Report) -> None:
    for e in report.endpoints[:3]:
        for chart in (charts.distribution_chart(e), charts.timeline_chart(e), heat_chart(e)):
            assert chart is not None
            root = ElementTree.fromstring(chart.svg)
            tags = {element.tag for element in root.iter()}
            assert tags <= {"svg", "g", "path", "line", "text", "rect"}
            used = {name for element in root.iter() for name in element.attrib}
            assert not used & {"style", "id", "href", "font-family"}
            low, _, high, _ = chart.plot
            assert all(low <= x <= high for x, _ in chart.hover)


def test_self_cost_bars_of_a_plan_that_was_not_executed_sum_to_one(report: Report) -> None:
    assert report.statements is not None
    plan = next(s.plan for s in report.statements.statements if s.plan and not s.plan.analyzed and s.plan.root.children)
    assert sum(row["bar"] for row in plan_rows(plan)) == pytest.approx(1)


def test_a_deep_plan_keeps_its_nodes_in_order() -> None:
    node = PlanNode(node_id=40, node_type="Result", total_cost=1.0)
    for i in range(39, -1, -1):
        node = PlanNode(node_id=i, node_type="Nested Loop", total_cost=2.0 + 40 - i, children=[node])
    rows = plan_rows(Plan(root=node, analyzed=False))
    assert [r["node"].node_id for r in rows] == list(range(41))
    assert [r["depth"] for r in rows] == list(range(41))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=3, hostile=True)
    html = render_html(build_report(run))
    page = Page(html)
    assert html.count("<script") == 1
    assert "window.pwned=1" not in page.raw["script"]
    assert "img" not in page.tags
    assert "{{7*7}}" in page.text
    assert "\u202e" not in html
    assert "\x1b" not in html


def test_markdown_of_hostile_text_has_no_markup_of_its_own(tmp_path: Path) -> None:
    text = render_markdown(build_report(sample_run(tmp_path / "run", endpoints=3, hostile=True)))
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert "<" not in outside
    assert "\x1b" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(bars) == 1, "every row has as many cells as its table's head, whatever the cells hold"
    assert len(tables) == 6
    assert HOSTILE[:9] in text


@pytest.mark.parametrize("limit", [900, 2000, 3600])
def test_markdown_leaves_out_the_least_important_first_and_says_so(report: Report, limit: int) -> None:
    text = render_markdown(report, max_chars=limit)
    assert len(text) <= limit
    assert report.verdict.title in text
    assert "are in the HTML report" in text
    full = render_markdown(report)
    assert len(full) > 3000
    if limit == 3600:
        assert "POST /consolidation/dry-run" in text.split("### ")[0]


def test_statements_beyond_the_limit_are_summed(tmp_path: Path) -> None:
    report = build_report(sample_run(tmp_path / "run", endpoints=1, statements=MAX_STATEMENTS + 25))
    st = report.statements
    assert st is not None
    assert len(st.statements) == MAX_STATEMENTS
    assert st.left_out == 25
    assert st.left_out_ms > 0
    assert min(s.total_ms for s in st.statements) >= st.left_out_ms / 25
    assert "25 more statements" in Page(render_html(report)).text


def test_pictures_are_valid_altair_specifications(report: Report) -> None:
    import altair  # 0.3 s, which each worker would spend while it collects

    specs = [spec(e) for e in report.endpoints for spec in (charts.distribution_spec, charts.timeline_spec)]
    for one in {_shape(spec): spec for spec in specs}.values():  # which data it has makes no difference
        altair.LayerChart.from_dict(one, validate=True)
    altair.LayerChart.from_dict(heat_spec(report.endpoints[0]), validate=True)


def _shape(spec: object) -> str:
    """A specification without its values: names in their order, words (marks, types), what else is text or a number."""
    if isinstance(spec, dict):
        return "{" + ",".join(f"{k}:{_shape(v)}" for k, v in spec.items() if k != "values") + "}"
    if isinstance(spec, list):
        return "[" + ",".join(map(_shape, spec)) + "]"
    return spec if isinstance(spec, str) and spec.isalpha() else type(spec).__name__


def test_a_heat_map_covers_every_latency_and_second_that_had_requests(report: Report, run: RunDirectory) -> None:
    e = report.endpoints[0]
    stretches = [s for s in run.read(Load).stretches if s.endpoint == e.name]
    assert sum(sum(c.counts) for c in e.heat) == sum(sum(s.counts) for s in stretches)
    drawn = heat_chart(e)
    assert drawn is not None
    cells = [cell for layer in heat_spec(e)["layer"] for cell in layer["data"]["values"] if "low" in cell]
    covered = [(c.at_s, cell["low"], cell["high"]) for cell in cells for c in e.heat if cell["a"] <= c.at_s < cell["b"]]
    wanted = [
        (c.at_s, c.edges_ms[i], c.edges_ms[i + 1]) for c in e.heat for i, n in enumerate(c.counts) if n
    ]  # cells beside each other that look the same are one
    assert sorted(covered) == sorted(wanted)
    root = ElementTree.fromstring(drawn.svg)
    assert sum(p.attrib["d"].count("M") for p in root.iter("path") if "fill-opacity" in p.attrib) == len(cells)
    assert len(drawn.svg) < 15_000, "nine endpoints of them must fit the page"


def test_a_run_without_distributions_over_time_has_no_heat_map(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=1)
    run.write(msgspec.structs.replace(run.read(Load), stretches=[]))
    html = render_html(build_report(run))
    assert "Over time" in html
    assert "Heat map" not in html


def test_waits_stand_beside_the_endpoint_whose_statements_waited(report: Report, html: str) -> None:
    links = Links(report)
    batch = links.trace_of("POST /reflection/batch")
    assert batch is not None
    assert [(event, round(share, 2)) for event, _, _, share in links.waits_of(batch)] == [
        ("CPU", 0.93),
        ("DataFileRead", 0.07),
    ]
    assert html.count("Waits of its statements") == 1
