"""What only a timeline shows: how long a spike is felt, and whether a long load gets slower."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from dbperf.records.base import Record
from dbperf.records.load import LoadSecond

CALM_S = 5
"""A percentile is back when its median over so many seconds is."""
_BLOCK_S = 5
_RESAMPLES = 2000


class Observed(Record, frozen=True, kw_only=True):
    """A figure with its 95 % interval; `reason` where it could not be had."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def recovery_s(seconds: Sequence[LoadSecond], percentile: str, baseline_ms: float) -> Observed:
    """Seconds from a stage's beginning (its ramp included) until a percentile is back at its baseline.

    Args:
        seconds: the stage's seconds, in order.
        percentile: "p50", "p95" or "p99".
        baseline_ms: at most this counts as back.
    """
    rows = [(s.at_s, getattr(s, f"{percentile}_ms")) for s in seconds]
    for i in range(len(rows) - CALM_S + 1):
        values = [v for _, v in rows[i : i + CALM_S] if v is not None]
        if len(values) > CALM_S // 2 and statistics.median(values) <= baseline_ms:
            value = rows[i][0] - rows[0][0]
            return Observed(value=value, low=max(0.0, value - 1), high=value + 1)
    if len(rows) < CALM_S:
        return Observed(value=None, reason=f"the stage took less than {CALM_S} s")
    return Observed(
        value=None, low=rows[-1][0] - rows[0][0], reason=f"{percentile} did not come back to {baseline_ms:.3g} ms"
    )


def degradation(seconds: Sequence[LoadSecond]) -> Observed:
    """By how much the last quarter of a stage was slower than its first: a share, from the medians of the seconds' P95.

    The interval is a bootstrap over blocks of 5 s (seconds next to each other resemble each other: H. R. Künsch,
    Annals of Statistics 17, 1989), with a fixed seed: the same data give the same interval.
    """
    values = np.array([s.p95_ms for s in seconds if s.p95_ms is not None], dtype=np.float64)
    quarter = len(values) // 4
    if quarter < 4 * _BLOCK_S:
        return Observed(value=None, reason=f"{len(values)} s are too short: {16 * _BLOCK_S} are needed")
    first, last = values[:quarter], values[-quarter:]
    value = float(np.median(last) / np.median(first)) - 1
    rng = np.random.default_rng(1)
    ratios = _resampled(last, rng) / _resampled(first, rng) - 1
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Observed(value=value, low=float(low), high=float(high))


def _resampled(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Medians of resampled series: overlapping blocks drawn with replacement."""
    blocks = np.lib.stride_tricks.sliding_window_view(values, _BLOCK_S)
    chosen = rng.integers(0, len(blocks), size=(_RESAMPLES, len(values) // _BLOCK_S))
    medians: np.ndarray[tuple[int], np.dtype[np.float64]] = np.median(blocks[chosen].reshape(_RESAMPLES, -1), axis=1)
    return medians
