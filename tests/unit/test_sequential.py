"""The sequential test against brute force, published tables, and simulated times with fixed seeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.stats.compare import Effect
from dbperf.stats.sequential import (
    Plan,
    block_log_ratios,
    family_verdicts,
    hodges_lehmann,
    look_weights,
    quads_per_block,
    rehearse,
    sequential_effect,
    settled,
    signed_rank,
    toss,
)


def _flips(differences: list[float]) -> tuple[float, float]:
    """The slow reference: every combination of signs."""
    d = np.array([x for x in differences if x != 0])
    size = np.abs(d)
    ranks = np.array([(size < x).sum() + ((size == x).sum() + 1) / 2 for x in size])
    seen = ranks[d > 0].sum()
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in itertools.product((0, 1), repeat=len(d))
    ]
    return sum(s >= seen for s in sums) / len(sums), sum(s <= seen for s in sums) / len(sums)


@given(st.lists(st.integers(-6, 6).map(lambda x: x / 4), max_size=6))
def test_signed_rank_is_the_share_of_sign_flips_with_ties_and_zeros(differences: list[float]) -> None:
    assert signed_rank(differences) == pytest.approx(_flips(differences))


@pytest.mark.parametrize(("n", "tail", "rank"), [(10, 0.025, 9), (20, 0.025, 53), (30, 0.005, 110), (50, 0.025, 435)])
def test_hodges_lehmann_has_the_critical_values_of_the_tables(n: int, tail: float, rank: int) -> None:
    """Critical values of Wilcoxon's test (Hollander, Wolfe and Chicken, table A.4): 8, 52, 109, 434."""
    d = np.random.default_rng(1).normal(size=n)
    walsh = sorted((d[i] + d[j]) / 2 for i in range(n) for j in range(i, n))
    assert hodges_lehmann(d, tail=tail) == (
        pytest.approx(np.median(walsh)), pytest.approx(walsh[rank - 1]), pytest.approx(walsh[-rank])
    )  # fmt: skip


def test_too_few_blocks_give_no_interval() -> None:
    assert hodges_lehmann([0.1] * 4, tail=0.025) is None
    assert sequential_effect([0.1] * 4, [4], 60, ended=True) is None
    assert sequential_effect([], [0], 60, ended=True) is None


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True), st.booleans())
def test_looks_never_spend_more_than_there_is(looks: list[int], ended: bool) -> None:
    weights = look_weights(sorted(looks), 60, ended=ended)
    assert all(w >= 0 for w in weights)
    assert sum(weights) <= 1 + 1e-12
    assert not ended or sum(weights) == pytest.approx(1)


def test_a_block_reaches_beyond_its_percentile() -> None:
    assert [quads_per_block(q, 5) for q in (0.5, 0.9, 0.95, 0.99)] == [1, 1, 2, 10]
    a = np.arange(1.0, 51.0).reshape(5, 10)
    assert block_log_ratios(a, 2 * a, 0.5, 5) == pytest.approx([math.log(2)] * 5)
    assert block_log_ratios(a, 2 * a, 0.95, 5) == pytest.approx([math.log(2)] * 2), "the fifth quad fills no block"


def test_the_coin_is_fair_and_follows_the_seed() -> None:
    heads = toss(np.random.default_rng(3), 10_000)
    assert heads.tolist() == toss(np.random.default_rng(3), 10_000).tolist()
    assert abs(heads.mean() - 0.5) < 0.03


def test_under_no_change_each_look_is_an_exact_test() -> None:
    """Over all sign flips of one series the share with a sequential p of at most alpha is at most alpha."""
    size = np.random.default_rng(5).normal(size=8)
    looks = [5, 7, 8]
    weights = look_weights(looks, 8, ended=True)
    seen = [
        min(signed_rank((size * signs)[:n])[0] / w for n, w in zip(looks, weights, strict=True))
        for signs in itertools.product((-1.0, 1.0), repeat=8)
    ]
    for alpha in (0.02, 0.05, 0.2):
        assert 0 < sum(p <= alpha for p in seen) / len(seen) <= alpha


def test_a_plan_must_make_sense() -> None:
    assert [Plan().quads_at(k) for k in range(4)] == [30, 60, 90, 120]
    for bad in ({"looks": (0.5, 0.25, 1.0)}, {"looks": (0.5,)}, {"looks": ()}, {"run": 0}, {"quads": 0}):
        with pytest.raises(ValueError, match="plan"):
            Plan(**bad)  # type: ignore[arg-type]  # the parameters are wrong on purpose


def test_one_family_shares_the_error_budget() -> None:
    shown = Effect(estimate=0.2, low=0.1, high=0.3, p_up=0.004, p_down=1)
    assert family_verdicts([shown]) == ["worse"]
    assert family_verdicts([shown, None, None]) == ["cant_tell", "cant_tell", "cant_tell"]
    faster = Effect(estimate=-0.2, low=-0.3, high=-0.1, p_up=1, p_down=0.004)
    same = Effect(estimate=0, low=-0.01, high=0.01, p_up=0.5, p_down=0.5)
    assert family_verdicts([faster, same]) == ["better", "unchanged"]
    assert not settled(None, "cant_tell", tolerance=0.1)
    assert settled(same, "unchanged", tolerance=0.1)


# Machines: what the times of requests look like, in the order in which they are made.
def _spiked(rng: np.random.Generator, n: int) -> np.ndarray:
    return 20 * rng.normal(1, 0.1, n) * np.where(rng.random(n) < 0.05, rng.uniform(2, 5, n), 1)


def _drifting(rng: np.random.Generator, n: int) -> np.ndarray:
    return 20 * rng.lognormal(0, 0.2, n) * np.exp(np.linspace(0, 1, n))


@pytest.mark.parametrize("machine", [_spiked, _drifting])
def test_twelve_percent_are_caught_and_nothing_is_not(machine: object) -> None:
    """Fixed seeds. The rates with their intervals are measured by `make calibrate`."""
    for seed in range(6):
        slow = rehearse(machine, np.random.default_rng(seed), factor=1.12)  # type: ignore[arg-type]  # see above
        assert slow.verdict == "worse"
        same = rehearse(machine, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert same.verdict in ("unchanged", "cant_tell")
        assert same.verdicts[0] == "unchanged"


def test_a_clear_answer_ends_the_measurement_early() -> None:
    calm = rehearse(lambda rng, n: rng.normal(20, 1, n), np.random.default_rng(1))
    assert (calm.verdict, calm.samples, calm.looks) == ("unchanged", 300, 1)
    assert rehearse(_drifting, np.random.default_rng(1), factor=3).samples < 1200
    faster = rehearse(_drifting, np.random.default_rng(1), factor=0.5)
    assert faster.verdict == "better"
    assert all(e is not None and e.low < math.log(0.5) < e.high for e in faster.effects)
