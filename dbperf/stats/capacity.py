"""The Universal Scalability Law: how throughput grows with load, and where it stops growing.

    X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))

(N. J. Gunther, Guerrilla Capacity Planning, 2007). lambda is the throughput of one user, sigma the share of work that
waits for others (contention), kappa what keeping each other informed costs (coherency; only with it does throughput
fall again). The fit is linear in the reciprocal form N/X = a + b (N - 1) + c N (N - 1), with a = 1/lambda,
b = sigma/lambda and c = kappa/lambda, none below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dbperf.records.capacity import CapacityPoint, Usl

_RESAMPLES = 1000


def fit_usl(points: Sequence[CapacityPoint]) -> Usl | None:
    """The law that fits throughput at different loads best, with intervals from the points' own scatter around it.

    None with fewer than three different loads: three unknowns need three. Intervals (95 %) are a residual bootstrap
    with a fixed seed, and need a fourth load.
    """
    loads = np.array([p.load for p in points], dtype=np.float64)
    rates = np.array([p.requests_per_s for p in points], dtype=np.float64)
    if len(set(loads.tolist())) < 3 or (rates <= 0).any():
        return None
    fitted = _coefficients(loads, rates[None])[0]
    predicted = _throughput(fitted, loads)
    relative = np.log(rates / predicted)
    residual = float(np.sqrt(np.mean(relative**2)))
    intervals = None
    if len(set(loads.tolist())) >= 4:
        rng = np.random.default_rng(1)
        # Three parameters were fitted: the residuals are too small by that much.
        scale = math.sqrt(len(points) / (len(points) - 3))
        residuals = rng.choice(relative, (_RESAMPLES, len(relative))) * scale
        draws = [_named(c) for c in _coefficients(loads, predicted * np.exp(residuals))]
        intervals = np.quantile(np.array(draws), (0.025, 0.975), axis=0)
    lambda_, sigma, kappa = _named(fitted)
    knee = math.sqrt((1 - sigma) / kappa) if kappa > 0 and sigma < 1 else None

    def interval(i: int) -> tuple[float, float] | None:
        return None if intervals is None else (float(intervals[0][i]), float(intervals[1][i]))

    return Usl(
        lambda_per_s=lambda_,
        sigma=sigma,
        kappa=kappa,
        lambda_ci=interval(0),
        sigma_ci=interval(1),
        kappa_ci=interval(2),
        relative_error=residual,
        knee=knee,
        peak_per_s=float(_throughput(fitted, np.array([knee]))[0]) if knee else None,
    )


def usl_throughput(usl: Usl, load: float) -> float:
    """Requests per second that the law predicts at a load."""
    n = load
    return usl.lambda_per_s * n / (1 + usl.sigma * (n - 1) + usl.kappa * n * (n - 1))


def _coefficients(loads: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """a, b, c of N/X, none below 0, for each row of rates: the best of the fits in which each subset of b and c is 0.

    Weighted by X/N, so that relative and not absolute errors count. Three non-negative unknowns have four such subsets;
    trying them all is exact (C. L. Lawson and R. J. Hanson, Solving Least Squares Problems, 1974, chapter 23).
    """
    of_load = np.stack([np.ones_like(loads), loads - 1, loads * (loads - 1)], axis=1)
    design = of_load * (rates / loads)[:, :, None]
    best = np.zeros((len(rates), 3))
    least = np.full(len(rates), np.inf)
    for used in ([0, 1, 2], [0, 1], [0, 2], [0]):
        solution = np.zeros_like(best)
        # The least squares of all rows at once: of a system with the right side 1, the sum of the pseudoinverse's rows.
        solution[:, used] = np.linalg.pinv(design[:, :, used]).sum(axis=2)
        error = (((design @ solution[:, :, None])[:, :, 0] - 1) ** 2).sum(axis=1)
        better = (solution >= 0).all(axis=1) & (solution[:, 0] > 0) & (error < least - 1e-12)
        best[better], least[better] = solution[better], error[better]
    assert np.isfinite(least).all()  # the constant alone is positive for positive rates
    return best


def _named(coefficients: np.ndarray) -> tuple[float, float, float]:
    a, b, c = (float(x) for x in coefficients)
    return 1 / a, b / a, c / a


def _throughput(coefficients: np.ndarray, loads: np.ndarray) -> np.ndarray:
    a, b, c = coefficients
    result: np.ndarray = loads / (a + b * (loads - 1) + c * loads * (loads - 1))
    return result
