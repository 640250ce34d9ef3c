"""Which values a statement is planned with, how they are weighted, and which of them are one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dbperf.indexes.resolver import Resolver
from dbperf.indexes.variants import Variant, planned_apart, variants_of
from dbperf.postgres.whatif import Answer
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Relation, StatementCase, WorkloadStatement


def column(name: str, number: int, type_: str, n_distinct: float, **values: object) -> Column:
    s = ColumnStatistics(inherited=False, null_frac=0, avg_width_bytes=4, n_distinct=n_distinct, **values)  # type: ignore[arg-type]
    return Column(name=name, number=number, type=type_, statistics=[s])


COLUMNS = [
    column("skewed", 1, "text", 5000.0, most_common_vals="{it's,b,m,n}", most_common_freqs=[0.2, 0.1, 0.06, 0.04],
           histogram_bounds="{c,d,e}"),
    column("id", 2, "integer", -1.0, histogram_bounds="{1,10,20,30,40}"),
    column("at", 3, "date", -0.5, histogram_bounds="{2026-01-01,2026-02-01,2026-03-01}"),
    column("unknown", 4, "integer", -1.0),
]  # fmt: skip
RELATION = Relation(
    schema="public", name="s", kind="table", pages=5000, stored_pages=5000, tuples=400000, all_visible_pages=5000,
    columns=COLUMNS,
)  # fmt: skip
CATALOG = Catalog(
    source="x", database="d", server_version="18", server_version_num=180000, read_at=datetime.now(UTC), read_s=0,
    settings={}, search_path="public", relations=[RELATION],
)  # fmt: skip

ALL = '(\'{"1","10","20","30","40"}\')'


def variants(where: str, **more: object) -> list[Variant]:
    statement = WorkloadStatement(id="q", text=f"SELECT 1 FROM s WHERE {where}", calls=12, **more)  # type: ignore[arg-type]
    found = variants_of(statement, Resolver(CATALOG))
    assert sum(v.calls for v in found) == pytest.approx(12)
    return found


def test_a_skewed_column_is_asked_for_its_common_values_as_often_as_they_occur() -> None:
    plain, typical, common, rare = variants("skewed = $1")
    assert [v.text.split("= ")[1] for v in (plain, typical, common, rare)] == ["$1", "'m'", "'it''s'", "'e'"]
    # 30 % of the rows have a value at least half as frequent as the first, 10 % another of the list, 60 % none of it.
    assert [v.calls for v in (plain, typical, common, rare)] == pytest.approx([3, 0.9, 2.7, 5.4])
    assert common.key == "q (common values)"


@pytest.mark.parametrize(
    ("where", "typical", "common", "rare"),
    [
        ("id > $1", "'20'", "'1'", "'30'"),
        ("at BETWEEN $1 AND $2", "'2026-02-01' AND '2026-03-01'", "'2026-01-01' AND '2026-03-01'",
         "'2026-02-01' AND '2026-03-01'"),
        ("skewed LIKE $1", "'d%'", "'i%'", "'e%'"),
        ("id IN ($1, $2)", "('20', '30')", "('1', '10')", "('40', '1')"),
        ("id = ANY ($1)", ALL, ALL, "('{\"1\"}')"),
        ("unknown = 1 LIMIT $1 OFFSET $2", "'10' OFFSET '0'", "'1000' OFFSET '1000'", "'1' OFFSET '0'"),
    ],
)  # fmt: skip
def test_ranges_patterns_lists_and_limits(where: str, typical: str, common: str, rare: str) -> None:
    found = {v.key.removeprefix("q").strip(" ()"): v for v in variants(where)}
    assert found["typical values"].text.endswith(typical)
    if common != typical:
        assert found["common values"].text.endswith(common)
    if rare not in (typical, common):
        assert found["rare values"].text.endswith(rare)
    # Without skew all four count the same, and equal texts are planned once.
    assert all(v.calls == pytest.approx(3) for k, v in found.items() if k)


def test_what_statistics_do_not_know_stays_a_parameter() -> None:
    assert [v.text for v in variants("unknown = $1 AND at > now() - $2::interval")] == [
        "SELECT 1 FROM s WHERE unknown = $1 AND at > now() - $2::interval"
    ]
    assert all("$1" in v.text for v in variants("unknown = $1 AND skewed = $2"))
    assert len(variants("id = 4 AND skewed = 'b'")) == 1


def test_logged_values_go_before_statistics() -> None:
    cases = [StatementCase(name="logged values", text="SELECT 1 FROM s WHERE skewed = 'x'", share=0.75)]
    plain, logged = variants("skewed = $1", cases=cases)
    assert (plain.calls, logged.calls) == (3, 9)
    # A parameter's value is no constant of the statement: no partial index may be built on it.
    assert all(c.sql is None for t in logged.use.tables for c in t.conditions)
    first, second = variants("skewed = 'a'", cases=[StatementCase(name="l", text=cases[0].text, share=0.5)])
    assert first.calls == second.calls == 6
    assert [c.sql for t in second.use.tables for c in t.conditions] == ["skewed = 'x'"]


def answer(rows: float | None, cost: float = 10) -> Answer:
    if rows is None:
        return Answer(cost=None, error="no")
    scan = {"Node Type": "Seq Scan", "Alias": "s", "Plan Rows": rows}
    return Answer(cost=cost, plan={"Node Type": "Limit", "Plan Rows": min(rows, 5), "Plans": [scan]})


def test_cases_that_the_planner_does_not_tell_apart_are_one() -> None:
    found = variants("skewed = $1")
    kept = planned_apart(found, [answer(80), answer(70), answer(120000), answer(None)])
    assert [(v.key, v.calls) for v, _ in kept] == [
        ("q", pytest.approx(12 - 2.7)), ("q (common values)", pytest.approx(2.7)),
    ]  # fmt: skip
    assert planned_apart(found, [answer(None)] * 4) == []
    # Where only values can be planned, they stand for the statement.
    [(only, _)] = planned_apart(found, [answer(None), answer(7), answer(9), answer(3)])
    assert only.calls == pytest.approx(12)
    # LIKE 'd%' uses an index that LIKE $1 can't, whatever the rows.
    assert len(planned_apart(variants("skewed LIKE $1"), [answer(80)] * 4)) == 2
