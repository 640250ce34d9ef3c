"""The few distributions that intervals need, over numpy and math: scipy would cost 113 MB on disk.

The tests compare each with tabulated values.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_NORMAL = NormalDist()


def normal_quantile(p: float) -> float:
    """The value that a standard normal variable stays below with probability `p` (Wichura's AS 241, from the
    standard library)."""
    return _NORMAL.inv_cdf(p)


def t_quantile(p: float, df: float) -> float:
    """The value that Student's t with `df` degrees of freedom stays below with probability `p`.

    Exact for one and two degrees of freedom; Hill's algorithm otherwise (G. W. Hill, Algorithm 396, CACM 13(10),
    1970), good to about five digits for df >= 3.
    """
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    two_tails = 2 * (1 - p)
    if df == 1:
        return 1 / math.tan(two_tails * math.pi / 2)
    if df == 2:
        return math.sqrt(2 / (two_tails * (2 - two_tails)) - 2)
    a = 1 / (df - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * df
    y = math.pow(d * two_tails, 2 / df)
    if y > 0.05 + a:
        x = normal_quantile(two_tails / 2)
        y = x * x
        if df < 5:
            c += 0.3 * (df - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)) * y - 1) * (df + 1) / (
            df + 2
        ) + 1 / y
    return math.sqrt(df * y)


def chi2_quantile(p: float, df: float) -> float:
    """The value that chi-square with `df` degrees of freedom stays below with probability `p` (E. B. Wilson and
    M. M. Hilferty, PNAS 17, 1931): within 1 % for df >= 3 and p between 0.01 and 0.99."""
    a = 2 / (9 * df)
    return df * (1 - a + normal_quantile(p) * math.sqrt(a)) ** 3


def binomial_cdf(n: int, p: float) -> tuple[int, npt.NDArray[np.float64]]:
    """The distribution function of a binomial variable where it is neither 0 nor 1.

    Returns `first` and an array: P(X <= first + i) is its i-th element; below `first` it is 0, above the last it is
    1 (to 1e-20: the window reaches 12 standard deviations, at least 40 counts, to both sides of the mean).
    """
    mean, sd = n * p, math.sqrt(n * p * (1 - p))
    reach = max(12 * sd, 40.0)
    first, last = max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach))
    k = np.arange(first, last, dtype=np.float64)
    steps = np.log((n - k) / (k + 1)) + (math.log(p) - math.log1p(-p))
    start = (
        math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
        + first * math.log(p) + (n - first) * math.log1p(-p)
    )  # fmt: skip
    log_pmf = start + np.concatenate(([0.0], np.cumsum(steps)))
    pmf = np.exp(log_pmf - log_pmf.max())
    # Normalizing removes the rounding of lgamma at large n, where the window's mass is 1 to 1e-20.
    return first, np.minimum(np.cumsum(pmf) / pmf.sum(), 1.0)


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) for X binomial."""
    if k >= n:
        return 1.0
    first, cdf = binomial_cdf(n, p)
    if k < first:
        return 0.0
    return float(cdf[min(k - first, len(cdf) - 1)])


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 22, 1927): sensible also at 0 and at n.

    >>> [round(x, 4) for x in wilson(0, 100)]
    [0.0, 0.037]
    """
    z = normal_quantile(0.5 + confidence / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends both are equal but for rounding, and 1e-18 errors would read as "some".
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    return low, 1.0 if successes == n else min(1.0, (centre + half) / scale)
