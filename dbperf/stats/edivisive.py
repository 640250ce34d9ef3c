"""Steps in a series of figures: E-divisive with a permutation test.

D. S. Matteson and N. A. James, "A nonparametric approach for multiple change point analysis of multivariate data",
Journal of the American Statistical Association 109, 2014: the split that separates the values before it most from
those behind it, by the energy distance (G. J. Székely and M. L. Rizzo, 2005; alpha = 1), is a step where a split as
good is rare among permutations of the same values; both sides are then searched in the same way. As in D. Daly et al.,
"The use of change point detection to identify software performance regressions in a continuous integration system"
(ICPE 2020), a segment is searched to its end, and each segment has its test.

What runs of a program do to such a test, and what is done about it:

- A single spike pulls the split towards itself: values beyond three (scaled) median absolute deviations of the
  segment's median count as that much (J. W. Tukey's winsorizing). A level that lasts is a step all the same.
- Neighbours that resemble each other look like steps, and permutations destroy the resemblance. Where the values
  around the two levels are correlated, the series is whitened first, x[t] - rho x[t-1] (H. von Storch, 1995), which
  leaves a step a step. rho is corrected for its bias (F. H. C. Marriott and J. A. Pope, Biometrika 41, 1954) and taken
  somewhat too large on purpose: too small a rho is a false alarm, too large a one costs power.
- A step that is real and too small to matter is dropped (`least_change`), and its neighbours judged without it.

False alarms and power are measured, see docs/statistics.md.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scale = Literal["ratio", "difference"]

ALPHA = 0.005
"""The chance of a false step in a segment."""
PERMUTATIONS = 399
LEAST_POINTS = 5
"""Points on either side of a step: fewer may be a spell."""
LEVELS = 32
"""Winsorized values are rounded to so many levels, a fifth of a standard deviation apart or less: the sums of
distances then cost `LEVELS` steps per value instead of one per pair."""
_CUT = 3.0
_SAFETY = 0.8
"""Standard errors that are added to rho."""
_CELLS = 2_000_000
"""Counters in memory at a time: 8 MB."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A level that changed."""

    at: int
    """The first point of the new level."""
    earliest: int
    latest: int
    """The same with its uncertainty: with 95 % the new level began at one of these points."""
    before: float
    after: float
    """Medians of the points up to the neighbouring steps."""
    p_value: float
    """Share of permutations that split as well: 1 / (1 + permutations) at the least."""

    @property
    def ratio(self) -> float:
        """After over before; infinite where before is 0."""
        return self.after / self.before if self.before else math.inf


