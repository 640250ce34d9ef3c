"""Two variants measured in turns: the ratio of their times, from pairs that share the machine's moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dbperf.stats.quantiles import interval_ranks, samples_needed

PAIRS_LEAST = samples_needed(0.5)
"""With fewer pairs a median has no 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """Of after over before."""

    ratio: float
    low: float | None
    """95 % interval; None with fewer pairs than it needs."""
    high: float | None
    pairs: int


def paired_ratio(before: Sequence[float], after: Sequence[float], confidence: float = 0.95) -> PairedRatio:
    """The median of the pairs' ratios, with its distribution-free interval (see `quantiles`).

    Args:
        before, after: positive times; equal places were measured next to each other.
        confidence: of the interval.

    >>> paired_ratio([2.0] * 9, [1.0, 1.0, 1.1, 0.9, 1.0, 1.0, 1.2, 0.8, 1.0])
    PairedRatio(ratio=0.5, low=0.45, high=0.55, pairs=9)
    """
    ratios = np.sort(np.asarray(after, dtype=np.float64) / np.asarray(before, dtype=np.float64))
    n = len(ratios)
    ranks = interval_ranks(n, 0.5, confidence)
    return PairedRatio(
        ratio=float(np.median(ratios)),
        low=float(ratios[ranks[0] - 1]) if ranks else None,
        high=float(ratios[ranks[1] - 1]) if ranks else None,
        pairs=n,
    )


def weighted_difference(
    parts: Sequence[tuple[float, Sequence[float], Sequence[float]]], *, draws: int = 4000, seed: int = 1
) -> tuple[float, float, float]:
    """The weighted sum of the medians' falls (before less after), with a 95 % bootstrap interval over the pairs.

    Args:
        parts: weight, times before, times after.
        draws: of the bootstrap.
        seed: of the bootstrap, so that the same times give the same interval.

    Returns:
        Estimate, low, high, in the times' unit.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(draws)
    estimate = 0.0
    for weight, before, after in parts:
        fall = np.asarray(before, dtype=np.float64) - np.asarray(after, dtype=np.float64)
        estimate += weight * float(np.median(fall))
        total += weight * np.median(fall[rng.integers(0, len(fall), size=(draws, len(fall)))], axis=1)
    low, high = np.quantile(total, (0.025, 0.975))
    return estimate, float(low), float(high)
