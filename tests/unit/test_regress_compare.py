"""Two sides become verdicts: unlike is never compared with unlike, and noise is no regression."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from dbperf.cli.compare import finish
from dbperf.errors import OutputError, RecordError, UsageError
from dbperf.records.comparison import (
    Accepted,
    Comparison,
    Conditions,
    CustomFigure,
    CustomMetric,
    Measurement,
    MetricComparison,
    Service,
    Side,
    Tolerance,
)
from dbperf.records.load import Quantile
from dbperf.records.run import Host, Target
from dbperf.regress.compare import Figures, compare
from dbperf.regress.github import workflow_commands
from dbperf.regress.judge import Rules
from dbperf.regress.junit import render_junit
from dbperf.regress.render import render_markdown, render_text
from tests.support.comparing import lognormal, side

A = "GET /a"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def rules(*services: Service, **overrides: Tolerance) -> Rules:
    return Rules(services=list(services), overrides=overrides)


def metric(result: Comparison, name: str) -> MetricComparison:
    return next(m for m in result.metrics if m.name == name)


def slower(values: Any, factor: float) -> list[float]:
    return [x * factor for x in values]


def summary(
    p95: float = 100, errors: int = 0, rate: float = 10, *, custom: dict[str, float] | None = None, **conditions: Any
) -> Figures:
    m = Measurement(
        subject=A,
        conditions=Conditions(**conditions),
        requests=1000,
        errors=errors,
        requests_per_s=rate,
        quantiles=[Quantile(q=0.95, value_ms=p95)],
        custom=[CustomFigure(name=k, value=v) for k, v in (custom or {}).items()],
    )
    provenance = conditions.get("provenance", "measured")
    return Figures(side=Side(source="x", kind="locust-csv", provenance=provenance), measurements=[m])


def test_one_user_against_a_hundred_is_not_comparable(tmp_path: Path) -> None:
    """0.27 requests/s by one user against 5.72 by a hundred is no change of +2016.7 %."""
    a = side(tmp_path / "a", {A: lognormal(400)}, users=1, rate=0.27, stage="load")
    b = side(tmp_path / "b", {A: lognormal(400, median_ms=900)}, users=100, rate=5.72, stage="load")
    result = compare(a, b, rules())
    assert result.verdict == "not_comparable"
    assert {m.verdict for m in result.metrics} == {"not_comparable"}
    throughput = metric(result, "GET /a requests_per_s")
    assert (throughput.a, throughput.b, throughput.ratio) == (0.27, 5.72, None)
    assert "1 user against 100" in throughput.reason
    for text in (render_text(result), render_markdown(result), "\n".join(workflow_commands(result))):
        assert "1 user against 100" in text
        assert "2016" not in text
        assert "::error" not in text


def test_more_throughput_is_better_not_a_failure(tmp_path: Path) -> None:
    a = side(tmp_path / "a", {A: lognormal(400)}, rate=0.27)
    b = side(tmp_path / "b", {A: lognormal(400)}, rate=5.72)
    result = compare(a, b, rules(), ignore=["duration"])
    assert metric(result, "GET /a requests_per_s").verdict == "better"
    assert result.verdict != "fail"
    assert compare(b, a, rules(), ignore=["duration"]).verdict == "fail"


def test_a_slowdown_of_a_quarter_is_worse_and_the_way_back_is_better(tmp_path: Path) -> None:
    values = lognormal(5000)
    a, b = side(tmp_path / "a", {A: values}), side(tmp_path / "b", {A: slower(lognormal(5000, seed=2), 1.25)})
    there, back = compare(a, b, rules()), compare(b, a, rules())
    assert there.verdict == "fail"
    m = metric(there, "GET /a p95")
    assert (m.verdict, m.unit, m.direction) == ("worse", "ms", "lower")
    assert m.ci_low is not None
    assert m.ci_high is not None
    assert m.ratio is not None
    assert 1 < m.ci_low < m.ratio < m.ci_high
    assert metric(back, "GET /a p95").verdict == "better"
    assert back.verdict == "pass"


def test_the_same_samples_are_shown_unchanged(tmp_path: Path) -> None:
    a = side(tmp_path / "a", {A: lognormal(20_000)})
    b = side(tmp_path / "b", {A: lognormal(20_000, seed=2)})
    assert metric(compare(a, b, rules()), "GET /a p95").verdict == "unchanged"
    assert compare(a, b, rules()).verdict == "pass"


def test_a_real_but_small_slowdown_is_unchanged(tmp_path: Path) -> None:
    a = side(tmp_path / "a", {A: lognormal(200_000)})
    b = side(tmp_path / "b", {A: slower(lognormal(200_000, seed=2), 1.03)})
    m = metric(compare(a, b, Rules(services=[], overrides={}, run_to_run=0)), "GET /a p50")
    assert m.ci_low is not None
    assert m.ci_low > 1
    assert m.verdict == "unchanged"


def test_too_few_samples_cant_tell(tmp_path: Path) -> None:
    a, b = side(tmp_path / "a", {A: lognormal(50)}), side(tmp_path / "b", {A: slower(lognormal(50), 3)})
    m = metric(compare(a, b, rules()), "GET /a p95")
    assert m.verdict == "cant_tell"
    assert "50 samples, p95 needs 72" in m.reason
    assert metric(compare(a, b, rules()), "GET /a p50").verdict == "worse"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seconds": 90}, "1 min 00 s against 1 min 30 s"),
        ({"target": Target(url="http://127.0.0.1:1", origin="reference", scale="spec", workers=1)}, "scale smoke"),
        ({"target": Target(url="https://api.example.org", origin="user")}, "reference target against api.example.org"),
        ({"provenance": "simulated"}, "measured data against simulated"),
        (
            {
                "host": Host(
                    hostname="h", system="Linux 6.2 x86_64", python_version="3.12", cpu_model="EPYC", cpu_count=64,
                    memory_bytes=1,
                )
            },
            "another machine: 2 against 64",
        ),
    ],
)  # fmt: skip
def test_other_conditions_are_not_comparable(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    values = lognormal(1000)
    result = compare(
        side(tmp_path / "a", {A: values}), side(tmp_path / "b", {A: slower(values, 2)}, **changed), rules()
    )
    assert result.verdict == "not_comparable"
    assert reason in result.metrics[0].reason


def test_sample_data_never_gates_measured_data_even_on_request() -> None:
    a, b = summary(), summary(p95=1000, provenance="sample")
    assert compare(a, b, rules()).verdict == "not_comparable"
    with pytest.raises(UsageError, match="provenance"):
        compare(a, b, rules(), ignore=["provenance"])


def test_a_difference_can_be_allowed_and_is_then_said(tmp_path: Path) -> None:
    values = lognormal(2000)
    a, b = side(tmp_path / "a", {A: values}, users=10), side(tmp_path / "b", {A: values}, users=11)
    result = compare(a, b, rules(), ignore=["users"])
    assert result.verdict == "pass"
    assert "10 users against 11" in " ".join(result.notes)


def test_a_family_shares_the_chance_of_a_false_alarm(tmp_path: Path) -> None:
    """A slowdown that one endpoint alone would prove is no proof among 20."""
    values = {f"GET /{i}": lognormal(800, seed=i) for i in range(20)}
    changed = {name: lognormal(800, seed=i + 100) for i, name in enumerate(values)}
    changed["GET /7"] = slower(lognormal(800, seed=900), 1.08)
    alone = compare(
        side(tmp_path / "a1", {"GET /7": values["GET /7"]}),
        side(tmp_path / "b1", {"GET /7": changed["GET /7"]}),
        rules(),
    )
    family = compare(side(tmp_path / "a", values), side(tmp_path / "b", changed), rules())
    assert metric(alone, "GET /7 p50").verdict == "worse"
    assert metric(family, "GET /7 p50").verdict == "cant_tell"
    assert "by chance in so many comparisons" in metric(family, "GET /7 p50").reason
    assert family.family == 20 * 4
    assert family.verdict != "fail"


def test_errors_that_appear_are_worse(tmp_path: Path) -> None:
    a = side(tmp_path / "a", {A: lognormal(2000)})
    b = side(tmp_path / "b", {A: lognormal(2000)}, errors={A: 40})
    result = compare(a, b, rules())
    m = metric(result, "GET /a errors")
    assert (m.verdict, m.unit) == ("worse", "share")
    assert result.verdict == "fail"
    assert metric(compare(a, a, rules()), "GET /a errors").verdict == "unchanged"


@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        (summary(p95=149), "unchanged"),
        (summary(p95=151), "worse"),
        (summary(p95=60), "better"),
        (summary(rate=7.1), "unchanged"),
        (summary(rate=6.9), "worse"),
    ],
)
def test_summaries_are_weak_evidence_with_fixed_thresholds(b: Figures, verdict: str) -> None:
    result = compare(summary(), b, rules())
    found = {m.verdict for m in result.metrics if m.metric != "errors"} - {"unchanged"}
    assert found == ({verdict} - {"unchanged"})
    assert all("weak evidence" in m.reason for m in result.metrics if m.metric != "errors")
    assert (result.verdict == "fail") == (verdict == "worse")


GATEWAY = Service(
    name="api_gateway",
    endpoints=["GET /a*"],
    tolerances={"p95": Tolerance(relative=0.5), "errors": Tolerance(absolute=0.005)},
)
RAG = Service(
    name="rag_service",
    endpoints=["POST /query"],
    tolerances={"p95": Tolerance(relative=0.2)},
    custom={"vector_store_timeouts": CustomMetric(unit="share", tolerance=Tolerance(absolute=0.001))},
)
TOOLS = Service(
    name="mcp_server",
    endpoints=["tool *"],
    custom={"sandbox_violations": CustomMetric(tolerance=Tolerance(limit=0))},
)


def test_services_have_tolerances_of_their_own(tmp_path: Path) -> None:
    names = (A, "POST /query")
    a = side(tmp_path / "a", {n: lognormal(20_000, seed=i) for i, n in enumerate(names)})
    b = side(tmp_path / "b", {n: slower(lognormal(20_000, seed=i + 9), 1.35) for i, n in enumerate(names)})
    result = compare(a, b, rules(GATEWAY, RAG, TOOLS, p50=Tolerance(relative=1)))
    assert metric(result, "GET /a p95").verdict == "unchanged"
    assert metric(result, "GET /a p95").service == "api_gateway"
    assert metric(result, "POST /query p95").verdict == "worse"
    assert metric(result, "POST /query p95").tolerance == "+20 %"


def custom(subject: str, **values: float) -> Figures:
    m = Measurement(
        subject=subject, conditions=Conditions(), custom=[CustomFigure(name=k, value=v) for k, v in values.items()]
    )
    return Figures(side=Side(source="x", kind="run", provenance="measured"), measurements=[m])


def test_custom_metrics_follow_their_service() -> None:
    a, b = custom("POST /query", vector_store_timeouts=0.001), custom("POST /query", vector_store_timeouts=0.0025)
    result = compare(a, b, rules(GATEWAY, RAG, TOOLS))
    assert metric(result, "POST /query vector_store_timeouts").verdict == "worse"
    assert metric(result, "POST /query vector_store_timeouts").tolerance == "+0.1 points"
    fine = compare(a, custom("POST /query", vector_store_timeouts=0.0015), rules(GATEWAY, RAG, TOOLS))
    assert fine.verdict == "pass"


def test_a_hard_limit_holds_whatever_the_baseline_was() -> None:
    services = rules(GATEWAY, RAG, TOOLS)
    bad = custom("tool shell", sandbox_violations=1)
    result = compare(bad, bad, services)
    assert result.verdict == "fail"
    assert "breaks the hard limit: at most 0" in result.metrics[0].reason
    assert compare(bad, custom("tool shell", sandbox_violations=0), services).verdict == "pass"


def test_a_metric_without_a_tolerance_gates_nothing() -> None:
    result = compare(custom(A, rows=1), custom(A, rows=1000), rules())
    assert [(m.verdict, m.gate) for m in result.metrics] == [("cant_tell", False)]


def test_an_accepted_exception_is_shown_and_expires(tmp_path: Path) -> None:
    a = side(tmp_path / "a", {A: lognormal(5000)})
    b = side(tmp_path / "b", {A: slower(lognormal(5000, seed=2), 1.4)})
    known = [
        Accepted(metric=f"{A} {m}", until=date(2026, 6, 1), reason="new check", who="kim", at=NOW)
        for m in ("p50", "p95")
    ]
    a = Figures(side=a.side, measurements=a.measurements, accepted=known)
    during, after = compare(a, b, rules(), now=NOW), compare(a, b, rules(), now=datetime(2026, 6, 2, tzinfo=UTC))
    assert during.verdict != "fail"
    assert "accepted by kim until 2026\\-06\\-01: new check" in render_markdown(during).replace(
        "2026-06-01", "2026\\-06\\-01"
    )
    assert "## Accepted exceptions" in render_markdown(during)
    assert after.verdict == "fail"
    assert "expired on 2026-06-01" in " ".join(after.notes)


def test_what_one_side_lacks_is_told(tmp_path: Path) -> None:
    a, b = (
        side(tmp_path / "a", {A: lognormal(2000), "GET /old": lognormal(2000)}),
        side(tmp_path / "b", {A: lognormal(2000)}),
    )
    result = compare(a, b, rules(), ignore=["mix", "duration"])
    [lonely] = [m for m in result.metrics if m.subject == "GET /old"]
    assert (lonely.verdict, lonely.reason) == ("not_comparable", "only in A")


def test_a_name_that_comes_twice_is_refused() -> None:
    one = summary()
    twice = Figures(side=one.side, measurements=one.measurements * 2)
    with pytest.raises(RecordError, match="names 'GET /a' twice"):
        compare(twice, one, rules())


def test_every_output_tells_the_same(tmp_path: Path) -> None:
    names = {A: lognormal(5000), "GET /b|<x>": lognormal(5000, seed=3)}
    b_values = {A: slower(lognormal(5000, seed=2), 1.4), "GET /b|<x>": lognormal(5000, seed=4)}
    result = compare(side(tmp_path / "a", names), side(tmp_path / "b", b_values), rules())
    text, markdown, xml = render_text(result), render_markdown(result), render_junit(result)
    assert "FAIL: a regression" in text
    for title in ("## Failures", "## Warnings", "## Passed", "## Summary"):
        assert title in markdown
    assert "GET /b\\|\\<x\\>" in markdown
    root = ElementTree.fromstring(xml)
    failed = [c.get("name", "") for c in root.iter("testcase") if c.find("failure") is not None]
    assert [n for n in failed if n.startswith("GET /a p95")]
    assert root.get("failures") == str(len(failed))
    commands = workflow_commands(result)
    assert sum(c.startswith("::error title=GET /a p95::") for c in commands) == 1
    back = msgspec.json.decode(result.to_json())
    assert back["verdict"] == "fail"
    assert {"name", "unit", "direction", "a", "b", "ratio", "ci_low", "ci_high", "verdict", "reason"} <= set(
        back["metrics"][0]
    )


def test_a_terminal_of_80_columns_gets_no_line_that_is_longer(tmp_path: Path) -> None:
    names = {"GET /taxonomy/{taxonomy_version}/tree/of/a/long/path": lognormal(500), A: lognormal(500, seed=3)}
    b_values = {k: slower(v, 1.4) for k, v in names.items()}
    result = compare(side(tmp_path / "a", names), side(tmp_path / "b", b_values), rules())
    wide, narrow = render_text(result), render_text(result, width=80)
    table = narrow.split("\n\n")[1].splitlines()
    assert max(map(len, wide.splitlines())) > 80
    assert all(len(line) <= 80 for line in [*table, *narrow.split("\n\n")[2].splitlines()])
    assert table[1].startswith("GET /taxonomy/")
    assert sum(line.startswith("  p95 ") for line in table) == 2
    shown = [m for m in result.metrics if m.gate or m.verdict in ("worse", "not_comparable")]
    assert len(table) == 1 + 2 + len(shown), "a head, two endpoints, and every metric"
    assert render_text(result, width=400).split("\n\n")[1] == wide.split("\n\n")[1]


def test_the_same_data_give_the_same_result(tmp_path: Path) -> None:
    a, b = side(tmp_path / "a", {A: lognormal(500)}), side(tmp_path / "b", {A: lognormal(500, seed=2)})
    assert compare(a, b, rules(), now=NOW).to_json() == compare(a, b, rules(), now=NOW).to_json()


def test_a_step_summary_that_cant_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    result = compare(summary(), summary(), rules())
    with pytest.raises(OutputError, match=r"GITHUB_STEP_SUMMARY.*nowhere"):
        finish(result, "json", tmp_path / "out.json", everything=False, github=True, keep_in=None)
