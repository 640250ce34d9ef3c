"""What proved indexes do for the endpoints: the same load before and after, percentile by percentile."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import numpy as np

from dbperf.records.load import EndpointLoad, Load, Quantile
from dbperf.records.proof import EffectVerdict, EndpointProof
from dbperf.stats.bootstrap import histogram_quantile_draws
from dbperf.stats.compare import Effect, log_ratio, verdict_of
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import quantile, samples_needed

TOLERANCE = 0.10
_P50, _P95 = 0.5, 0.95
_ALPHA = 0.025 / 2
"""One-sided, for each of two percentiles: together they speak by chance as often as one would (Bonferroni)."""
_SHOWN = (0.5, 0.95, 0.99)
FAILED_MOST = 0.1
"""Share of errors. Latency is that of requests that succeeded: where more fail, that is another load."""


def measured_s(load: Load) -> float:
    """How long requests of a load were measured, all stages together."""
    return sum((s.ended_at - s.started_at).total_seconds() for s in load.stages)


def compare_loads(before: Load, after: Load, slowdowns: Collection[float] = ()) -> list[EndpointProof]:
    """Each endpoint of both loads; stages of a load are taken together.

    The two loads must ask for the same (suite, users): the caller runs the second like the first. It may be shorter,
    and its intervals are then wider.

    Args:
        slowdowns: how much slower the machine itself may have been in the second load. Ratios are told as measured; a
            verdict counts only where it is the same whether or not the first load had been slower by that much.
    """
    first, second = _by_name(before), _by_name(after)
    return [_compared(name, first[name], second[name], slowdowns) for name in first if name in second]


def _by_name(load: Load) -> dict[str, list[EndpointLoad]]:
    found: dict[str, list[EndpointLoad]] = {}
    for stage in load.stages:
        for endpoint in stage.endpoints:
            found.setdefault(endpoint.name, []).append(endpoint)
    return found


def _compared(
    name: str, before: list[EndpointLoad], after: list[EndpointLoad], slowdowns: Collection[float]
) -> EndpointProof:
    a, b = _Merged(before), _Merged(after)
    alike = max(a.failed, b.failed) <= FAILED_MOST
    p50, p95 = (_effect(a, b, _P50), _effect(a, b, _P95)) if alike else (None, None)
    middle, high = _ratios(p50), _ratios(p95)
    verdict, judged_q = _together({_P95: p95, _P50: p50})
    if alike and any(
        _together({q: _effect(a, b, q, slower) for q in (_P95, _P50)})[0] != verdict for slower in slowdowns
    ):
        verdict = "cant_tell"
    return EndpointProof(
        endpoint=name,
        requests_before=sum(e.requests for e in before),
        requests_after=sum(e.requests for e in after),
        errors_before=sum(e.errors for e in before),
        errors_after=sum(e.errors for e in after),
        quantiles_before=a.quantiles(),
        quantiles_after=b.quantiles(),
        p50_ratio=middle[0],
        p50_ratio_low=middle[1],
        p50_ratio_high=middle[2],
        p95_ratio=high[0],
        p95_ratio_low=high[1],
        p95_ratio_high=high[2],
        verdict=verdict,
        judged_q=judged_q,
    )


def _ratios(effect: Effect | None) -> tuple[float | None, float | None, float | None]:
    if effect is None:
        return None, None, None
    return math.exp(effect.estimate), math.exp(effect.low), math.exp(effect.high)


class _Merged:
    """The samples of an endpoint over all stages, and how far they vary together."""

    def __init__(self, endpoints: Iterable[EndpointLoad]) -> None:
        self.latencies = Latencies()
        self.unfinished = 0
        self.design_effect = 1.0
        requests = errors = 0
        for e in endpoints:
            requests, errors = requests + e.requests, errors + e.errors
            self.latencies.add(Latencies.decode(e.latency))
            self.unfinished += e.unfinished
            self.design_effect = max([self.design_effect, *(q.design_effect for q in e.quantiles)])
        self.failed = errors / requests if requests else 0.0

    def quantile(self, q: float) -> Quantile:
        return quantile(self.latencies, q, unfinished=self.unfinished, design_effect=self.design_effect)

    def quantiles(self) -> list[Quantile]:
        return [self.quantile(q) for q in _SHOWN]


def _effect(a: _Merged, b: _Merged, q: float, slower: float = 1.0) -> Effect | None:
    """The change of a percentile; as if all of `a` had taken so many times as long."""
    value_a, value_b = a.quantile(q).value_ms, b.quantile(q).value_ms
    enough = min(m.latencies.count / m.design_effect for m in (a, b)) >= samples_needed(q)
    if value_a is None or value_b is None or not enough:
        return None
    rng = np.random.default_rng(1)
    draws = [
        histogram_quantile_draws(m.latencies, q, rng, unfinished=m.unfinished, design_effect=m.design_effect)
        for m in (a, b)
    ]
    return log_ratio(draws[0] * slower, draws[1], value_a=value_a * slower, value_b=value_b, rng=rng, rounding=0.001)


def _together(effects: dict[float, Effect | None]) -> tuple[EffectVerdict, float | None]:
    """One verdict of several percentiles, and the one that decides it; the first where none stands out.

    An index may halve what most requests take and leave the slowest alone, which wait for something else: by P95 alone
    nobody could tell. What got slower anywhere is no gain.
    """
    verdicts = {q: _verdict(e) for q, e in effects.items() if e is not None}
    for wanted in ("worse", "better"):
        for q, verdict in verdicts.items():
            if verdict == wanted:
                return verdict, q
    if not verdicts:
        return "cant_tell", None
    return ("unchanged" if set(verdicts.values()) == {"unchanged"} else "cant_tell"), next(iter(verdicts))


def _verdict(effect: Effect) -> EffectVerdict:
    return verdict_of(
        effect,
        tolerance=math.log1p(TOLERANCE),
        worse_is_up=True,
        shown_worse=effect.p_up < _ALPHA,
        shown_better=effect.p_down < _ALPHA,
    )
