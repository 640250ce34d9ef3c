"""Percentiles of a histogram with distribution-free confidence intervals.

The interval of a quantile runs from one order statistic to another, chosen with the binomial distribution (G. J. Hahn
and W. Q. Meeker, Statistical Intervals, 1991, section 5.2): it assumes nothing about the shape of the latencies. It
assumes independence, which requests of one load lack; `design_effect` measures by how much, from the seconds, and
the intervals are widened accordingly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dbperf.records.load import Quantile
from dbperf.stats.distributions import binomial_cdf, chi2_quantile, t_quantile
from dbperf.stats.hdr import Latencies

LOAD_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def samples_needed(q: float, confidence: float = 0.95) -> int:
    """How many samples a two-sided interval of quantile `q` needs: 6 for P50, 72 for P95, 368 for P99.

    With fewer, not even the smallest and the largest sample enclose the quantile with that confidence.

    >>> [samples_needed(q) for q in (0.5, 0.95, 0.99, 0.999)]
    [6, 72, 368, 3688]
    """
    tail = (1 - confidence) / 2
    return math.ceil(math.log(tail) / math.log(max(q, 1 - q)))


def interval_ranks(n: int, q: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """The ranks (1-based) of the order statistics that enclose quantile `q` of `n` samples; None with too few."""
    tail = (1 - confidence) / 2
    first, cdf = binomial_cdf(n, q)
    # Lower rank l: the largest with P(X <= l - 1) <= tail. Upper rank u: the smallest with P(X <= u - 1) >= 1 - tail.
    low = first + int(np.searchsorted(cdf, tail, side="right"))
    high = first + int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    if low < 1 or high > n:
        return None
    return low, high


def quantile(
    latencies: Latencies, q: float, *, unfinished: int = 0, design_effect: float = 1.0, confidence: float = 0.95
) -> Quantile:
    """Quantile `q` (0..1) in ms with its interval; no value, and the reason, where there are too few samples.

    Args:
        latencies: the samples.
        unfinished: requests that were still running when the load ended: slower than any that finished (as far as
            anyone knows), so they take the highest ranks.
        design_effect: how many correlated samples tell as much as one independent sample; 1 where they are
            independent.
    """
    finished = latencies.count
    n = finished + unfinished
    if n == 0:
        return Quantile(q=q, value_ms=None, confidence=confidence, reason="no requests")
    if n < (needed := samples_needed(q, confidence)):
        return Quantile(q=q, value_ms=None, confidence=confidence, reason=f"{n} requests, {needed} are needed")
    rank = max(1, math.ceil(q * n - 1e-9))
    if rank > finished:
        return Quantile(
            q=q, value_ms=None, confidence=confidence,
            reason=f"{unfinished} of {n} requests had not finished when the load ended",
        )  # fmt: skip
    design_effect = max(1.0, design_effect)
    effective = max(1, int(n / design_effect))
    ranks = interval_ranks(effective, q, confidence)
    if ranks is None:
        return Quantile(
            q=q, value_ms=latencies.at_rank_ms(rank), confidence=confidence, design_effect=design_effect,
            reason=f"no interval: {n} requests that vary together tell as much as {effective}",
        )  # fmt: skip
    low = max(1, math.floor(ranks[0] * n / effective))
    high = min(n, math.ceil(ranks[1] * n / effective))
    value_ms, low_ms = latencies.at_ranks_ms((rank, min(low, rank))).tolist()
    high_ms = latencies.at_rank_ms(high) if high <= finished else None
    return Quantile(
        q=q, value_ms=value_ms, ci_low_ms=low_ms, ci_high_ms=high_ms,
        confidence=confidence, design_effect=design_effect,
        reason=None if high_ms is not None else f"no upper end: {unfinished} of {n} requests had not finished",
    )  # fmt: skip


def design_effect(within: Sequence[int], totals: Sequence[int], blocks: int = 20) -> float:
    """By how much correlation in time inflates the variance of a share; 1 where the data don't show that it does.

    The seconds are joined into at most `blocks` blocks of equal length (blocks, so that correlation over several
    seconds counts too), and the variance of the share over blocks (a ratio estimator: W. G. Cochran, Sampling
    Techniques, 1977, section 3.12) is divided by the binomial one (L. Kish's design effect). Without correlation
    that ratio scatters around 1 like chi-square over its degrees of freedom; up to that distribution's 95 % point it
    counts as 1, so that short loads are not punished for the estimate's own noise.

    Args:
        within: per second, how many requests were below the value in question.
        totals: per second, how many requests there were.
    """
    inside, total = np.asarray(within, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if total.size < 5 or total.sum() == 0:
        return 1.0
    inside, total = _joined(inside, blocks), _joined(total, blocks)
    m, n = total.size, total.sum()
    share = inside.sum() / n
    if not 0 < share < 1:
        return 1.0
    variance = m / (m - 1) * float(((inside - share * total) ** 2).sum()) / n**2
    effect = float(variance / (share * (1 - share) / n))
    return effect if effect > chi2_quantile(0.95, m - 1) / (m - 1) else 1.0


def mean_interval(values: Sequence[float], confidence: float = 0.95, blocks: int = 20) -> tuple[float, float] | None:
    """Confidence interval of the mean of a series that may be correlated in time, by batch means: the values are
    joined into at most `blocks` blocks and Student's t is taken over these (A. M. Law, Simulation Modeling and
    Analysis, section 9.5.3). None with fewer than five values.
    """
    if len(values) < 5:
        return None
    series = np.asarray(values, dtype=np.float64)
    size = math.ceil(series.size / blocks)
    starts = np.arange(0, series.size, size)
    sizes = np.diff(np.append(starts, series.size))
    means = np.add.reduceat(series, starts) / sizes
    # The last block may be shorter; weighting it would need its own variance, so it only counts when it is whole.
    whole = means[sizes == size]
    half = t_quantile(0.5 + confidence / 2, whole.size - 1) * float(whole.std(ddof=1)) / math.sqrt(whole.size)
    centre = float(series.mean())
    return centre - half, centre + half


def _joined(values: npt.NDArray[np.float64], blocks: int) -> npt.NDArray[np.float64]:
    size = math.ceil(values.size / blocks)
    starts = np.arange(0, values.size, size)
    return np.asarray(np.add.reduceat(values, starts))
