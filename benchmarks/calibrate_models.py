"""Noise for the calibration: what a machine may do to the times of requests, and to the figures of runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]
RUN_TO_RUN = 0.02
"""Standard deviation of what differs between runs, and of the drift within one."""


def normal(rng: np.random.Generator, n: int, cv: float = 0.15) -> Floats:
    return np.maximum(rng.normal(1, cv, n), 0.01)


def lognormal(rng: np.random.Generator, n: int, cv: float = 0.30) -> Floats:
    return rng.lognormal(0, cv, n)


def ar1(rng: np.random.Generator, n: int, cv: float = 0.20) -> Floats:
    """Log-normal, each value correlated 0.5 with the one before."""
    shocks = rng.normal(size=n + 50) * np.sqrt(0.75)
    x = np.empty(n + 50)
    x[0] = shocks[0]
    for i in range(1, n + 50):
        x[i] = 0.5 * x[i - 1] + shocks[i]
    return np.exp(cv * x[50:])


def bimodal(rng: np.random.Generator, n: int, cv: float = 0.10) -> Floats:
    """70 % of the values around 1, 30 % around 1.5."""
    return np.where(rng.random(n) < 0.3, 1.5, 1.0) * np.maximum(rng.normal(1, cv, n), 0.01)


def spikes(rng: np.random.Generator, n: int, cv: float = 0.10) -> Floats:
    """5 % of the values are 2 to 5 times as long."""
    return np.maximum(rng.normal(1, cv, n), 0.01) * np.where(rng.random(n) < 0.05, rng.uniform(2, 5, n), 1.0)


MODELS: dict[str, Callable[..., Floats]] = {
    "normal": normal, "lognormal": lognormal, "AR(1) 0.5": ar1, "bimodal": bimodal, "5 % spikes": spikes,
}  # fmt: skip
CORRELATED = {"AR(1) 0.5"}
SERIES_CV, BIMODAL_CV = 0.05, 0.02
"""Of a run's figure in a history: P95 of a run of the same code differs by that much from one run to the next."""


def session(model: Noise) -> Noise:
    """The model with a machine that drifts over the session, to the one side or the other."""

    def drifting(rng: np.random.Generator, n: int) -> Floats:
        return model(rng, n) * np.exp(RUN_TO_RUN * rng.normal() * np.linspace(-1, 1, n))

    return drifting


def run(model: Noise, rng: np.random.Generator, n: int) -> Floats:
    """The model on a day of its own."""
    return model(rng, n) * np.exp(RUN_TO_RUN * rng.normal())
