"""Histograms, quantiles and distributions against the reference implementation, tables and plain sorting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from dbperf.errors import RecordError
from dbperf.stats.distributions import binomial_at_most, chi2_quantile, t_quantile, wilson
from dbperf.stats.hdr import BINS, DIGITS, HIGHEST_US, LOWEST_US, Latencies, bin_edges_us, bin_of, merge
from dbperf.stats.quantiles import design_effect, interval_ranks, mean_interval, quantile, samples_needed


@given(st.integers(LOWEST_US, HIGHEST_US))
def test_the_bins_are_those_of_hdrhistogram(value: int) -> None:
    reference = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    assert int(bin_of(value)) == reference.get_counts_array_index(value)
    low, high = bin_edges_us(bin_of(value))
    assert low == reference.get_lowest_equivalent_value(value)
    assert high == reference.get_highest_equivalent_value(value)
    assert high - low <= value / 1000


def test_values_outside_the_range_go_into_its_ends() -> None:
    assert bin_of([0.0, 0.4, -3]).tolist() == [1, 1, 1]
    assert bin_of(1e12) == bin_of(HIGHEST_US)
    assert int(bin_of(HIGHEST_US)) < BINS


@given(st.lists(st.floats(0.001, 3.6e6), max_size=50), st.lists(st.floats(0.001, 3.6e6), max_size=50))
def test_merging_encoded_histograms_is_exact(a_ms: list[float], b_ms: list[float]) -> None:
    together = Latencies.of_ms(a_ms + b_ms)
    merged = merge([Latencies.of_ms(a_ms).encode(), Latencies.of_ms(b_ms).encode()])
    assert merged.count == len(a_ms) + len(b_ms)
    assert np.array_equal(Latencies.decode(merged).counts, together.counts)


def test_other_implementations_can_read_the_encoding() -> None:
    read = HdrHistogram.decode(Latencies.of_ms([1.0] * 99 + [250.0]).encode().encoded.encode())
    assert read.get_total_count() == 100
    assert read.get_value_at_percentile(100) == pytest.approx(250_000, rel=1e-3)


@pytest.mark.parametrize("text", ["", "x", "AAAA", HdrHistogram(1, 1000, 2).encode().decode()])
def test_a_broken_histogram_is_an_error_with_a_message(text: str) -> None:
    with pytest.raises(RecordError, match="histogram"):
        Latencies.decode(text)


# Tabulated values: Student's t and chi-square as printed in any statistics handbook.
@pytest.mark.parametrize(
    ("df", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (19, 2.093), (120, 1.980)]
)
def test_student_t_quantiles_match_the_table(df: int, expected: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(expected, abs=6e-4)
    assert t_quantile(0.025, df) == pytest.approx(-expected, abs=6e-4)


@pytest.mark.parametrize(("df", "expected"), [(4, 9.488), (9, 16.919), (19, 30.144)])
def test_chi_square_quantiles_match_the_table(df: int, expected: float) -> None:
    assert chi2_quantile(0.95, df) == pytest.approx(expected, rel=0.01)


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.data())
def test_the_binomial_distribution_sums_its_terms(n: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    exact = math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
    assert binomial_at_most(k, n, p) == pytest.approx(exact, abs=1e-10)


def test_the_binomial_distribution_holds_at_ten_million() -> None:
    n, p = 10_000_000, 0.99
    assert binomial_at_most(9_900_000, n, p) == pytest.approx(0.5, abs=2e-3)
    # One standard deviation above the mean: the normal distribution's 0.8413, to the skewness left at this n.
    assert binomial_at_most(9_900_000 + round(math.sqrt(n * p * (1 - p))), n, p) == pytest.approx(0.8413, abs=2e-3)


def test_wilson_interval_of_the_textbook_example() -> None:
    # 15 of 148 (Newcombe, Statistics in Medicine 17, 1998, table I, method 3).
    assert wilson(15, 148) == (pytest.approx(0.0624, abs=5e-5), pytest.approx(0.1605, abs=5e-5))
    assert wilson(0, 434)[0] == 0
    assert wilson(434, 434)[1] == 1


def test_interval_ranks_of_the_median() -> None:
    # Hahn & Meeker: for n = 10, the 2nd and 9th order statistics enclose the median with 97.9 %.
    assert interval_ranks(10, 0.5) == (2, 9)
    assert interval_ranks(5, 0.5) is None
    assert interval_ranks(samples_needed(0.99), 0.99) is not None
    assert interval_ranks(samples_needed(0.99) - 1, 0.99) is None


def test_the_interval_of_p95_covers_the_true_value_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    true_ms = math.exp(1.5 * 1.6448536)  # P95 of a log-normal
    hits = 0
    for _ in range(400):
        found = quantile(Latencies.of_ms(rng.lognormal(0, 1.5, 300)), 0.95)
        assert found.ci_low_ms is not None
        assert found.ci_high_ms is not None
        hits += found.ci_low_ms * 0.999 <= true_ms <= found.ci_high_ms * 1.001
    assert hits / 400 > 0.92  # 0.95 less three standard errors of this simulation


def test_too_few_samples_give_no_value_and_the_reason() -> None:
    found = quantile(Latencies.of_ms([5.0] * 100), 0.99)
    assert found.value_ms is None
    assert found.reason == "100 requests, 368 are needed"
    assert quantile(Latencies(), 0.5).reason == "no requests"


def test_unfinished_requests_are_slower_than_all_others() -> None:
    done = Latencies.of_ms([5.0] * 400)
    assert quantile(done, 0.5, unfinished=40).value_ms == pytest.approx(5, rel=1e-3)
    found = quantile(done, 0.95, unfinished=40)
    assert found.value_ms is None
    assert found.reason == "40 of 440 requests had not finished when the load ended"


def test_correlation_widens_intervals_and_independence_does_not() -> None:
    rng = np.random.default_rng(5)
    independent = rng.binomial(50, 0.9, 120)
    assert design_effect(independent.tolist(), [50] * 120) == 1.0
    slow_minutes = np.where(np.arange(120) // 30 % 2, 25, 50)  # half a minute slow, half a minute fast
    effect = design_effect(slow_minutes.tolist(), [50] * 120)
    assert effect > 50
    latencies = Latencies.of_ms(rng.lognormal(0, 1, 6000))
    narrow, wide = quantile(latencies, 0.5), quantile(latencies, 0.5, design_effect=16)
    assert narrow.ci_high_ms is not None
    assert wide.ci_high_ms is not None
    assert narrow.value_ms == wide.value_ms
    assert wide.ci_high_ms > narrow.ci_high_ms


def test_the_interval_of_a_mean_covers_and_needs_five_values() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        interval = mean_interval(rng.normal(100, 10, 47).tolist())
        assert interval is not None
        hits += interval[0] <= 100 <= interval[1]
    assert hits / 400 > 0.92
    assert mean_interval([1.0, 2.0, 3.0, 4.0]) is None


def test_sparse_counts_answer_as_the_whole_histogram_does() -> None:
    latencies = Latencies.of_ms([0.2, 1.0, 1.0, 7.5, 90.0, 4000.0])
    sparse = latencies.sparse()
    assert sparse.count == 6
    limits = [0.1, 0.2, 1.0, 8.0, 4000.0]
    assert [sparse.count_at_most(x) for x in limits] == [latencies.count_at_most(x) for x in limits] == [0, 1, 3, 4, 6]
