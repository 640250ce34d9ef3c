"""Properties of advice, over generated workloads and a planner in memory."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dbperf.indexes.advise import Request, advise
from dbperf.indexes.candidates import Options, covers
from dbperf.indexes.workload import checked
from dbperf.records.advice import Advice, IndexKey, IndexSpec
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Index, Relation, WorkloadStatement
from tests.support.whatif import ModelPlanner

DISTINCT = {"a": 10.0, "b": 200.0, "c": 5000.0, "d": 40.0, "e": 90000.0}
OPTIONS = Options(max_width=2, partial=False, expressions=False, other_methods=False)


def relation(name: str, rows: int, indexes: list[Index]) -> Relation:
    columns = [
        Column(
            name=c, number=n, type="integer", not_null=True,
            statistics=[ColumnStatistics(inherited=False, null_frac=0, avg_width_bytes=4, n_distinct=d)],
        )
        for n, (c, d) in enumerate(DISTINCT.items(), 1)
    ]  # fmt: skip
    pages = rows // 100
    return Relation(
        schema="public", name=name, kind="table", pages=pages, stored_pages=pages, tuples=rows, all_visible_pages=pages,
        columns=columns, indexes=indexes,
    )  # fmt: skip


def existing(name: str, keys: list[str], include: list[str]) -> Index:
    n = len(keys)
    return Index(
        name=name, schema="public", definition="", method="btree", unique=False, primary=False, valid=True, keys=keys,
        include=include, descending=[False] * n, nulls_first=[False] * n, operator_classes=[""] * n, pages=900,
        tuples=100000,
    )  # fmt: skip


def catalog(relations: list[Relation]) -> Catalog:
    return Catalog(
        source="test", database="test", server_version="18", server_version_num=180000, read_at=datetime.now(UTC),
        read_s=0, settings={}, search_path="public", relations=relations,
    )  # fmt: skip


columns = st.lists(st.sampled_from(sorted(DISTINCT)), min_size=1, max_size=3, unique=True)


@st.composite
def statements(draw: st.DrawFn) -> WorkloadStatement:
    where = draw(columns)
    conditions = [f"{c} {draw(st.sampled_from(['=', '=', '>']))} {i}" for i, c in enumerate(where)]
    text = f"SELECT {', '.join(draw(columns))} FROM t{draw(st.integers(0, 1))} WHERE {' AND '.join(conditions)}"
    return WorkloadStatement(id=text, text=text, calls=float(draw(st.integers(1, 50))))


workloads = st.lists(statements(), min_size=1, max_size=6, unique_by=lambda s: s.text)
catalogs = st.builds(
    lambda rows, keys: catalog(
        [relation("t0", rows, [existing("t0_old", keys, [])]), relation("t1", 3 * rows, [])],
    ),
    st.sampled_from([20_000, 200_000]),
    columns,
)


def advised(source: Catalog, workload: list[WorkloadStatement], budget: int | None) -> Advice:
    request = Request(budget_bytes=budget, options=OPTIONS)
    return asyncio.run(advise(source, checked(workload), ModelPlanner(source), request))


def parts(advice: Advice) -> list[tuple[str, list[str], list[str]]]:
    """Table, keys and included columns of each recommendation."""
    found = []
    for r in advice.recommendations:
        m = re.search(r" ON public\.(\w+) \(([\w, ]+)\)(?: INCLUDE \(([\w, ]+)\))?;", r.create_sql)
        assert m, r.create_sql
        found.append((m[1], m[2].split(", "), (m[3] or "").split(", ") if m[3] else []))
    return found


@settings(max_examples=10, deadline=None, derandomize=True)
@given(catalogs, workloads)
def test_advice_never_makes_the_workload_worse_and_repeats_nothing(
    source: Catalog, workload: list[WorkloadStatement]
) -> None:
    advice = advised(source, workload, None)
    assert advice.cost_after <= advice.cost_before
    assert all(s.cost_after <= s.cost_before for s in advice.statements), "this planner is monotone"
    assert all(r.gain > 0 and r.statements for r in advice.recommendations)
    indexes = {r.name: r.indexes for r in source.relations}
    found = parts(advice)
    for table, keys, include in found:
        spec = IndexSpec(
            schema="public", table=table, keys=tuple(IndexKey(column=k) for k in keys), include=tuple(include)
        )
        assert not any(covers(i, spec) for i in indexes[table])
    assert len({(t, *keys, "|", *include) for t, keys, include in found}) == len(found)
    # What was advised, once it exists, is not advised again: a duplicate gains nothing.
    built = catalog([
        msgspec.structs.replace(r, indexes=[
            *r.indexes,
            *(existing(f"{r.name}_{n}", k, i) for n, (t, k, i) in enumerate(found) if t == r.name),
        ])
        for r in source.relations
    ])  # fmt: skip
    again = advised(built, workload, None)
    assert not [p for p in parts(again) if p in found]


@settings(max_examples=6, deadline=None, derandomize=True)
@given(catalogs, workloads)
def test_more_budget_is_never_worse_and_equal_input_gives_equal_output(
    source: Catalog, workload: list[WorkloadStatement]
) -> None:
    budgets = [0, 1 << 20, 3_333_333, 5 << 20, 20 << 20, None]
    found = [advised(source, workload, b) for b in budgets]
    costs = [a.cost_after for a in found]
    assert costs == sorted(costs, reverse=True)
    assert found[0].recommendations == []
    for advice, budget in zip(found, budgets, strict=True):
        assert budget is None or advice.size_bytes <= budget
    again = advised(source, workload, budgets[3])
    assert msgspec.structs.replace(again, elapsed_s=0) == msgspec.structs.replace(found[3], elapsed_s=0)
