"""Verdicts from times, without a server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.indexes.ddl import free_name, index_name, parse_create_index
from dbperf.indexes.verdict import Saving, effect_of, judge
from dbperf.indexes.verify_endpoints import compare_loads
from dbperf.records.load import Load
from dbperf.records.plans import Plan, PlanNode
from dbperf.records.proof import EndpointProof, StatementProof
from dbperf.report.proof_view import endpoint_ratio, shown_pair
from dbperf.stats.paired import PAIRS_LEAST, paired_ratio, weighted_difference
from tests.support.loads import endpoint, load_of, stage


def statement(
    ratio: float, *, calls: float = 1, before: float = 10, uses: bool = True, **more: object
) -> StatementProof:
    verdict = "better" if ratio < 0.95 else "worse" if ratio > 1.05 else "unchanged"
    given = {"cost_before": 100.0, "cost_after": 50.0, "recall": None, **more}
    return StatementProof(
        id=f"s{ratio}", text=None, calls=calls, values="none", pairs=9, before_ms=before, after_ms=before * ratio,
        ratio=ratio, ratio_low=ratio * 0.98, ratio_high=ratio * 1.02, buffers_before=1, buffers_after=1,
        uses_index=uses, verdict=verdict, **given,  # type: ignore[arg-type] # the keys are the record's own
    )  # fmt: skip


def saving(low: float, high: float) -> Saving:
    return Saving(saved_ms=(low + high) / 2, low_ms=low, high_ms=high, total_ms=100)


@pytest.mark.parametrize(
    ("statements", "weighed", "verdict"),
    [
        ([statement(0.1)], saving(8, 10), "keep"),
        ([statement(0.1, uses=False)], saving(8, 10), "reject"),
        ([statement(1.5)], saving(-6, -4), "reject"),
        # Others gain more than ten times what one loses: worth it.
        ([statement(0.1, calls=100), statement(1.5)], saving(800, 900), "keep"),
        # One that is three times slower is not bought by a gain of the same size.
        ([statement(0.1, calls=3), statement(3.0)], saving(1, 20), "reject"),
        ([statement(1.0)], saving(-1, 1), "reject"),
        ([statement(0.9)], saving(-1, 3), "cant_tell"),
        ([statement(0.1, recall=0.5)], saving(8, 10), "reject"),
        ([statement(0.1, recall=0.95)], saving(8, 10), "keep"),
        ([], None, "reject"),
    ],
)
def test_verdicts(statements: list[StatementProof], weighed: Saving | None, verdict: str) -> None:
    found, reason = judge(statements, [], weighed)
    assert found == verdict, reason
    assert reason


def test_ratios_of_pairs_find_what_drift_hides() -> None:
    """The machine gets slower by half during the measurement; the pairs do not notice."""
    rng = np.random.default_rng(3)
    drift = np.linspace(1, 1.5, 21)
    before = 10 * drift * rng.lognormal(0, 0.01, 21)
    after = 9 * drift * rng.lognormal(0, 0.01, 21)
    found = paired_ratio(before.tolist(), after.tolist())
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.9 <= found.high < 0.93
    assert effect_of(found) == "better"


def test_the_interval_holds_what_it_promises() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        ratio = paired_ratio(np.ones(11).tolist(), rng.lognormal(0, 0.3, 11).tolist())
        assert ratio.low is not None
        assert ratio.high is not None
        hits += ratio.low <= 1 <= ratio.high
    assert hits / 400 >= 0.93


def test_too_few_pairs_have_no_interval() -> None:
    assert paired_ratio([1.0] * (PAIRS_LEAST - 1), [0.1] * (PAIRS_LEAST - 1)).low is None
    assert effect_of(paired_ratio([1.0] * 3, [0.1] * 3)) == "cant_tell"


def test_weighted_differences_add_up() -> None:
    estimate, low, high = weighted_difference([(2.0, [5.0] * 9, [3.0] * 9), (1.0, [1.0] * 9, [4.0] * 9)])
    assert (estimate, low, high) == (1.0, 1.0, 1.0)


@given(st.text(min_size=1, max_size=80), st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
def test_names_fit_and_are_unique(table: str, keys: list[str]) -> None:
    taken: set[str] = set()
    names = [index_name(table, keys, taken) for _ in range(12)]
    assert len(set(names)) == 12
    assert all(len(n.encode()) <= 63 for n in names)


def test_long_names_with_wide_characters_are_cut_between_characters() -> None:
    assert free_name("ü" * 40, set()) == "ü" * 31


def test_an_index_is_written_for_another_name_and_table() -> None:
    create = parse_create_index(
        'CREATE UNIQUE INDEX i ON s."T" USING btree (a DESC NULLS LAST, lower(b)) INCLUDE (c) WITH (fillfactor=80) '
        "WHERE d > 1"
    )
    assert create.columns == ("a",)
    assert create.has_expressions
    text = create.sql(name="j", on=("", "u"), concurrently=False)
    assert text == (
        "CREATE UNIQUE INDEX j ON u USING btree (a DESC NULLS LAST, lower(b)) INCLUDE (c) WITH (fillfactor=80) "
        "WHERE d > 1"
    )


def test_a_statement_that_must_use_an_index_keeps_the_first_that_serves_it() -> None:
    slow_writes = saving(-50, -40)
    fast = statement(0.1)
    assert judge([fast], [], slow_writes)[0] == "reject"
    assert judge([fast], [], slow_writes, frozenset({fast.id}))[0] == "keep"
    assert "the workload loses 45 ms" in judge([fast], [], slow_writes, frozenset({fast.id}))[1]
    # It has an index already: the next one must be worth its cost.
    node = PlanNode(node_id=0, node_type="Index Scan", index_name="other")
    served = statement(0.1, plan_before=Plan(root=node, analyzed=False))
    assert judge([served], [], slow_writes, frozenset({served.id}))[0] == "reject"


def test_endpoints_are_compared_with_intervals_and_only_with_enough_requests() -> None:
    rng = np.random.default_rng(5)
    slow, fast = rng.lognormal(4, 0.3, 2000), rng.lognormal(3.5, 0.3, 2000)
    some, few_times = np.linspace(90, 110, 20).tolist(), [5.0] * 4
    before = load_of(
        stage(endpoint(slow.tolist()), endpoint(some, name="GET /some"), endpoint(few_times, name="GET /few"))
    )
    after = load_of(
        stage(
            endpoint(fast.tolist()),
            endpoint([t / 4 for t in some], name="GET /some"),
            endpoint(few_times, name="GET /few"),
        )
    )
    better, median, few = compare_loads(before, after)
    assert better.endpoint == "GET /a"
    assert better.verdict == "better"
    assert better.p95_ratio is not None
    assert better.p95_ratio_low is not None
    assert better.p95_ratio_high is not None
    assert better.p95_ratio_low < np.exp(-0.5) < better.p95_ratio_high
    assert [q.q for q in better.quantiles_after] == [0.5, 0.95, 0.99]
    assert median.p95_ratio is None
    assert median.p50_ratio == pytest.approx(0.25, rel=0.05)
    assert median.verdict == "better"
    assert few.verdict == "cant_tell"
    assert few.p95_ratio is None
    assert few.p50_ratio is None
    (same, *_) = compare_loads(before, before)
    assert same.verdict in ("unchanged", "cant_tell")
    assert same.p95_ratio == pytest.approx(1.0)


def test_an_endpoint_whose_middle_gets_faster_and_whose_tail_waits_for_something_else_is_faster() -> None:
    rng = np.random.default_rng(7)
    tail = rng.lognormal(6, 0.4, 200)

    def times(middle_ms: float) -> list[float]:
        return [*(middle_ms * rng.lognormal(0, 0.2, 1800)), *tail]

    def compared(before_ms: float, after_ms: float) -> EndpointProof:
        [found] = compare_loads(load_of(stage(endpoint(times(before_ms)))), load_of(stage(endpoint(times(after_ms)))))
        return found

    faster = compared(28, 14)
    assert faster.p95_ratio is not None
    assert faster.p95_ratio_low is not None
    assert faster.p95_ratio_high is not None
    assert faster.p95_ratio_low < 1 < faster.p95_ratio_high
    assert (faster.verdict, faster.judged_q) == ("better", 0.5)
    assert endpoint_ratio(faster)[1].endswith("of P50")
    assert [q.q for q in shown_pair(faster)] == [0.5, 0.5]
    slower = compared(14, 28)
    assert (slower.verdict, slower.judged_q) == ("worse", 0.5)


def test_where_many_requests_fail_the_rest_is_not_compared() -> None:
    rng = np.random.default_rng(3)
    slow, fast = rng.lognormal(4, 0.2, 500).tolist(), rng.lognormal(3, 0.2, 500).tolist()
    [few] = compare_loads(load_of(stage(endpoint(slow, errors=20))), load_of(stage(endpoint(fast))))
    assert few.verdict == "better"
    [many] = compare_loads(load_of(stage(endpoint(slow, errors=400))), load_of(stage(endpoint(fast))))
    assert (many.verdict, many.judged_q, many.errors_before, many.errors_after) == ("cant_tell", None, 400, 0)
    assert endpoint_ratio(many) == ("–", "too few requests that succeeded")


def test_of_two_percentiles_without_a_change_few_comparisons_say_that_there_is_one() -> None:
    rng = np.random.default_rng(11)

    def load() -> Load:
        return load_of(stage(endpoint(rng.lognormal(3, 0.5, 400).tolist())))

    verdicts = [compare_loads(load(), load())[0].verdict for _ in range(40)]
    assert sum(v in ("better", "worse") for v in verdicts) <= 6  # of 2 at most that are expected: P < 1 %
