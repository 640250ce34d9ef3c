"""The statistics under the comparison, against slow references and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.stats.bootstrap import (
    autocorrelation,
    block_length,
    histogram_quantile_draws,
    holm,
    sample_quantile_draws,
)
from dbperf.stats.compare import Effect, fisher_at_least, log_ratio, share_difference, verdict_of
from dbperf.stats.hdr import Latencies


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def ar1(n: int, rho: float, seed: int = 1) -> np.ndarray:
    noise = rng(seed).normal(size=n)
    x = np.empty(n)
    x[0] = noise[0]
    for i in range(1, n):
        x[i] = rho * x[i - 1] + math.sqrt(1 - rho * rho) * noise[i]
    return x


def test_draws_are_those_of_resampling() -> None:
    """The looked-up draws against real resampling, the slow way."""
    x = rng(3).lognormal(3, 0.5, 400)
    slow = np.sort(rng(5).choice(x, size=(4000, x.size)), axis=1)[:, math.ceil(0.95 * x.size) - 1]
    fast = sample_quantile_draws(x, 0.95, rng(), block=1)
    histogram = histogram_quantile_draws(Latencies.of_ms(x), 0.95, rng())
    for q in (0.025, 0.5, 0.975):
        assert np.quantile(fast, q) == pytest.approx(np.quantile(slow, q), rel=0.02)
        assert np.quantile(histogram, q) == pytest.approx(np.quantile(slow, q), rel=0.02)


def test_requests_that_never_ended_are_slower_than_any() -> None:
    latencies = Latencies.of_ms(np.full(1000, 10.0))
    assert np.isinf(histogram_quantile_draws(latencies, 0.95, rng(), unfinished=100)).all()
    assert not np.isinf(histogram_quantile_draws(latencies, 0.5, rng(), unfinished=100)).any()


def test_blocks_grow_with_autocorrelation() -> None:
    assert block_length(rng().normal(size=1000)) == 1
    weak, strong = block_length(ar1(1000, 0.3)), block_length(ar1(1000, 0.8))
    assert 1 < weak < strong < 100
    assert block_length(np.ones(100)) == 1
    assert autocorrelation(ar1(20_000, 0.5), 2) == pytest.approx([1, 0.5, 0.25], abs=0.03)


def test_correlated_samples_give_wider_intervals() -> None:
    x = np.exp(ar1(2000, 0.8))
    as_if = sample_quantile_draws(x, 0.5, rng(), block=1).std()
    assert sample_quantile_draws(x, 0.5, rng()).std() > 1.8 * as_if  # sqrt((1 + 0.8) / (1 - 0.8)) = 3 in the limit


def test_intervals_cover_what_they_promise() -> None:
    """95 % intervals of the ratio of two P95 of the same distribution hold 1 in about 95 % of cases."""
    inside = 0
    for i in range(300):
        a, b = rng(1000 + i).lognormal(3, 0.4, 300), rng(5000 + i).lognormal(3, 0.4, 300)
        draws = [sample_quantile_draws(x, 0.95, rng(i), block=1, draws=2000) for x in (a, b)]
        values = [float(np.sort(x)[284]) for x in (a, b)]
        effect = log_ratio(*draws, value_a=values[0], value_b=values[1], rng=rng(i))
        inside += effect.low <= 0 <= effect.high
    assert 0.91 <= inside / 300 <= 0.995


def test_fisher_is_the_hypergeometric_tail() -> None:
    exactly = sum(math.comb(10, k) * math.comb(6, 9 - k) for k in (8, 9)) / math.comb(16, 9)
    assert fisher_at_least(8, 10, 1, 6) == pytest.approx(exactly)
    assert fisher_at_least(0, 100, 0, 100) == 1
    assert fisher_at_least(5, 100, 0, 100) == pytest.approx(math.comb(100, 5) / math.comb(200, 5))


def test_the_difference_of_shares_has_newcombes_interval() -> None:
    # R. G. Newcombe 1998, table II, case (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339
    effect = share_difference(48, 80, 56, 70)
    assert (effect.low, effect.high) == pytest.approx((0.0524, 0.3339), abs=2e-4)


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_holm_rejects_no_more_than_each_test_alone_and_no_less_than_bonferroni(p: list[float], alpha: float) -> None:
    found = holm(p, alpha)
    for value, rejected in zip(p, found, strict=True):
        assert not rejected or value <= alpha
        assert rejected or value > alpha / len(p)


@pytest.mark.parametrize(
    ("low", "high", "shown", "verdict"),
    [
        (0.02, 0.08, True, "unchanged"),
        (0.02, 0.12, True, "worse"),
        (0.12, 0.20, True, "worse"),
        (0.02, 0.12, False, "cant_tell"),
        (-0.05, 0.15, False, "cant_tell"),
        (-0.05, 0.05, False, "unchanged"),
    ],
)
def test_the_rule(low: float, high: float, shown: bool, verdict: str) -> None:
    effect = Effect(estimate=(low + high) / 2, low=low, high=high, p_up=0, p_down=1)
    kwargs = {"tolerance": 0.1, "worse_is_up": True, "shown_worse": shown, "shown_better": False}
    assert verdict_of(effect, **kwargs) == verdict  # type: ignore[arg-type]  # a dict of mixed types
