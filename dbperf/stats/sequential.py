"""Two sides measured in turns, looked at several times: verdicts whose error budget holds however early one stops.

**Turns.** A quad is four runs of requests, A B B A or B A A B by the toss of a coin (`toss`), so that drift cancels
inside it (up to its slope) and so that, if the two sides do not differ, exchanging their names in a quad would have
been just as likely: whatever the noise is (skewed, autocorrelated, bimodal, spiked), a quad's log ratio is then as
likely to be +d as -d. That symmetry is made by the coin, not assumed (R. A. Fisher, The Design of Experiments, 1935,
chapter 3), and every probability here rests on nothing else.

**Blocks.** As many quads as a percentile needs are joined (`quads_per_block`: 20 samples a side for P95), and a block
counts with the logarithm of B's percentile over A's (`block_log_ratios`).

**One look.** The sign-flip test over ranks of the blocks: Wilcoxon's signed-rank test with its exact distribution
(F. Wilcoxon, Biometrics Bulletin 1, 1945), which a few wild blocks do not move. Its inversion gives the ratio and the
interval: Hodges and Lehmann's estimate from the Walsh averages (M. Hollander, D. A. Wolfe and E. Chicken,
Nonparametric Statistical Methods, 3rd edition, 2014, sections 3.2 and 3.3).

**Several looks.** The error budget alpha is spent as alpha t^2, t being the share of the planned blocks (the power
family of K. Kim and D. L. DeMets, Biometrika 74, 1987, after K. K. G. Lan and DeMets, Biometrika 70, 1983). A look
may use what was spent since the one before (`look_weights`), so by Boole's inequality the sum over the looks is at
most alpha, without any assumption on how they depend on each other. When time runs out, the last look spends the
rest: the duration of a run is that of both sides together and does not tell them apart. Dividing each look's
probability by its weight gives a sequential p-value (A. Liu and K. M. Anderson, JASA 103, 2008), fit for Holm's
correction over a family of endpoints; intervals at each look's share are repeated confidence intervals (C. Jennison
and B. W. Turnbull, JRSS B 51, 1989), valid whenever one stops.

**Processes.** Two processes of the same program differ by some per cent for their whole life (where their memory lies),
which no number of requests shows. Both sides are therefore started anew several times, and what is left of that
difference after so many starts widens each look's interval and its probabilities, as an independent normal error of
known size (`start_error`).

**To calibrate:** `rehearse` plays the whole procedure on simulated times, with no server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dbperf.stats.bootstrap import holm
from dbperf.stats.compare import Effect, Verdict, verdict_of
from dbperf.stats.distributions import normal_quantile

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
ALPHA = 0.01
"""The chance of any false alarm in a family."""
SPENDING_POWER = 2.0
QUANTILES = (0.5, 0.95)
BETWEEN_STARTS = 0.02
"""Standard deviation of a percentile's logarithm from one process of the same code to the next."""
LEAST_BLOCKS = 10
"""With fewer a look has no interval: the chance of equal signs alone is 2^-n."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured at most, and when one looks."""

    run: int = 5
    """Requests in a row to one side; a quad has two such runs of each."""
    quads: int = 120
    """Of each endpoint, at most: 1,200 samples a side with runs of 5."""
    looks: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of the quads after which one looks."""
    starts_per_look: int = 2
    """How often both sides are started anew between two looks."""

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip((0.0, *self.looks), self.looks, strict=False))
        if (
            min(self.run, self.quads, self.starts_per_look) < 1
            or not self.looks
            or self.looks[-1] != 1.0
            or not ascending
        ):
            raise ValueError("a plan needs runs, quads, and looks that ascend to 1")

    @classmethod
    def of(cls, samples: int) -> Plan:
        """The default plan with so many samples a side at most; looks that could tell nothing are left out.

        >>> Plan.of(1200) == Plan(), Plan.of(400).looks
        (True, (0.5, 0.75, 1.0))
        """
        default = cls()
        quads = max(1, samples // (2 * default.run))
        size = quads_per_block(max(QUANTILES), default.run)
        looks = tuple(x for x in default.looks if x == 1.0 or quads * x / size >= LEAST_BLOCKS)
        return cls(quads=quads, looks=looks)

    def quads_at(self, look: int) -> int:
        """How many quads of an endpoint are complete at look number `look`, from 0."""
        return max(1, round(self.quads * self.looks[look]))


def toss(rng: np.random.Generator, quads: int) -> npt.NDArray[np.bool_]:
    """For each quad whether A begins (A B B A) or B does (B A A B)."""
    return np.asarray(rng.random(quads) < 0.5)


def quads_per_block(q: float, run: int) -> int:
    """How many quads a block of quantile `q` takes so that a side's samples reach beyond the quantile: 1 / (1 - q).

    >>> quads_per_block(0.5, 5), quads_per_block(0.95, 5), quads_per_block(0.95, 2)
    (1, 2, 5)
    """
    return max(1, math.ceil(1 / ((1 - q) * 2 * run) - 1e-9))


def block_log_ratios(a: npt.ArrayLike, b: npt.ArrayLike, q: float, run: int) -> Floats:
    """For each block the logarithm of B's quantile over A's; quads that fill no block are left out.

    Args:
        a, b: positive times, shape (..., quads, 2 * run), equal on both sides.
        q: 0..1.
        run: see `Plan`.

    Returns:
        Shape (..., blocks).
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    joined = quads_per_block(q, run)
    blocks = x.shape[-2] // joined
    shape = (*x.shape[:-2], blocks, joined * x.shape[-1])
    of_a, of_b = (np.quantile(s[..., : blocks * joined, :].reshape(shape), q, axis=-1) for s in (x, y))
    return np.asarray(np.log(of_b) - np.log(of_a))