def find_steps(
    values: npt.ArrayLike, *, scale: Scale = "ratio", least_change: float = 0.05, least_points: int = LEAST_POINTS,
    alpha: float = ALPHA, permutations: int = PERMUTATIONS, seed: int = 1,
) -> list[Step]:  # fmt: skip
    """The steps of a series, first to last.

    Args:
        values: in the order of time, finite; positive where the scale is "ratio".
        scale: whether a change counts as a ratio (latencies, rates) or as a difference (shares).
        least_change: steps below it are dropped: 0.05 is 5 % up or down, or a difference in the values' unit.
        least_points: points on either side of a step, at least 2.
        alpha: chance of a false step in a segment; not below 1 / (1 + permutations).
        permutations: of each test; a test ends early where it can't succeed any more.
        seed: the same series gives the same steps.

    Raises:
        ValueError: a value is not finite, or not positive on the ratio scale; or alpha asks for more permutations.
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all() or (scale == "ratio" and (x <= 0).any()):
        raise ValueError("a series must be finite, and positive where its changes are ratios")
    if alpha * (permutations + 1) < 1 or least_points < 2:
        raise ValueError("alpha needs more permutations, or a segment more points")
    y = np.log(x) if scale == "ratio" else x
    rng = np.random.default_rng(seed)
    found: dict[int, float] = {}
    segments = [(0, len(y))]
    while segments:
        start, end = segments.pop()
        split = _best_split(y[start:end], rng, least_points, alpha, permutations)
        if split is not None:
            at, p = split
            found[start + at] = p
            segments += [(start, start + at), (start + at, end)]
    kept = _large_enough(y, sorted(found), math.log1p(least_change) if scale == "ratio" else least_change)
    bounds = [0, *kept, len(y)]
    steps = []
    for i, at in enumerate(kept):
        before, after = bounds[i], bounds[i + 2]
        earliest, latest = _when(y[before:after], at - before)
        steps.append(
            Step(
                at=at,
                earliest=before + earliest,
                latest=before + latest,
                before=float(np.median(x[before:at])),
                after=float(np.median(x[at:after])),
                p_value=found[at],
            )
        )
    return steps


def split_energies(levels: Ints) -> Floats:
    """How well each split separates what is before it from what is behind it.

    Q = n m / (n + m) (2 E|X - Y| - E|X - X'| - E|Y - Y'|), the paper's equation 6, with the n values before the split
    as X and the m behind it as Y. Distances are counted over the gaps between levels: |x - y| is the number of gaps
    between the two, so that sums over pairs become sums over gaps of counts.

    Args:
        levels: (series, points), whole numbers from 0; each row holds the same values in another order.

    Returns:
        (series, points - 1): place k is the split behind k + 1 points.
    """
    series, points = levels.shape
    gaps = max(int(levels.max()), 1)
    up_to = np.cumsum(np.bincount(levels[0], minlength=gaps + 1))[:-1].astype(np.float64)  # values below each gap
    tails = np.append(np.cumsum(up_to[::-1])[::-1], 0.0)
    # C(t, k): how many of the first t values lie below gap k. Its sum over k, with weights and squared:
    c = np.cumsum(gaps - levels, axis=1)[:, :-1]
    weighted = np.cumsum(tails[levels], axis=1)[:, :-1]
    squared = np.empty((series, points - 1))
    rows = max(1, _CELLS // (points * gaps))
    for first in range(0, series, rows):
        below = levels[first : first + rows, :-1, None] <= np.arange(gaps)
        counts = np.cumsum(below, axis=1, dtype=np.float32)  # exact below 2^24
        squared[first : first + rows] = np.einsum("rtk,rtk->rt", counts, counts)
    n = np.arange(1, points, dtype=np.float64)
    m = points - n
    total = points * up_to.sum() - (up_to**2).sum()
    inside_x = n * c - squared
    inside_y = m * (up_to.sum() - c) - ((up_to**2).sum() - 2 * weighted + squared)
    between = total - inside_x - inside_y
    pairs_x, pairs_y = np.maximum(n * (n - 1) / 2, 1), np.maximum(m * (m - 1) / 2, 1)
    distance = 2 * between / (n * m) - inside_x / pairs_x - inside_y / pairs_y
    return np.asarray(n * m / points * distance)


def _best_split(
    y: Floats, rng: np.random.Generator, least: int, alpha: float, permutations: int
) -> tuple[int, float] | None:
    """The first point behind the best split and its probability, where that is at most alpha."""
    if len(y) < 2 * least + 1 or np.ptp(y) == 0:
        return None
    levels = _levels(_winsorized(y))
    at, _ = _top(split_energies(levels[None]), least)
    rho = _cautious_correlation(_winsorized(y), int(at[0]))
    lag = 1 if rho > 0 else 0
    if lag:
        levels = _levels(_winsorized(y[1:] - rho * y[:-1]))
        at, _ = _top(split_energies(levels[None]), least)
    observed = _top(split_energies(levels[None]), least)[1][0]
    allowed = math.floor(alpha * (permutations + 1) + 1e-9) - 1
    as_good = done = 0
    size = 20
    while done < permutations:
        size = min(size, permutations - done)
        shuffled = rng.permuted(np.broadcast_to(levels, (size, len(levels))), axis=1)
        energies = _top(split_energies(shuffled), least)[1]
        as_good += int((energies >= observed * (1 - 1e-9)).sum())
        if as_good > allowed:  # J. Besag and P. Clifford, Biometrika 78, 1991: no need to go on
            return None
        done += size
        size *= 4
    return int(at[0]) + lag, (as_good + 1) / (permutations + 1)


def _top(energies: Floats, least: int) -> tuple[Ints, Floats]:
    """Of each row: the number of points before the best split, and its energy."""
    allowed = energies[:, least - 1 : energies.shape[1] + 1 - least]
    return least + np.argmax(allowed, axis=1), allowed.max(axis=1)


def _winsorized(y: Floats) -> Floats:
    middle = np.median(y)
    spread = 1.4826 * float(np.median(np.abs(y - middle))) or float(np.abs(y - middle).mean())
    return np.clip(y, middle - _CUT * spread, middle + _CUT * spread)


def _levels(y: Floats) -> Ints:
    width = float(np.ptp(y))
    if width == 0:
        return np.zeros(len(y), dtype=np.int64)
    return np.asarray(np.rint((y - y.min()) / width * (LEVELS - 1)), dtype=np.int64)


def _correlation(y: Floats, at: int) -> tuple[float, float]:
    """Correlation of neighbours around the levels of both sides of a split, corrected for its bias, and its error."""
    r = np.concatenate([y[:at] - y[:at].mean(), y[at:] - y[at:].mean()])
    power = float(r @ r)
    rho = float(r[1:] @ r[:-1]) / power if power > 0 else 0.0
    rho = min(max(rho + (2 + 4 * rho) / len(y), -0.99), 0.99)
    return rho, math.sqrt((1 - rho**2) / len(y))


def _cautious_correlation(y: Floats, at: int) -> float:
    """The correlation to whiten with; 0 where there is none to speak of."""
    rho, error = _correlation(y, at)
    if rho <= error:
        return 0.0
    # Further steps on either side look like correlation, and would be whitened away. Differences of neighbours hardly
    # see them: with lag 2 they vary 1 + rho times as much as with lag 1.
    near, far = (_winsorized(y[lag:] - y[:-lag]) for lag in (1, 2))
    if (power := float(near @ near) / len(near)) > 0:
        rho = min(rho + _SAFETY * error, float(far @ far) / len(far) / power - 1 + 3 / math.sqrt(len(y)))
    return min(max(rho, 0.0), 0.95)


def _large_enough(y: Floats, steps: list[int], least: float) -> list[int]:
    """The steps without those whose levels differ by less; the smallest goes first, as its neighbours' levels grow."""
    kept = list(steps)
    while kept:
        bounds = [0, *kept, len(y)]
        levels = [np.median(y[a:b]) for a, b in itertools.pairwise(bounds)]
        changes = np.abs(np.diff(levels))
        smallest = int(np.argmin(changes))
        if changes[smallest] >= least - 1e-12:
            break
        del kept[smallest]
    return kept


def _when(y: Floats, at: int) -> tuple[int, int]:
    """The points between which a step lies with 95 %: the posterior of a step's place between two known levels with
    normal noise and no prior opinion (A. F. M. Smith, Biometrika 62, 1975), whose variance counts correlation."""
    before, after = float(np.median(y[:at])), float(np.median(y[at:]))
    r = _winsorized(np.concatenate([y[:at] - before, y[at:] - after]))
    rho, _ = _correlation(r, at)
    variance = float(r.var()) * (1 + max(rho, 0.0)) / (1 - max(rho, 0.0))
    if variance == 0:
        return at, at
    low, high = sorted((before, after))
    near = np.clip(y, low - _CUT * math.sqrt(variance), high + _CUT * math.sqrt(variance))
    # Log-likelihood of a step behind k points, k = 1 .. len - 1.
    gain = np.cumsum((near - after) ** 2 - (near - before) ** 2)[:-1] / (2 * variance)
    weights = np.exp(gain - gain.max())
    share = np.cumsum(weights) / weights.sum()
    first = int(np.searchsorted(share, 0.025)) + 1
    last = int(np.searchsorted(share, 0.975)) + 1
    return min(first, at), max(min(last, len(y) - 1), at)
