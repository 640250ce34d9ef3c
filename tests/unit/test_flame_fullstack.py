"""The parts of a request add up, whatever is known of it."""

from __future__ import annotations

import pytest

from dbperf.flame.fullstack import full_stack
from dbperf.flame.ops import costs, total
from dbperf.flame.readers import parse_collapsed
from dbperf.records.plans import Plan, PlanNode, StatementPlan
from dbperf.records.stacks import Frame, Stacks
from dbperf.records.trace import EndpointTrace, RequestMeans, Spread, TraceStatement


def endpoint(*, sql_ms: float = 60, statements: list[TraceStatement] | None = None) -> EndpointTrace:
    zero = Spread(median=0, max=0)
    python_ms = 100 - sql_ms - 5
    return EndpointTrace(
        route="POST /batch", handler="/app/views.py:10 batch", requests=2, errors=0, total_ms=200, duration_ms=zero,
        statements_per_request=zero, sql_ms=2 * sql_ms, pool_wait_ms=10, python_ms=2 * python_ms,
        per_request=RequestMeans(duration_ms=100, sql_ms=sql_ms, pool_wait_ms=5, python_ms=python_ms),
        commits_per_request=zero, commit_ms=8, commit_median_ms=1,
        statements=statements if statements is not None else [statement("f1", 80), statement("f2", 30)], findings=[],
    )  # fmt: skip


def statement(fingerprint: str, total_ms: float, server_ms: float | None = None) -> TraceStatement:
    return TraceStatement(
        fingerprint=fingerprint, text=f"SELECT {fingerprint}", source="/app/views.py:12", function="batch", calls=20,
        per_request=10, max_per_request=10, executions=20, total_ms=total_ms, median_ms=1, max_ms=2,
        server_ms=server_ms,
    )  # fmt: skip


PLAN = StatementPlan(
    queryid=1, fingerprint="f1", text="", how="generic",
    plan=Plan(
        analyzed=False,
        root=PlanNode(
            node_id=0, node_type="Sort", total_cost=100,
            children=[PlanNode(node_id=1, node_type="Seq Scan", relation="log", total_cost=75)],
        ),
    ),
)  # fmt: skip


def values(s: Stacks) -> dict[str, float]:
    return {f.name: c.total_value for f, c in costs(s).items()}


def test_the_parts_add_up_to_the_measured_request() -> None:
    samples = parse_collapsed(
        "loop (/l.py:1);batch (/app/views.py:11);cosine (/app/m.py:1) 30\nloop (/l.py:1);other (/app/o.py:1) 70\n",
        source="x", unit="ms",
    )  # fmt: skip
    s = full_stack(endpoint(), samples=samples, plans=[PLAN], requests=2)
    assert total(s) == pytest.approx(100)
    v = values(s)
    assert v["SELECT f1"] == pytest.approx(40)
    assert v["Sort"] == pytest.approx(40)
    assert v["Seq Scan on log"] == pytest.approx(30)
    assert v["SELECT f2"] == pytest.approx(15)
    assert v["COMMIT"] == pytest.approx(4)
    assert v["wait for a connection"] == pytest.approx(5)
    assert v["cosine"] == pytest.approx(15)
    assert "other" not in v
    assert sum(x for name, x in v.items() if name.startswith("unattributed")) == pytest.approx(20)


def test_what_is_not_known_is_a_box_of_its_own() -> None:
    s = full_stack(endpoint())
    assert total(s) == pytest.approx(100)
    assert sum(x for name, x in values(s).items() if name.startswith("unattributed")) == pytest.approx(35)


def test_overlapping_statements_shrink_to_the_wall_time() -> None:
    s = full_stack(endpoint(sql_ms=30))
    assert total(s) == pytest.approx(100)
    assert values(s)["SELECT f1"] == pytest.approx(80 / 110 * 30)
    assert any("at the same time" in n for n in s.notes)


def test_the_servers_share_goes_to_the_plan() -> None:
    s = full_stack(endpoint(statements=[statement("f1", 100, server_ms=60)]), plans=[PLAN])
    assert values(s)["Sort"] == pytest.approx(30)
    assert costs(s)[Frame(name="SELECT f1", kind="sql")].self_value == pytest.approx(20)


def test_samples_that_say_more_than_the_trace_are_scaled() -> None:
    samples = parse_collapsed("batch (/app/views.py:11) 500\n", source="x", unit="ms")
    s = full_stack(endpoint(), samples=samples, requests=2)
    assert total(s) == pytest.approx(100)
    assert any("scaled" in n for n in s.notes)