def look_weights(blocks: Sequence[int], planned: int, *, ended: bool) -> list[float]:
    """Which share of the error budget each look may use: at most 1 together.

    Args:
        blocks: at each look so far, ascending.
        planned: at the plan's end.
        ended: whether the last of them is the last ever: it takes what is left.

    >>> look_weights([15, 30], 60, ended=False), look_weights([15, 30], 60, ended=True)
    ([0.0625, 0.1875], [0.0625, 0.9375])
    """
    spent = [min(1.0, n / planned) ** SPENDING_POWER for n in blocks]
    if ended and spent:
        spent[-1] = 1.0
    return [now - before for before, now in zip([0.0, *spent], spent, strict=False)]


def start_error(starts: int, between: float = BETWEEN_STARTS) -> float:
    """The standard deviation of the log ratio that is left when both sides were started so often, and asked equally
    much after each start.

    >>> round(start_error(8), 4)
    0.01
    """
    return math.sqrt(2 / starts) * between


def sequential_effect(
    log_ratios: npt.ArrayLike,
    looks: Sequence[int],
    planned: int,
    *,
    ended: bool,
    start_errors: Sequence[float] | None = None,
    confidence: float = CONFIDENCE,
) -> Effect | None:
    """What one series of blocks shows after the looks so far, on the log scale.

    Args:
        log_ratios: shape (blocks,), in the order in which they were measured.
        looks: at how many blocks one looked, ascending; the last is now.
        planned, ended: see `look_weights`.
        start_errors: at each look, see `start_error`; none by default.
        confidence: of the interval, over all looks together.

    Returns:
        The estimate, its repeated interval at the last look, and sequential p-values (one-sided, for an increase and
        a decrease); None while there are too few blocks for any interval.
    """
    d = np.asarray(log_ratios, dtype=np.float64)
    if not looks:
        return None
    up = down = 1.0
    weights = look_weights(looks, planned, ended=ended)
    errors = start_errors or [0.0] * len(looks)
    for n, weight, error in zip(looks, weights, errors, strict=True):
        if n < 1 or weight <= 0:
            continue
        p_up, p_down = _with_error(*signed_rank(d[:n]), d[:n], error)
        up, down = min(up, p_up / weight), min(down, p_down / weight)
    tail = (1 - confidence) / 2 * weights[-1]
    found = hodges_lehmann(d[: looks[-1]], tail=tail)
    if found is None:
        return None
    estimate, low, high = found
    reach = -normal_quantile(tail) * errors[-1]
    return Effect(
        estimate=estimate, low=estimate - math.hypot(estimate - low, reach),
        high=estimate + math.hypot(high - estimate, reach), p_up=up, p_down=down,
    )  # fmt: skip


