"""The ways to decide that are calibrated: each says for every slowdown whether it raises the alarm.

A slowdown by a factor multiplies B's times, so one pair of runs serves all factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pytest_benchmark.utils import PercentageRegressionCheck

from benchmarks.calibrate_models import Floats
from dbperf.records.comparison import Conditions, Measurement
from dbperf.records.load import Quantile
from dbperf.regress.judge import ALPHA, RUN_TO_RUN_SHARE, Rules, decide, examine
from dbperf.stats.bootstrap import block_length, holm, sample_quantile_draws
from dbperf.stats.compare import log_ratio, verdict_of
from dbperf.stats.distributions import t_quantile
from dbperf.stats.sequential import (
    QUANTILES,
    Plan,
    block_log_ratios,
    family_verdicts,
    quads_per_block,
    sequential_effect,
    settled,
)

TOLERANCE = math.log(1.1)


def interleaved(a: Floats, b: Floats, factors: Sequence[float], quantiles: Sequence[float] = QUANTILES) -> list[bool]:
    """The procedure of `dbperf bench --against` on recorded times.

    Args:
        a, b: shape (quads, 2 * run), as the default plan measures them.
        factors: of B's times.
        quantiles: the family.
    """
    plan = Plan()
    found = []
    for factor in factors:
        series = [block_log_ratios(a, b * factor, q, plan.run) for q in quantiles]
        verdicts: list[str] = []
        for look in range(len(plan.looks)):
            effects = []
            for q, d in zip(quantiles, series, strict=True):
                size = quads_per_block(q, plan.run)
                at = [plan.quads_at(k) // size for k in range(look + 1)]
                ended = look == len(plan.looks) - 1
                effects.append(sequential_effect(d[: at[-1]], at, plan.quads // size, ended=ended))
            judged = family_verdicts(effects, tolerance=TOLERANCE)
            verdicts = list(judged)
            if all(settled(e, v, tolerance=TOLERANCE) for e, v in zip(effects, judged, strict=True)):
                break
        found.append("worse" in verdicts)
    return found


def stored(a: Floats, b: Floats, factors: Sequence[float], rng: np.random.Generator) -> list[bool]:
    """`dbperf compare` with samples on both sides: what `regress.judge` does with P50 and P95 of one endpoint."""
    extra = math.sqrt(2) * RUN_TO_RUN_SHARE
    of_q = []
    for q in QUANTILES:
        draws = [sample_quantile_draws(x, q, rng, block=block_length(x)) for x in (a, b)]
        of_q.append((draws, [_quantile(x, q) for x in (a, b)]))
    found = []
    for factor in factors:
        effects = [
            log_ratio(d[0], d[1] * factor, value_a=v[0], value_b=v[1] * factor, rng=rng, extra_sd=extra)
            for d, v in of_q
        ]
        worse, better = (holm([p(e) for e in effects], ALPHA) for p in (lambda e: e.p_up, lambda e: e.p_down))
        found.append(
            any(
                verdict_of(e, tolerance=TOLERANCE, worse_is_up=True, shown_worse=w, shown_better=g) == "worse"
                for e, w, g in zip(effects, worse, better, strict=True)
            )
        )
    return found


def summaries(a: Floats, b: Floats, factors: Sequence[float]) -> list[bool]:
    """`dbperf compare` where only percentiles are known, as in Locust's CSV."""

    def measured(x: Floats) -> Measurement:
        quantiles = [Quantile(q=q, value_ms=_quantile(x, q)) for q in QUANTILES]
        return Measurement(subject="x", conditions=Conditions(), quantiles=quantiles)

    rules = Rules(services=[], overrides={})
    return [
        any(
            m.verdict == "worse"
            for m in decide(examine(measured(a), measured(b * f), label="x", service=None, rules=rules), rules)
        )
        for f in factors
    ]


def pytest_benchmark_fails(a: Floats, b: Floats, factors: Sequence[float]) -> list[bool]:
    """pytest-benchmark's own --benchmark-compare-fail=median:10%, by its own code."""
    check = PercentageRegressionCheck("median", 10)
    return [
        check.fails({"median": float(np.median(b * f))}, {"median": float(np.median(a))}) is not None for f in factors
    ]


def t_test(a: Floats, b: Floats, factors: Sequence[float]) -> list[bool]:
    """Welch's t-test of the means, slower at p < 0.05 (two-sided)."""
    limit = t_quantile(0.975, len(a) + len(b) - 2)
    found = []
    for f in factors:
        error = math.sqrt(a.var(ddof=1) / len(a) + (b * f).var(ddof=1) / len(b))
        found.append(bool((b.mean() * f - a.mean()) / error > limit))
    return found


def _quantile(x: Floats, q: float) -> float:
    return float(np.sort(x)[max(math.ceil(q * len(x) - 1e-9), 1) - 1])
