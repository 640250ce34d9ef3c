"""The reference target's rules and data, without a server."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.errors import UsageError
from dbperf.phase3 import generate, rules, texts
from dbperf.phase3.embedding import DIMENSIONS, cosine_distance, embed, tokens
from dbperf.phase3.levels import QUERY_LEVELS, SERVICE_LEVELS
from dbperf.phase3.llm import LimitedClient
from dbperf.phase3.rules import Facts
from dbperf.phase3.scales import SCALES, case_id, scale_named
from dbperf.phase3.schemas import Performance
from dbperf.phase3.settings import Settings
from dbperf.resources import sql

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def facts(name: str = "a", usage: int = 50, rate: float | None = 80.0, days: float | None = 1) -> Facts:
    last = None if days is None else NOW - timedelta(days=days)
    return Facts(case_id=name, usage_count=usage, success_rate=rate, last_used_at=last)


@given(st.lists(st.text(max_size=60), max_size=6))
def test_vectors_are_exact_in_four_byte_arithmetic(written: list[str]) -> None:
    """Why pgvector and numpy never differ: the float32 sum in any order is the exact one."""
    vectors = embed(written)
    assert vectors.shape == (len(written), DIMENSIONS)
    for text, vector in zip(written, vectors, strict=True):
        assert vector.any() == bool(tokens(text)) or len(tokens(text)) > 1  # words can cancel each other
        if vector.any():
            assert abs(float(np.linalg.norm(vector)) - 1) < 0.02
        for other in vectors:
            exact = float(vector.astype(np.float64) @ other.astype(np.float64))
            products = vector * other
            assert float(products.cumsum(dtype=np.float32)[-1]) == exact
            assert float(products[::-1].cumsum(dtype=np.float32)[-1]) == exact


def test_related_texts_are_nearer_than_unrelated_ones() -> None:
    a, b, c = embed(["reset the vpn password", "Password reset for the VPN?", "late invoice in euro"]).astype(
        np.float64
    )
    assert cosine_distance(a, b) == pytest.approx(0, abs=0.01)
    assert cosine_distance(a, c) > 0.8


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_percentages_round_half_up(part: int, whole: int) -> None:
    part = min(part, whole)
    found = rules.percentage(part, whole)
    assert abs(found - 100 * part / whole) <= 0.005 + 1e-9
    assert found == round(found, 2)
    assert round(float(np.float32(found)), 2) == found  # survives a column of type real


def test_figures_of_a_case() -> None:
    found = rules.performance(total=8, successes=5, time_sum_ms=1000, timed=3, errors={"b": 1, "a": 1, "timeout": 1})
    assert (found.success_rate, found.avg_execution_time_ms, found.failed_executions) == (62.5, 333.33, 3)
    assert [e.error_type for e in found.common_errors] == ["a", "b", "timeout"]
    nothing = rules.performance(total=0, successes=0, time_sum_ms=0, timed=0, errors={})
    assert nothing.success_rate is None
    assert nothing.avg_execution_time_ms is None


@pytest.mark.parametrize(
    ("case", "low"),
    [
        (facts(rate=29.99), True),
        (facts(rate=30.0), False),
        (facts(rate=None), False),
        (facts(rate=1.0, usage=10), False),
        (facts(rate=1.0, usage=11), True),
        (facts(rate=1.0, usage=499), True),
        (facts(rate=1.0, usage=500), False),
    ],
)
def test_low_performance(case: Facts, low: bool) -> None:
    assert rules.is_low(case, 30) is low


@pytest.mark.parametrize(
    ("case", "inactive_days", "inactive"),
    [
        (facts(days=91), 90, True),
        (facts(days=90), 90, False),
        (facts(days=91, usage=100), 90, False),
        (facts(days=None), 90, False),
        (facts(days=6), 1, False),
        (facts(days=8), 1, True),
        (facts(days=8), 10**30, False),
    ],
)
def test_inactive(case: Facts, inactive_days: int, inactive: bool) -> None:
    assert rules.is_inactive(case, rules.unused_since(NOW, inactive_days)) is inactive


def test_a_merge_keeps_the_case_used_more() -> None:
    merged = rules.merge(facts("a", 5, 40.0), facts("b", 7, 50.5), 0.99)
    assert (merged.kept.case_id, merged.kept.usage_count, merged.kept.success_rate) == ("b", 12, 45.25)
    assert merged.archived.case_id == "a"
    assert rules.merge(facts("a", 5), facts("b", 5), 1).kept.case_id == "a"
    assert rules.merge(facts("a", 5, None), facts("b", 1, 10.0), 1).kept.success_rate == 10.0
    assert rules.merge(facts("a", 5, None), facts("b", 1, None), 1).kept.success_rate is None


def test_merges_follow_a_chain_and_pass_over_what_is_gone() -> None:
    cases = {n: facts(n, u) for n, u in (("a", 10), ("b", 4), ("c", 13))}
    done = list(rules.merges(cases, [("a", "b", 1), ("a", "c", 1), ("b", "c", 1), ("a", "x", 1)]))
    assert [(m.kept.case_id, m.archived.case_id, m.kept.usage_count) for m in done] == [("a", "b", 14), ("a", "c", 27)]


def test_a_consolidation_merges_at_most_a_hundred() -> None:
    names = [f"n{i:04}" for i in range(300)]
    done = list(rules.merges({n: facts(n) for n in names}, [(names[0], n, 1.0) for n in names[1:]]))
    assert len(done) == rules.MERGE_LIMIT


def test_a_case_goes_to_the_first_rule_that_takes_it() -> None:
    low, other, inactive = facts("low", rate=1.0), facts("other", days=200), facts("inactive", days=200)
    merge = rules.merge(facts("kept", 90), other, 1)
    plan = rules.plan([low], [merge], [low, other, inactive])
    assert [c.case_id for c in plan.inactive] == ["inactive"]


class Model:
    async def suggest(self, case_id: str, performance: Performance) -> list[str]:
        if case_id == "broken":
            raise TimeoutError
        return [f"ask the model about {case_id}"]


async def test_a_language_model_is_asked_five_times_a_minute() -> None:
    now = [0.0]
    client = LimitedClient(Model(), clock=lambda: now[0])
    nothing = rules.performance(0, 0, 0, 0, {})
    answers = [await client.suggest("c", nothing) for _ in range(6)]
    assert answers == [["ask the model about c"]] * 5 + [None]
    now[0] = 59.9
    assert await client.suggest("c", nothing) is None
    now[0] = 60.0
    assert await client.suggest("c", nothing) == ["ask the model about c"]
    assert await client.suggest("broken", nothing) is None


def test_scales_by_name() -> None:
    assert scale_named("spec").cases == 10_000
    with pytest.raises(UsageError, match="no scale 'smok'") as e:
        scale_named("smok")
    assert e.value.hint == "did you mean 'smoke'?"


def test_settings_survive_the_environment() -> None:
    settings = Settings(dsn="postgresql:///x", implementation="tuned", api_key="k", pool_size=3, now=NOW, llm="a:b")
    assert Settings.from_environment(settings.environment()) == settings


def test_every_limit_has_its_query() -> None:
    assert [level.id for level in QUERY_LEVELS] == [f"DB-00{i}" for i in range(1, 7)]
    for level in QUERY_LEVELS:
        text = sql(level.file)
        assert text.startswith(f"-- {level.id}:")
        assert ("$1" in text) == (level.draw_parameters is not None)
    assert len(SERVICE_LEVELS) == 5


@pytest.mark.parametrize("name", ["smoke", "spec"])
def test_the_data_has_the_shape_that_the_specification_asks_for(name: str) -> None:
    scale = SCALES[name]
    cases = generate.cases(scale, 1)
    assert int(cases.logs.sum()) == scale.logs
    active = cases.status == 0
    assert int(active.sum()) == scale.active
    assert int((cases.logs[active] >= 10).sum()) == scale.busy
    copies = cases.copy_of >= 0
    assert 0.03 <= copies.mean() <= 0.05
    assert set(active[cases.copy_of[copies & active]]) == {True}
    top = np.sort(cases.logs)[::-1]
    assert top[: len(top) // 10].sum() > 0.5 * scale.logs, "a tenth of the cases has most of the use"
    uses = generate.uses(cases, 1)
    assert all(a <= b for a, b in pairwise(uses.use))
    days = generate.calendar(1, NOW)
    logs = list(generate.logs(cases, uses, days, 1, chunk=7_000))
    created = np.concatenate([x.created_us for x in logs])
    assert (np.diff(created) >= 0).all()
    assert 179 < (created[-1] - created[0]) / 86_400e6 < 180
    success = np.concatenate([x.success for x in logs])
    assert 0.6 < success.mean() < 0.9
    # Bursts: within incidents, the domain that is hit fails most of the time.
    domain = texts.domain_of(cases.choices)[np.concatenate([x.case for x in logs])]
    during = np.zeros(created.size, bool)
    incidents = days.incidents
    for i in range(incidents.start_us.size):
        inside = (created >= incidents.start_us[i]) & (created < incidents.end_us[i])
        during |= inside & (domain == incidents.domain[i])
    assert during.sum() > 5
    assert success[during].mean() < 0.4


def test_near_duplicates_are_near_and_others_are_not() -> None:
    cases = generate.cases(SCALES["smoke"], 1)
    found = generate.case_texts(cases, 1, 0, 500)
    assert len(set(found.query)) == 500
    vectors = found.vectors.astype(np.float64)
    for i in np.flatnonzero(cases.copy_of >= 0):
        assert 0.95 < 1 - cosine_distance(vectors[i], vectors[cases.copy_of[i]]) < 0.999
    lengths = np.linalg.norm(vectors, axis=1)
    similar = (vectors @ vectors.T) / np.outer(lengths, lengths) > 0.95
    assert int(np.triu(similar, 1).sum()) == int((cases.copy_of >= 0).sum())
    assert not math.isnan(vectors.sum())
    assert case_id(122) == "case-000123"