def _with_error(p_up: float, p_down: float, differences: Floats, error: float) -> tuple[float, float]:
    """The probabilities with an independent normal error: the smaller one as the tail of a normal estimate, whose
    standard deviation follows from it, and which the error widens."""
    p = min(p_up, p_down)
    if error == 0 or p >= 0.5:
        return p_up, p_down
    i, j = np.triu_indices(differences.size)
    estimate = abs(float(np.median((differences[i] + differences[j]) / 2)))
    sd = -estimate / normal_quantile(p)
    z = estimate / math.hypot(sd, error)
    widened = 0.5 * math.erfc(z / math.sqrt(2))
    return (widened, 1 - widened) if p_up < p_down else (1 - widened, widened)


def family_verdicts(
    effects: Sequence[Effect | None], *, tolerance: float = math.log(1.1), alpha: float = ALPHA
) -> list[Verdict]:
    """The verdicts of a family in which an increase is for the worse, Holm-corrected; see `compare.verdict_of`.

    Args:
        effects: on the log scale; None: too few blocks.
        tolerance: on the same scale.
        alpha: the chance of any false "worse" in the family, and likewise of any false "better".
    """
    worse = holm([e.p_up if e else 1.0 for e in effects], alpha)
    better = holm([e.p_down if e else 1.0 for e in effects], alpha)
    return [
        verdict_of(e, tolerance=tolerance, worse_is_up=True, shown_worse=w, shown_better=g) if e else "cant_tell"
        for e, w, g in zip(effects, worse, better, strict=True)
    ]


def settled(effect: Effect | None, verdict: Verdict, *, tolerance: float) -> bool:
    """Whether more samples are not worth their time.

    A change that is shown and whose estimate lies within the tolerance is measured on: what can't be ruled out with few
    samples often can with more, and a slowdown of 5 % is no regression where 10 % are allowed.

    >>> small = Effect(estimate=0.05, low=0.01, high=0.12, p_up=0.0001, p_down=1)
    >>> settled(small, "worse", tolerance=0.1), settled(small, "worse", tolerance=0.04)
    (False, True)
    """
    if effect is None or verdict == "cant_tell":
        return False
    return verdict == "unchanged" or abs(effect.estimate) >= tolerance


def signed_rank(differences: npt.ArrayLike) -> tuple[float, float]:
    """P(at least so many ranks up) and P(at least so many down) if each sign were a coin's: Wilcoxon's exact test.

    Differences of 0 tell nothing and are left out; ties share their ranks and the distribution is theirs.

    >>> signed_rank([0.3, 0.1, 0.2, 0.4])
    (0.0625, 1.0)
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if not d.size:
        return 1.0, 1.0
    _, inverse, counts = np.unique(np.abs(d), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    doubled = (2 * last - counts + 1)[inverse]  # twice the mean rank of a tie: a whole number
    below = _distribution(tuple(int(x) for x in np.sort(doubled)))
    up, total = int(doubled[d > 0].sum()), int(doubled.sum())
    return float(below[total - up]), float(below[up])


def hodges_lehmann(differences: npt.ArrayLike, *, tail: float) -> tuple[float, float, float] | None:
    """The centre of symmetry of the differences and its interval, which leaves at most `tail` out on each side.

    None where not even the extremes leave so little out: 2^-n > tail.

    >>> hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0], tail=0.04)
    (3.0, 1.0, 5.0)
    """
    d = np.asarray(differences, dtype=np.float64)
    n = d.size
    if n < 1:
        return None
    below = _distribution(tuple(range(2, 2 * n + 1, 2)))[::2]
    rank = int(np.searchsorted(below, tail, side="right"))  # P(W <= rank - 1) <= tail
    if rank < 1:
        return None
    i, j = np.triu_indices(n)
    walsh = np.sort((d[i] + d[j]) / 2)
    return float(np.median(walsh)), float(walsh[rank - 1]), float(walsh[walsh.size - rank])


@lru_cache(maxsize=256)
def _distribution(doubled_ranks: tuple[int, ...]) -> Floats:
    """P(W <= w) for w from 0, W being the sum of those (doubled) ranks whose coin shows heads."""
    ways = np.ones(1)
    for rank in doubled_ranks:
        more = np.zeros(ways.size + rank)
        more[: ways.size] += ways
        more[rank:] += ways
        ways = more / 2
    return np.minimum(np.cumsum(ways), 1.0)


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """How one simulated run of the procedure ended."""

    verdicts: tuple[Verdict, ...]
    """One per quantile."""
    effects: tuple[Effect | None, ...]
    samples: int
    """Of each side, when it stopped."""
    looks: int

    @property
    def verdict(self) -> Verdict:
        """The gate's: worse if any is; else open if any is; else better if any is."""
        for one in ("worse", "cant_tell", "better"):
            if one in self.verdicts:
                return one
        return "unchanged"


