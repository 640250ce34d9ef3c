"""Ratios and differences with intervals, and the chance of seeing so much of a change where there is none.

The rule that turns them into a verdict (`verdict_of`) joins a test and an equivalence test (D. J. Schuirmann,
J. Pharmacokinetics and Biopharmaceutics 15, 1987): a change is *worse* when a slowdown is shown and one as large as the
tolerance can't be ruled out; *unchanged* when everything the interval allows lies within the tolerance; else nobody
can tell. A slowdown that is real and small is thereby no regression, however precisely it was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dbperf.stats.bootstrap import Draws
from dbperf.stats.distributions import normal_quantile, wilson

CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "unchanged", "cant_tell"]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A change from A to B on a scale where 0 is no change: the logarithm of a ratio, or a difference."""

    estimate: float
    low: float
    high: float
    p_up: float
    """One-sided: probability of so large an increase if there were none."""
    p_down: float


def log_ratio(
    a: Draws, b: Draws, *, value_a: float, value_b: float, rng: np.random.Generator, extra_sd: float = 0.0,
    rounding: float = 0.0,
) -> Effect:  # fmt: skip
    """The logarithm of b / a from bootstrap draws of both.

    Args:
        a, b: draws; infinite ones are allowed in either.
        value_a, value_b: the percentiles themselves.
        rng: the source of randomness.
        extra_sd: standard deviation, on the log scale, of what varies between runs and not within them.
        rounding: relative rounding of the values in the source, which no sample size removes.
    """
    n = min(len(a), len(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.log(rng.permutation(b)[:n]) - np.log(rng.permutation(a)[:n])
        estimate = float(np.log(value_b) - np.log(value_a))
    draws = np.nan_to_num(draws, nan=0.0, posinf=np.inf, neginf=-np.inf)  # both never ended: no evidence either way
    if extra_sd:
        draws = draws + rng.normal(0.0, extra_sd, n)
    low, high = (float(x) for x in np.quantile(draws, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), method="nearest"))
    slack = math.log1p(rounding)
    return Effect(
        estimate=estimate,
        low=low - slack,
        high=high + slack,
        p_up=_share_below(draws, slack),
        p_down=_share_below(-draws, slack),
    )


def _share_below(draws: Draws, limit: float) -> float:
    """The share of draws at or below a limit; where there is none, the normal tail: a large family asks for
    probabilities that so many draws can't resolve."""
    n, below = len(draws), int((draws <= limit).sum())
    if below or not np.isfinite(draws).all() or draws.std() == 0:
        return (below + 1) / (n + 1)
    return min(1 / (n + 1), _tail((float(draws.mean()) - limit) / float(draws.std())))


def normal_effect(estimate: float, sd: float) -> Effect:
    """An effect whose estimate is normally distributed with a known standard deviation."""
    z = normal_quantile((1 + CONFIDENCE) / 2)
    up = _tail(estimate / sd) if sd > 0 else (0.0 if estimate > 0 else 1.0)
    return Effect(estimate=estimate, low=estimate - z * sd, high=estimate + z * sd, p_up=up, p_down=1 - up)


def rate_log_ratio(
    a: float, a_ci: tuple[float, float], b: float, b_ci: tuple[float, float], *, extra_sd: float = 0.0
) -> Effect:
    """The logarithm of the ratio of two rates, each with its 95 % interval (delta method)."""
    z = normal_quantile(0.975)
    variance = sum(((high - low) / (2 * z * value)) ** 2 for value, (low, high) in ((a, a_ci), (b, b_ci)))
    return normal_effect(math.log(b / a), math.sqrt(variance + extra_sd**2))


def share_difference(errors_a: int, n_a: int, errors_b: int, n_b: int) -> Effect:
    """The difference of two shares (B minus A).

    The interval is Newcombe's hybrid of two Wilson intervals (R. G. Newcombe, Statistics in Medicine 17, 1998, method
    10), sensible also at 0; the probabilities are those of Fisher's exact test, which holds for any counts.
    """
    a, b = errors_a / n_a, errors_b / n_b
    low_a, high_a = wilson(errors_a, n_a, CONFIDENCE)
    low_b, high_b = wilson(errors_b, n_b, CONFIDENCE)
    difference = b - a
    return Effect(
        estimate=difference,
        low=difference - math.sqrt((b - low_b) ** 2 + (high_a - a) ** 2),
        high=difference + math.sqrt((high_b - b) ** 2 + (a - low_a) ** 2),
        p_up=fisher_at_least(errors_b, n_b, errors_a, n_a),
        p_down=fisher_at_least(errors_a, n_a, errors_b, n_b),
    )


def fisher_at_least(errors_b: int, n_b: int, errors_a: int, n_a: int) -> float:
    """P(at least `errors_b` of the errors fall to B) if errors fell to requests at random: hypergeometric.

    >>> round(fisher_at_least(8, 10, 1, 6), 4)
    0.0245
    """
    errors = errors_a + errors_b
    most = min(errors, n_b)

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    total = log_choose(n_a + n_b, errors)
    k = np.arange(errors_b, most + 1)
    k = k[(errors - k) <= n_a]
    if not k.size:
        return 0.0
    logs = [log_choose(n_b, int(i)) + log_choose(n_a, errors - int(i)) - total for i in k]
    return min(1.0, math.fsum(math.exp(x) for x in logs))


def verdict_of(
    effect: Effect, *, tolerance: float, worse_is_up: bool, shown_worse: bool, shown_better: bool
) -> Verdict:
    """The verdict by the rule above.

    Args:
        effect: the change.
        tolerance: positive, on the effect's scale.
        worse_is_up: whether an increase is for the worse.
        shown_worse, shown_better: whether a change in that direction is shown, after correction for multiplicity.
    """
    within = -tolerance < effect.low and effect.high < tolerance
    if within:
        return "unchanged"
    toward_worse = effect.high if worse_is_up else -effect.low
    toward_better = -effect.low if worse_is_up else effect.high
    if shown_worse and toward_worse >= tolerance:
        return "worse"
    if shown_better and toward_better >= tolerance:
        return "better"
    return "cant_tell"


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))
