"""What a series of samples, in the order in which they were taken, tells about itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dbperf.records.load import Quantile
from dbperf.stats.bootstrap import autocorrelation, block_length, sample_quantile_draws
from dbperf.stats.distributions import normal_quantile
from dbperf.stats.quantiles import interval_ranks, samples_needed

BENCH_QUANTILES = (0.5, 0.95, 0.99)
MODES_APART = 4.5
"""Ashman's D beyond which two groups are two: halves of a normal distribution come to 2.6, of a uniform one to 3.5."""


def sample_quantile(samples_ms: Sequence[float], q: float, *, block: int = 1, confidence: float = 0.95) -> Quantile:
    """Quantile `q` with its distribution-free interval; a block bootstrap where neighbours resemble each other.

    No value, and the reason, where there are too few samples.
    """
    n = len(samples_ms)
    if n < (needed := samples_needed(q, confidence)):
        return Quantile(q=q, value_ms=None, confidence=confidence, reason=f"{n} samples, {needed} are needed")
    ordered = np.sort(np.asarray(samples_ms, dtype=np.float64))
    value = float(ordered[max(math.ceil(q * n - 1e-9), 1) - 1])
    ranks = interval_ranks(n, q, confidence)
    assert ranks is not None  # n suffices
    low, high = float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])
    effect = 1.0
    if block > 1:
        draws = sample_quantile_draws(samples_ms, q, np.random.default_rng(1), block=block)
        tail = (1 - confidence) / 2
        wide_low, wide_high = (float(x) for x in np.quantile(draws, (tail, 1 - tail)))
        if high > low:
            effect = max(1.0, ((wide_high - wide_low) / (high - low)) ** 2)
        low, high = min(low, wide_low), max(high, wide_high)
    return Quantile(
        q=q, value_ms=value, ci_low_ms=low, ci_high_ms=high, confidence=confidence, design_effect=effect
    )  # fmt: skip


def warm_up_length(samples: npt.ArrayLike) -> int:
    """How many samples at the start belong to a warm-up; 0 where the start is like the rest.

    MSER (K. P. White, Simulation 69, 1997) over ranks: the cut after which the standard error of the rest is smallest,
    among the first half; it counts only where the samples before it are larger (Mann and Whitney's test, z > 4), so
    that noise at the start is not cut away.
    """
    x = np.asarray(samples, dtype=np.float64)
    n = x.size
    if n < 20:
        return 0
    ranks = np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(np.float64)
    left = np.arange(n, 0, -1, dtype=np.float64)
    sums, squares = np.cumsum(ranks[::-1])[::-1], np.cumsum(ranks[::-1] ** 2)[::-1]
    errors = (squares / left - (sums / left) ** 2) / left
    cut = int(np.argmin(errors[: n // 2]))
    if cut < 2:  # two samples prove nothing, and one is an outlier
        return 0
    rest = n - cut
    u = ranks[:cut].sum() - cut * (cut - 1) / 2
    z = (u - cut * rest / 2) / math.sqrt(cut * rest * (n + 1) / 12)
    return cut if z > 4 else 0


def modes(samples: npt.ArrayLike) -> int:
    """2 where the samples fall into two groups that are apart, else 1.

    Otsu's split of the logarithms (N. Otsu, IEEE Trans. SMC 9, 1979) and Ashman's D of the two groups (K. M. Ashman
    et al., Astronomical Journal 108, 1994); a group is at least 5 % of the samples.
    """
    x = np.sort(np.log(np.maximum(np.asarray(samples, dtype=np.float64), 1e-9)))
    n = x.size
    least = max(5, math.ceil(0.05 * n))
    if n < 2 * least or x[0] == x[-1]:
        return 1
    k = np.arange(1, n)
    sums = np.cumsum(x)
    low, high = sums[:-1] / k, (sums[-1] - sums[:-1]) / (n - k)
    between = k * (n - k) * (high - low) ** 2
    allowed = slice(least - 1, n - least)
    split = least - 1 + int(np.argmax(between[allowed])) + 1
    a, b = x[:split], x[split:]
    spread = math.sqrt(float(a.var() + b.var()))
    apart = math.sqrt(2) * float(b.mean() - a.mean()) / max(spread, 1e-12)
    return 2 if apart > MODES_APART else 1


def outliers(samples: npt.ArrayLike) -> int:
    """Samples more than 3 interquartile ranges above the upper quartile (J. W. Tukey, 1977: far out)."""
    x = np.asarray(samples, dtype=np.float64)
    if x.size < 4:
        return 0
    q1, q3 = np.quantile(x, (0.25, 0.75))
    return int((x > q3 + 3 * (q3 - q1)).sum())


def neighbours(samples: npt.ArrayLike) -> tuple[float | None, int]:
    """Autocorrelation of neighbours' ranks where it is not noise (else None), and the block length that follows."""
    x = np.asarray(samples, dtype=np.float64)
    if x.size < 20 or np.ptp(x) == 0:
        return None, 1
    ranks = np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(np.float64)
    rho = float(autocorrelation(ranks, 1)[1])
    significant = abs(rho) > normal_quantile(0.995) / math.sqrt(x.size)
    return (rho if significant else None), block_length(x)
