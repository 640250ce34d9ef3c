"""Means of many ratios, with their 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from dbperf.stats.distributions import t_quantile

TRIMMED = 0.2


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval (Student's t)."""
    half = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


def trimmed(values: Sequence[float]) -> tuple[float, float]:
    """The mean without a fifth of the values at each end, and half of its 95 % interval, from the winsorised variance
    (Yuen, Biometrika 61, 1974). What is rare and large is not in it."""
    ordered = np.sort(values)
    cut = int(TRIMMED * len(ordered))
    middle = ordered[cut : len(ordered) - cut]
    deviation = float(np.std(np.clip(ordered, middle[0], middle[-1]), ddof=1))
    half = t_quantile(0.975, len(middle) - 1) * deviation / (len(middle) / len(ordered) * math.sqrt(len(ordered)))
    return float(middle.mean()), half
