"""Bootstrap draws of percentiles, from histograms and from samples in time order.

A bootstrap resample of n independent samples has as its k-th order statistic the sample's own quantile at U, where U
is the k-th smallest of n uniform variables: Beta(k, n - k + 1) (B. Efron and R. J. Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 8). So the draws are looked up instead of resampled: exact, and thousands of times cheaper.

Samples that resemble their neighbours are resampled in overlapping blocks (H. R. Künsch, Annals of Statistics 17,
1989) whose length follows from the autocorrelation (D. N. Politis and H. White, Econometric Reviews 23, 2004, with
the correction of A. Patton, D. N. Politis and H. White, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dbperf.stats.hdr import Latencies

DRAWS = 20_000
BLOCK_DRAWS = 4_000
"""Block resampling touches every sample of every draw."""
Draws = npt.NDArray[np.float64]


def histogram_quantile_draws(
    latencies: Latencies,
    q: float,
    rng: np.random.Generator,
    *,
    unfinished: int = 0,
    design_effect: float = 1.0,
    draws: int = DRAWS,
) -> Draws:
    """Bootstrap draws of quantile `q` in ms; infinite where a draw falls among the requests that never ended.

    Args:
        latencies: at least one sample.
        q: 0..1.
        rng: the source of randomness.
        unfinished: requests slower than any that ended.
        design_effect: how many samples tell as much as one independent sample.
        draws: how many.
    """
    n = latencies.count + unfinished
    effective = max(1.0, n / max(1.0, design_effect))
    k = min(max(math.ceil(q * effective - 1e-9), 1.0), effective)
    at = rng.beta(k, effective - k + 1, draws)
    ranks = np.clip(np.ceil(at * n), 1, n)
    values = latencies.at_ranks_ms(np.minimum(ranks, latencies.count))
    values[ranks > latencies.count] = np.inf
    return values


def sample_quantile_draws(
    samples: npt.ArrayLike, q: float, rng: np.random.Generator, *, block: int | None = None, draws: int | None = None
) -> Draws:
    """Bootstrap draws of quantile `q` of samples in time order, in blocks where they resemble their neighbours.

    Args:
        samples: at least two, in the order in which they were taken.
        q: 0..1.
        rng: the source of randomness.
        block: length of a block; found from the samples by default.
        draws: how many; 20,000, and 4,000 with blocks.
    """
    x = np.asarray(samples, dtype=np.float64)
    n = x.size
    block = block or block_length(x)
    k = max(math.ceil(q * n - 1e-9), 1)
    if block <= 1:
        at = rng.beta(k, n - k + 1, draws or DRAWS)
        return np.asarray(np.sort(x)[np.clip(np.ceil(at * n).astype(np.int64), 1, n) - 1])
    draws = draws or BLOCK_DRAWS
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([x, x[: block - 1]]), block)  # a circle
    needed = math.ceil(n / block)
    found = np.empty(draws)
    step = max(1, 2_000_000 // (needed * block))  # keeps a chunk near 16 MB
    for start in range(0, draws, step):
        size = min(step, draws - start)
        resampled = windows[rng.integers(0, n, size=(size, needed))].reshape(size, -1)[:, :n]
        found[start : start + size] = np.partition(resampled, k - 1, axis=1)[:, k - 1]
    return found


def autocorrelation(samples: npt.ArrayLike, lags: int) -> Draws:
    """Autocorrelation at lags 0 to `lags` (the biased estimate, which is positive semidefinite)."""
    x = np.asarray(samples, dtype=np.float64)
    x = x - x.mean()
    n = x.size
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), size)[: lags + 1] / n
    return np.asarray(covariance / covariance[0]) if covariance[0] > 0 else np.eye(1, lags + 1)[0]


def block_length(samples: npt.ArrayLike) -> int:
    """The block length that suits the autocorrelation of the samples' ranks; 1 where there is none to speak of.

    Ranks, so that a few slow samples do not hide the rest. The rule is Politis and White's for the circular block
    bootstrap: lags count until five in a row lie below 2 sqrt(log10(n) / n).
    """
    x = np.asarray(samples, dtype=np.float64)
    n = x.size
    if n < 10 or np.ptp(x) == 0:
        return 1
    ranks = np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(np.float64)
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(n))))
    most = min(n - 1, math.ceil(math.sqrt(n)) + in_a_row)
    rho = autocorrelation(ranks, most)
    significant = np.abs(rho[1:]) > 2 * math.sqrt(math.log10(n) / n)
    m = 0
    for lag in range(len(significant)):
        if not significant[lag : lag + in_a_row].any():
            m = lag
            break
    else:
        m = int(np.flatnonzero(significant)[-1]) + 1
    if m == 0:
        return 1
    reach = min(2 * m, most)
    k = np.arange(-reach, reach + 1)
    weight = np.clip(2 * (1 - np.abs(k) / reach), 0, 1)  # flat-top: 1 up to half, then linear to 0
    weighted = weight * rho[np.abs(k)]
    g = float((np.abs(k) * weighted).sum())
    d = 4 / 3 * float(weighted.sum()) ** 2
    if d <= 0:
        return 1
    length = math.ceil((2 * g * g / d) ** (1 / 3) * n ** (1 / 3))
    return int(max(1, min(length, math.ceil(min(3 * math.sqrt(n), n / 3)))))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of a family of hypotheses are rejected so that the chance of any false rejection is at most `alpha`
    (S. Holm, Scandinavian Journal of Statistics 6, 1979).

    >>> holm([0.001, 0.04, 0.02], 0.05)
    [True, True, True]
    >>> holm([0.001, 0.04, 0.03], 0.05)
    [True, False, False]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for step, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        rejected[i] = True
    return rejected