def rehearse(
    noise: Callable[[np.random.Generator, int], npt.ArrayLike],
    rng: np.random.Generator,
    *,
    factor: float = 1.0,
    plan: Plan | None = None,
    quantiles: Sequence[float] = QUANTILES,
    tolerance: float = 0.10,
    alpha: float = ALPHA,
    family: int = 1,
    between_starts: float = 0.0,
) -> Rehearsal:
    """One endpoint measured in turns as `dbperf bench --against` does it, on simulated times.

    Args:
        noise: the machine: positive times of n requests in the order in which they are made, whoever is asked.
        rng: the source of randomness, of the noise and of the coin.
        factor: B's times are those of the machine times this: 1.12 is a slowdown of 12 %.
        plan: the default plan by default.
        quantiles: of which verdicts are given; one family.
        tolerance: relative.
        alpha: the chance of any false "worse".
        family: how many such endpoints share alpha (by Bonferroni here: the others are not simulated).
        between_starts: by how much simulated processes of the same code differ (standard deviation, log scale). The
            procedure allows for BETWEEN_STARTS whatever it is.
    """
    plan = plan or Plan()
    per_quad = 4 * plan.run
    times = np.asarray(noise(rng, plan.quads * per_quad), dtype=np.float64).reshape(plan.quads, 4, plan.run)
    a_first = toss(rng, plan.quads)[:, None]
    outer = times[:, (0, 3)].reshape(plan.quads, -1)
    inner = times[:, (1, 2)].reshape(plan.quads, -1)
    a, b = np.where(a_first, outer, inner), np.where(a_first, inner, outer) * factor
    if between_starts:
        starts = len(plan.looks) * plan.starts_per_look
        which = np.minimum(np.arange(plan.quads) * starts // plan.quads, starts - 1)
        b = b * np.exp(rng.normal(0, math.sqrt(2) * between_starts, starts))[which][:, None]
    errors = [start_error((k + 1) * plan.starts_per_look) for k in range(len(plan.looks))]
    series = [block_log_ratios(a, b, q, plan.run) for q in quantiles]
    verdicts: list[Verdict] = []
    effects: list[Effect | None] = []
    limit = math.log1p(tolerance)
    look = quads = 0
    for look in range(len(plan.looks)):
        quads = plan.quads_at(look)
        effects = []
        for q, d in zip(quantiles, series, strict=True):
            size = quads_per_block(q, plan.run)
            at = [plan.quads_at(k) // size for k in range(look + 1)]
            ended = look == len(plan.looks) - 1
            effects.append(
                sequential_effect(d[: at[-1]], at, plan.quads // size, ended=ended, start_errors=errors[: look + 1])
            )
        verdicts = family_verdicts(effects, tolerance=limit, alpha=alpha / family)
        if all(settled(e, v, tolerance=limit) for e, v in zip(effects, verdicts, strict=True)):
            break
    return Rehearsal(
        verdicts=tuple(verdicts), effects=tuple(effects), samples=quads * 2 * plan.run, looks=look + 1
    )  # fmt: skip
