"""How many rounds a benchmark of an endpoint takes."""

from __future__ import annotations

from dbperf.stats.quantiles import samples_needed

DEFAULT_ROUNDS = 200
LONGEST_S = 60.0


def rounds_for(q: float, first_s: float) -> int:
    """200, fewer for a slow endpoint so that it ends within a minute, but never too few for quantile `q`.

    >>> rounds_for(0.95, 0.01), rounds_for(0.5, 5.0), rounds_for(0.95, 5.0)
    (200, 12, 73)
    """
    affordable = int(LONGEST_S / max(first_s, 1e-9))
    return max(min(DEFAULT_ROUNDS, affordable), samples_needed(q) + 1)
