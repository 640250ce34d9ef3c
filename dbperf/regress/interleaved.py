"""Verdicts on two sides measured in turns: the sequential test's effects, judged as in `dbperf compare`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np

from dbperf.records.comparison import Accepted, Comparison, MetricComparison, Side
from dbperf.records.interleaved import Interleaved, TurnsEndpoint, TurnsSide
from dbperf.regress.compare import overall, with_accepted
from dbperf.regress.judge import Question, Rules, decide, on_scale
from dbperf.regress.metrics import METRICS, Metric, service_of, tolerance_of
from dbperf.stats.compare import share_difference
from dbperf.stats.sequential import block_log_ratios, quads_per_block, sequential_effect, settled, start_error

LATENCIES = ("p50", "p95")
MOST_LOOKS = 5
"""Four planned ones, and one when the time is over: the error rates' share of the error budget at each."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    comparison: Comparison
    settled: frozenset[str]
    """Endpoints whose answers are clear: more samples are not worth their time."""


def judge(
    found: Interleaved, rules: Rules, *, accepted: Sequence[Accepted] = (), now: datetime | None = None
) -> Judged:
    """What changed from A to B, as far as it was measured.

    Args:
        found: measured so far; each endpoint's last look is now.
        rules: services, tolerances, chances.
        accepted: known exceptions.
        now: for these, which expire.
    """
    now = now or datetime.now(UTC)
    questions = [q for e in found.endpoints if e.missing is None and e.requests_a for q in _questions(e, rules)]
    judged = [_with_ratio(m, q) for m, q in zip(decide(questions, rules), questions, strict=True)]
    notes = [*found.notes]
    missing = []
    for e in found.endpoints:
        if e.missing == "both":
            notes.append(f"{e.name}: neither side has it")
        elif e.missing is not None:
            missing.append(_alone(e, f"only in {'A' if e.missing == 'B' else 'B'}"))
        elif not e.requests_a:
            missing.append(_alone(e, found.detail or "not measured: the run ended before its turn"))
        for side, first in (("A", e.first_error_a), ("B", e.first_error_b)):
            if first is not None:
                notes.append(f"{e.name}: {side}'s first error: {first}")
    metrics = with_accepted([*judged, *missing], accepted, now, notes)
    comparison = Comparison(
        verdict=overall(metrics), compared_at=now, a=_side(found.a, found), b=_side(found.b, found),
        family=sum(q.effect is not None and q.gate for q in questions), alpha=rules.alpha, metrics=metrics, notes=notes,
    )  # fmt: skip
    return Judged(comparison=comparison, settled=_settled(questions, judged))


def _settled(questions: Sequence[Question], judged: Sequence[MetricComparison]) -> frozenset[str]:
    open_: set[str] = set()
    closed: set[str] = set()
    for q, m in zip(questions, judged, strict=True):
        if q.kind == "errors":
            if m.verdict == "worse":
                closed.add(q.subject)  # nobody needs the latency of what fails
        elif q.gate and (m.verdict == "not_comparable" or not settled(q.effect, m.verdict, tolerance=_tolerance(q))):
            open_.add(q.subject)
    return frozenset({q.subject for q in questions} - (open_ - closed))


def _tolerance(q: Question) -> float:
    return on_scale(q) if q.effect is not None else 0.0


def _questions(e: TurnsEndpoint, rules: Rules) -> list[Question]:
    found = []
    for name in (*LATENCIES, "errors"):
        metric = METRICS[name]
        service = service_of(e.name, rules.services)
        tolerance, gate = tolerance_of(metric, "samples", service, rules.overrides)
        question = Question(
            name=f"{e.name} {name}", subject=e.name, stage=None, metric=name, kind=metric.kind, unit=metric.unit,
            direction=metric.direction, service=service.name if service else None, tolerance=tolerance, gate=gate,
            evidence="samples", a=None, b=None, on_log_scale=metric.unit != "share",
        )  # fmt: skip
        found.append(_errors(question, e) if name == "errors" else _latency(question, metric, e, rules))
    return found


def _latency(question: Question, metric: Metric, e: TurnsEndpoint, rules: Rules) -> Question:
    assert metric.q is not None
    quads = e.looks[-1] if e.looks else 0
    a, b = np.array(e.a_ms[:quads]), np.array(e.b_ms[:quads])
    if not quads:
        return replace(question, a=None, b=None, reason="no turns were completed without errors")
    size = quads_per_block(metric.q, e.run)
    looks = [n // size for n in e.looks]
    effect = sequential_effect(
        block_log_ratios(a, b, metric.q, e.run),
        looks,
        max(1, e.quads_planned // size),
        ended=e.took_rest,
        start_errors=[start_error(n, rules.run_to_run) for n in e.starts],
    )
    per_block = size * 2 * e.run
    reason = None
    if effect is None:
        reason = f"{looks[-1]} blocks of {per_block} samples a side are too few for an interval"
    return replace(
        question, a=float(np.quantile(a, metric.q)), b=float(np.quantile(b, metric.q)), effect=effect, reason=reason,
        weakness=None if reason else f"{looks[-1]} blocks of {per_block} samples a side in turns",
    )  # fmt: skip


def _errors(question: Question, e: TurnsEndpoint) -> Question:
    effect = share_difference(e.errors_a, e.requests_a, e.errors_b, e.requests_b)
    effect = replace(
        effect, p_up=min(1.0, effect.p_up * MOST_LOOKS), p_down=min(1.0, effect.p_down * MOST_LOOKS)
    )  # fmt: skip
    return replace(question, a=e.errors_a / e.requests_a, b=e.errors_b / e.requests_b, effect=effect)


def _with_ratio(m: MetricComparison, q: Question) -> MetricComparison:
    """The ratio that the blocks give, beside its interval: drift is out of it, which the percentiles of all times
    still hold."""
    if q.effect is None or not q.on_log_scale:
        return m
    return msgspec.structs.replace(m, ratio=math.exp(q.effect.estimate))


def _alone(e: TurnsEndpoint, reason: str) -> MetricComparison:
    return MetricComparison(
        name=f"{e.name} p95", subject=e.name, metric="p95", kind="latency", unit="ms", direction="lower",
        a=None, b=None, tolerance="–", evidence="samples", verdict="not_comparable", gate=False, reason=reason,
    )  # fmt: skip


def _side(side: TurnsSide, found: Interleaved) -> Side:
    return Side(
        source=side.what, kind="interleaved", provenance="measured", git_revision=side.git_revision,
        measured_at=found.started_at,
    )  # fmt: skip
