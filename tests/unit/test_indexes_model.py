"""The model of sets of indexes against a plain reference, through random moves and new knowledge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbperf.indexes.costs import Costs, Known, Mask, Planned, bits, leading_of
from dbperf.indexes.model import Model, Promises
from dbperf.indexes.moves import Moves
from dbperf.records.advice import IndexKey, IndexSpec

BITS = [1 << n for n in range(6)]
BASE = 100.0
masks = st.integers(0, sum(BITS))
plans = st.lists(st.tuples(masks.filter(bool), st.floats(1, 99)), max_size=8)


def planned(key: str, found: list[tuple[Mask, float]]) -> Planned:
    s = Planned(id=key, key=key, text=key, calls=1, tables=frozenset(), base=BASE)
    s.learn(Known(0, 0, 0, BASE))
    for needs, cost in found:
        s.learn(Known(needs, needs, needs, cost))
    return s


def model_of(statements: list[Planned]) -> Model:
    sizes = {b: 1000 * (n + 1) for n, b in enumerate(BITS)}
    writes = {b: 0.001 * n for n, b in enumerate(BITS)}
    tables = {b: sum(BITS[:3]) if b in BITS[:3] else sum(BITS[3:]) for b in BITS}
    weights = [1 / (len(statements) * BASE) * (1 + i % 3) for i in range(len(statements))]
    return Model(statements, weights, sizes, writes, tables, 0.005)


def cost(model: Model, i: int, mask: Mask) -> float:
    """The cheapest known plan that a set allows."""
    allowed = [p.cost for p in model.statements[i].plans if not p.needs & ~mask]
    return min(allowed) * model.coefficients[i]


def objective(model: Model, mask: Mask) -> float:
    return sum(cost(model, i, mask) for i in range(len(model.statements))) + sum(model.writes[b] for b in bits(mask))


def promised(model: Model, mask: Mask) -> dict[Mask, float]:
    """What statements that miss just that would save."""
    total: dict[Mask, float] = {}
    for i, s in enumerate(model.statements):
        now = cost(model, i, mask)
        for missing in {p.needs & ~mask for p in s.plans} - {0}:
            least = min(p.cost for p in s.plans if p.needs & ~mask == missing) * model.coefficients[i]
            if least < now:
                total[missing] = total.get(missing, 0.0) + now - least
    return total


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(plans, min_size=1, max_size=5),
    st.lists(st.tuples(masks, masks), max_size=6),
    st.tuples(st.integers(0, 4), masks.filter(bool), st.floats(1, 99)),
)
def test_moves_cost_what_they_cost(
    found: list[list[tuple[Mask, float]]], moves: list[tuple[Mask, Mask]], news: tuple[int, Mask, float]
) -> None:
    statements = [planned(str(i), p) for i, p in enumerate(found)]
    model = model_of(statements)
    for turn in range(2):
        promises = Promises(model, model.state(0))
        for wanted, unwanted in moves:
            state = promises.state
            drop = unwanted & state.mask
            add = wanted & ~drop
            expected = objective(model, state.mask) - objective(model, (state.mask | add) & ~drop)
            for _ in range(2):  # the second time from memory
                assert model.gain(state, add, drop) == pytest.approx(expected, abs=1e-9)
            promises.apply(add, drop)
            assert state.objective == pytest.approx(objective(model, state.mask), abs=1e-9)
            assert state.size == model.size(state.mask)
            total = {k: v for k, v in promises.total.items() if abs(v) > 1e-9}
            reference = {k: v for k, v in promised(model, state.mask).items() if v > 1e-9}
            assert total == pytest.approx(reference, abs=1e-9)
        if turn == 0:
            i, needs, its = news
            statements[i % len(statements)].learn(Known(needs, needs, needs, its))
            model.refresh()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(plans, min_size=1, max_size=5), st.integers(0, 21_000), st.integers(1, 6))
def test_improving_keeps_to_its_limits_and_never_makes_it_worse(
    found: list[list[tuple[Mask, float]]], room: int, count: int
) -> None:
    model = model_of([planned(str(i), p) for i, p in enumerate(found)])
    best = Moves(model).improve([model.state(0)], room, count)
    assert best.size == model.size(best.mask) <= room
    assert best.mask.bit_count() <= count
    assert best.objective <= objective(model, 0) + 1e-9
    assert best.objective == pytest.approx(objective(model, best.mask), abs=1e-9)


async def test_where_no_candidate_is_kept_none_is_offered() -> None:
    costs = Costs(None, skip_scan=True)  # nobody is asked
    spec = IndexSpec(schema="public", table="t", method="btree", keys=(IndexKey(column="a"),))
    costs.register("one", spec)
    statement = planned("s", [])
    statement.leading |= {leading_of(spec)}
    assert costs.names(costs.offered(statement)) == ["one"]
    costs.keep([], [statement])
    assert costs.offered(statement) == 0
    assert await costs.learn([(statement, 1)]) == 0
