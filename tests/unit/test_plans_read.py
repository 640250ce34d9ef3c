"""What people paste: formats and versions of EXPLAIN, frames, wraps, cuts. Out comes a plan or a clear error."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbperf.errors import PlanError
from dbperf.plans.read import read_plans
from dbperf.plans.tree import label, walk
from dbperf.records.plans import Plan

GOLDEN = Path(__file__).parents[1] / "golden" / "plans"
TEXTS = {p.stem: p.read_text() for p in sorted(GOLDEN.glob("text_*.txt"))}
INIT_PLAN = TEXTS["text_17_init_plan"]


def one(text: str) -> Plan:
    (plan,) = read_plans(text)
    return plan


def labels(plan: Plan) -> list[str]:
    return [label(n) for n in walk(plan.root)]


def test_9_6() -> None:
    plan = one(TEXTS["text_9_6"])
    assert labels(plan) == [
        "Sort",
        "Hash Join",
        "Seq Scan on tenk2 t2",
        "Hash",
        "Bitmap Heap Scan on tenk1 t1",
        "Bitmap Index Scan on tenk1_unique1",
    ]
    assert plan.execution_ms == 8.008
    sort, join, *_ = walk(plan.root)
    assert sort.extra["Sort Space Used"] == 77
    assert sort.self_ms == pytest.approx(7.774 - 7.427)
    assert join.self_ms == pytest.approx(7.427 - 2.583 - 0.659)


def test_10_with_workers() -> None:
    plan = one(TEXTS["text_10_parallel"])
    *_, scan = walk(plan.root)
    assert scan.parallel_aware
    assert scan.total_ms == pytest.approx(38.440)  # three processes at once: wall time, not three times as much
    assert scan.row_error == pytest.approx(333333 * 3 / (416667 * 2.4))
    assert [w["Worker Number"] for w in scan.extra["Workers"]] == [0, 1]
    assert scan.extra["Workers"][1]["Shared Hit Blocks"] == 1467
    assert scan.buffers is not None
    assert scan.buffers.read_ms == 0.412


def test_13_with_alternatives_triggers_and_jit() -> None:
    plan = one(TEXTS["text_13_alternatives"])
    never = plan.root.children[0]
    assert (never.loops, never.actual_rows, never.self_ms, never.row_error) == (0, None, 0, None)
    assert [(t.name, t.constraint, t.relation, t.total_ms, t.calls) for t in plan.triggers] == [
        ("a_b_fkey", "a_b_fkey", "b", 1.25, 30),
        ("audit", None, None, 0.5, 2),
    ]
    assert plan.jit is not None
    assert plan.jit["Timing"]["Total"] == 6.54
    assert plan.planning_buffers is not None
    assert plan.planning_buffers.shared_hit == 12


def test_17_an_init_plan_is_charged_to_the_node_that_waits_for_it() -> None:
    plan = one(INIT_PLAN)
    by_label = {label(n): n for n in walk(plan.root)}
    scan = by_label["Seq Scan on orders o"]
    assert scan.self_ms == pytest.approx(4.0)  # 9 ms, of which the InitPlan took 5
    assert by_label["Limit"].self_ms == pytest.approx(0.002)
    assert scan.self_buffers is not None
    assert scan.self_buffers.shared_hit == 12
    assert by_label["Sort"].extra["Sort Key"] == ['o.note COLLATE "C"', "lower(o.x, 'a, b'::text) DESC"]
    assert plan.settings == {"work_mem": "64kB", "search_path": '"$user", public, it\'s'}
    assert plan.extra["Planning"] == {"Memory Used": 12, "Memory Allocated": 16}


def test_a_log_with_text_and_json() -> None:
    log = (GOLDEN / "log_auto_explain.txt").read_text()
    text_part, _, json_part = log.partition("2026-01-05 10:00:01.000")
    plan = one(text_part)
    assert plan.extra["Query Text"] == "SELECT *\nFROM orders\nWHERE customer_id = $1 AND note LIKE 'a: b%'"
    assert plan.extra["Query Parameters"] == "$1 = '42'"
    assert plan.extra["Duration"] == 12.345
    assert plan.root.extra["Rows Removed by Filter"] == 9
    assert one("LOG: " + json_part).extra["Query Text"] == "SELECT 1"


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("width", [50, 80, 100, 132])
def test_lines_that_a_terminal_or_a_mail_broke(name: str, width: int) -> None:
    text = TEXTS[name]
    expected = labels(one(text))
    hard = "\n".join(line[i : i + width] for line in text.splitlines() for i in range(0, max(len(line), 1), width))
    assert labels(one(hard)) == expected
    soft = "\n".join(
        "\n".join(textwrap.wrap(line, width, drop_whitespace=True, break_long_words=False, replace_whitespace=False))
        if len(line) > width and "->" not in line[:width].strip()[:2]
        else line
        for line in text.splitlines()
    )
    assert [n.node_type for n in walk(one(soft).root)] == [n.node_type for n in walk(one(text).root)]


@pytest.mark.parametrize("name", TEXTS)
def test_other_ways_of_pasting(name: str) -> None:
    text = TEXTS[name]
    expected = one(text)
    assert one(text + "\n\n" + text) == expected  # twice
    assert one(text.replace("\n", "\r\n")) == expected
    assert one("\ufeff" + text.replace("  ->", "\u00a0\u00a0->")) == expected
    assert one("shop=# EXPLAIN ANALYZE SELECT 1;\n" + text + "\nTime: 12.3 ms\n") == expected
    assert one(textwrap.indent(text, "    ")) == expected
    assert labels(
        one("\n".join(f'"{line}"' for line in text.splitlines() if line.strip()[:2] not in ("--", "(1", "QU")))
    ) == labels(expected)


def test_json_of_old_versions() -> None:
    """Until 9.5 there is no Parallel Aware, until 9.3 the time has another name; clients send one object or a list."""
    node = {"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "t", "Startup Cost": 0.0, "Total Cost": 1.5,
            "Plan Rows": 10, "Plan Width": 4, "Actual Startup Time": 0.01, "Actual Total Time": 0.2, "Actual Rows": 10,
            "Actual Loops": 1}  # fmt: skip
    plan = one(json.dumps({"Plan": node, "Triggers": [], "Total Runtime": 0.3}))
    assert plan.execution_ms == 0.3
    assert plan.root.self_ms == 0.2
    assert one(json.dumps([{"Plan": node, "Total Runtime": 0.3, "Triggers": []}])) == plan
    assert one(json.dumps(node)).root.total_ms == 0.2
    assert len(read_plans(json.dumps([{"Plan": node}]) + "\n" + json.dumps([{"Plan": {**node, "Alias": "u"}}]))) == 2


def test_costs_off_and_unknown_things_are_kept() -> None:
    plan = one(
        "Sort\n  Sort Key: a\n  Colour: blue\n  ->  Quantum Scan on t x\n        Filter: (a > 1)\n        Odd line"
    )
    assert labels(plan) == ["Sort", "Quantum Scan on t x"]
    assert plan.root.extra["Colour"] == "blue"
    assert plan.root.children[0].extra["Lines"] == ["Odd line"]
    assert not plan.analyzed
    data = [{"Plan": {"Node Type": "Quantum Scan", "Qubits": [1], "Filter": "(a > 1)"}, "Weather": "fine"}]
    plan = one(json.dumps(data))
    assert plan.root.extra == {"Qubits": [1]}
    assert plan.extra == {"Weather": "fine"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the plan is empty"),
        ("hello", "no plan was found in the text"),
        ('- Plan:\n    Node Type: "Result"\n', "YAML"),
        ('        QUERY PLAN\n--------------\n - Plan:     +\n     Node Type: "Result" +\n', "YAML"),
        ('<explain xmlns="http://www.postgresql.org/2009/explain">\n<Query>', "XML"),
        ('[{"Plan": {"Node Type": "Seq Scan",\n "Plans": [', "line 2, column"),
        ("[]", "holds no plan"),
        ('{"a": 1}', "the key Plan is missing"),
        ('[{"Plan": {"Node Type": "Sort", "Plans": [{"Node Type": 3}]}}]', r"\[0\].Plan.Plans\[0\]: the key Node Type"),
        ('{"Plan": {"Node Type": "Sort", "Total Cost": "x"}}', "Plan.Total Cost: a number was expected, not 'x'"),
        ('{"Plan": {"Node Type": "Sort", "Total Cost": 1e999}}', "a number was expected"),
        ('{"Plan": {"Node Type": "Sort", "Plan Width": 1' + "0" * 5000 + "}}", "JSON can't be read|number"),
        ("[" * 100_000, "nested too deeply|Expecting value"),
        ('{"Plan": ' + '{"Node Type": "S", "Plans": [' * 450 + "]}" * 450 + "}", "400 levels deep"),
        (INIT_PLAN[: INIT_PLAN.index("rows=33 width=12) (actual time=9.099")], "line 8: the figures of a node are cut"),
        ("\n".join(line.strip() for line in INIT_PLAN.splitlines()), "lost its indentation"),
    ],
)
def test_what_is_no_plan_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message) as e:
        read_plans(text)
    assert "\n" not in e.value.message
    assert len(e.value.message) < 200


def read_or_refuse(text: str) -> None:
    try:
        plans = read_plans(text)
    except PlanError:
        return
    for plan in plans:
        for node in walk(plan.root):
            assert node.self_ms is None or node.self_ms >= 0
            label(node)


@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    read_or_refuse(text)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(TEXTS)),
    st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 60), st.text("(){}[]|+-> \n\t.:0987=costrwlp'\"", max_size=8))
    ),
)
def test_damaged_text_plans(name: str, damage: list[tuple[int, int, str]]) -> None:
    text = TEXTS[name]
    for at, cut, put in damage:
        text = text[:at] + put + text[at + cut :]
    read_or_refuse(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
KEYS = [
    "Node Type", "Actual Loops", "Actual Total Time", "Actual Rows", "Plan Rows", "Subplan Name", "Parent Relationship",
    "Shared Hit Blocks", "I/O Read Time", "Filter", "CTE Name", "Workers", "Join Type", "Parallel Aware", "Alias",
]  # fmt: skip
sound = {
    "Node Type": st.sampled_from(["Gather", "CTE Scan", "Sort", "Hash Join", "ModifyTable", "Limit", "Aggregate"]),
    "Actual Loops": st.integers(0, 9) | st.floats(0, 1e9),
    "Actual Total Time": st.floats(0, 1e9),
    "Subplan Name": st.sampled_from(["CTE a", "CTE b", "InitPlan 1 (returns $0)", "InitPlan 2", "SubPlan 1"]),
    "Parent Relationship": st.sampled_from(["InitPlan", "SubPlan", "Outer", "Inner", "Member"]),
    "CTE Name": st.sampled_from(["a", "b"]),
    "Filter": st.sampled_from(["(a > $0)", "(a = (InitPlan 2).col1)", "x"]),
}


def nodes(children: st.SearchStrategy[Any] | None) -> st.SearchStrategy[Any]:
    optional = {k: v for k, v in sound.items() if k != "Node Type"}
    return st.builds(
        lambda node, odd, plans: {**node, **odd, "Plans": plans},
        st.fixed_dictionaries({"Node Type": sound["Node Type"]}, optional=optional),
        st.just({}) | st.dictionaries(st.sampled_from(KEYS), values, max_size=2),
        st.lists(children, max_size=3) if children is not None else st.just([]),
    )


@settings(max_examples=60, deadline=None)
@given(st.recursive(nodes(None), nodes, max_leaves=8))
def test_any_tree_of_nodes(root: Any) -> None:
    read_or_refuse(json.dumps([{"Plan": root}]))


@given(values)
def test_any_json(value: Any) -> None:
    read_or_refuse(json.dumps(value))
