"""What proved indexes do for the endpoints: the same load before and after, percentile by percentile."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from dbperf.records.load import EndpointLoad, Load, Quantile
from dbperf.records.proof import EffectVerdict, EndpointProof
from dbperf.stats.bootstrap import histogram_quantile_draws
from dbperf.stats.compare import Effect, log_ratio, verdict_of
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import quantile, samples_needed

TOLERANCE = 0.10
_P95 = 0.95
_ALPHA = 0.025
_SHOWN = (0.5, 0.95, 0.99)


def compare_loads(before: Load, after: Load) -> list[EndpointProof]:
    """Each endpoint of both loads; stages of a load are taken together.

    The two loads must ask for the same (suite, users, duration): the caller runs the second like the first.
    """
    first, second = _by_name(before), _by_name(after)
    return [_compared(name, first[name], second[name]) for name in first if name in second]


def _by_name(load: Load) -> dict[str, list[EndpointLoad]]:
    found: dict[str, list[EndpointLoad]] = {}
    for stage in load.stages:
        for endpoint in stage.endpoints:
            found.setdefault(endpoint.name, []).append(endpoint)
    return found


def _compared(name: str, before: list[EndpointLoad], after: list[EndpointLoad]) -> EndpointProof:
    a, b = _Merged(before), _Merged(after)
    effect = _effect(a, b)
    return EndpointProof(
        endpoint=name,
        requests_before=sum(e.requests for e in before),
        requests_after=sum(e.requests for e in after),
        quantiles_before=a.quantiles(),
        quantiles_after=b.quantiles(),
        p95_ratio=None if effect is None else math.exp(effect.estimate),
        p95_ratio_low=None if effect is None else math.exp(effect.low),
        p95_ratio_high=None if effect is None else math.exp(effect.high),
        verdict="cant_tell" if effect is None else _verdict(effect),
    )


class _Merged:
    """The samples of an endpoint over all stages, and how far they vary together."""

    def __init__(self, endpoints: Iterable[EndpointLoad]) -> None:
        self.latencies = Latencies()
        self.unfinished = 0
        self.design_effect = 1.0
        for e in endpoints:
            self.latencies.add(Latencies.decode(e.latency))
            self.unfinished += e.unfinished
            self.design_effect = max([self.design_effect, *(q.design_effect for q in e.quantiles)])

    def quantile(self, q: float) -> Quantile:
        return quantile(self.latencies, q, unfinished=self.unfinished, design_effect=self.design_effect)

    def quantiles(self) -> list[Quantile]:
        return [self.quantile(q) for q in _SHOWN]


def _effect(a: _Merged, b: _Merged) -> Effect | None:
    value_a, value_b = a.quantile(_P95).value_ms, b.quantile(_P95).value_ms
    enough = min(m.latencies.count / m.design_effect for m in (a, b)) >= samples_needed(_P95)
    if value_a is None or value_b is None or not enough:
        return None
    rng = np.random.default_rng(1)
    draws = [
        histogram_quantile_draws(m.latencies, _P95, rng, unfinished=m.unfinished, design_effect=m.design_effect)
        for m in (a, b)
    ]
    return log_ratio(draws[0], draws[1], value_a=value_a, value_b=value_b, rng=rng, rounding=0.001)


def _verdict(effect: Effect) -> EffectVerdict:
    return verdict_of(
        effect,
        tolerance=math.log1p(TOLERANCE),
        worse_is_up=True,
        shown_worse=effect.p_up < _ALPHA,
        shown_better=effect.p_down < _ALPHA,
    )
