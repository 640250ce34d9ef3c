"""One metric of one endpoint on both sides: what changed, how sure that is, and whether it may fail a gate.

Two steps, because the chance of a false alarm is shared by the whole family: `examine` finds each effect, `decide`
turns all of them into verdicts at once (Holm's correction).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from dbperf.records.comparison import (
    CustomFigure,
    Direction,
    Evidence,
    Measurement,
    MetricComparison,
    MetricKind,
    MetricVerdict,
    Service,
    Tolerance,
    Unit,
)
from dbperf.regress.metrics import METRICS, Metric, custom_of, in_words, tolerance_of
from dbperf.stats.bootstrap import Draws, block_length, histogram_quantile_draws, holm, sample_quantile_draws
from dbperf.stats.compare import CONFIDENCE, Effect, log_ratio, rate_log_ratio, share_difference, verdict_of
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import samples_needed

ALPHA = 0.01
"""The chance of any false alarm in one comparison of two sides."""
RUN_TO_RUN_SHARE = 0.02
"""Standard deviation of a percentile from one run of the same code to the next that its own samples do not show
(caches, memory layout, the machine's mood). An assumption: `make calibrate` measures it on your machine."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A metric to be judged, with what is known of both sides."""

    name: str
    subject: str
    stage: str | None
    metric: str
    kind: MetricKind
    unit: Unit
    direction: Direction
    service: str | None
    tolerance: Tolerance
    gate: bool
    evidence: Evidence
    a: float | None
    b: float | None
    effect: Effect | None = None
    on_log_scale: bool = True
    reason: str | None = None
    """Why there is no effect."""
    weakness: str | None = None
    """What makes the evidence weaker than it looks."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a person set."""

    services: list[Service]
    overrides: dict[str, Tolerance]
    run_to_run: float = RUN_TO_RUN_SHARE
    alpha: float = ALPHA
    seed: int = 1


def examine(a: Measurement, b: Measurement, *, label: str, service: Service | None, rules: Rules) -> list[Question]:
    """The questions about one pair of comparable measurements."""
    questions = []
    for metric in METRICS.values():
        question = _question(metric, a, b, label=label, service=service, rules=rules)
        if question is not None:
            questions.append(question)
    ours = {c.name: c for c in a.custom}
    theirs = {c.name: c for c in b.custom}
    for name in dict.fromkeys([*ours, *theirs]):
        questions.append(_custom(ours.get(name), theirs.get(name), b, label=label, service=service, rules=rules))
    return questions


def decide(questions: Sequence[Question], rules: Rules) -> list[MetricComparison]:
    """The verdicts of a family of questions."""
    judged = [q for q in questions if q.effect is not None and q.gate]
    worse = holm([_p(q, worse=True) for q in judged], rules.alpha)
    better = holm([_p(q, worse=False) for q in judged], rules.alpha)
    shown = {id(q): (w, g) for q, w, g in zip(judged, worse, better, strict=True)}
    return [_decide(q, *shown.get(id(q), (None, None)), rules=rules) for q in questions]


def _question(
    metric: Metric, a: Measurement, b: Measurement, *, label: str, service: Service | None, rules: Rules
) -> Question | None:
    va, vb = _value(metric, a), _value(metric, b)
    both_samples = _has_samples(metric, a) and _has_samples(metric, b)
    if va is None and vb is None and not (metric.q is not None and both_samples):
        return None
    if (va is None) != (vb is None) and not both_samples and metric.kind == "latency":
        return None  # a source that does not tell this percentile; what both tell is compared
    if metric.kind == "throughput" and b.conditions.arrival_rate_per_s is not None:
        return None  # set by the load, not by the target
    evidence: Evidence = "samples" if both_samples else "summary"
    tolerance, gate = tolerance_of(metric, evidence, service, rules.overrides)
    question = Question(
        name=f"{label} {metric.name}", subject=b.subject, stage=b.stage, metric=metric.name, kind=metric.kind,
        unit=metric.unit, direction=metric.direction, service=service.name if service else None,
        tolerance=tolerance, gate=gate, evidence=evidence, a=va, b=vb, on_log_scale=metric.unit != "share",
    )  # fmt: skip
    if evidence == "summary":
        return question
    return _with_effect(question, metric, a, b, rules)


def _with_effect(question: Question, metric: Metric, a: Measurement, b: Measurement, rules: Rules) -> Question:
    # Two runs of the same code differ by more than their samples tell; each side adds its share.
    extra = math.sqrt(2) * rules.run_to_run
    if metric.kind == "errors":
        assert a.requests
        assert b.requests
        assert a.errors is not None
        assert b.errors is not None
        return replace(question, effect=share_difference(a.errors, a.requests, b.errors, b.requests))
    if metric.kind == "throughput":
        assert a.requests_per_s
        assert b.requests_per_s
        assert a.requests_per_s_ci
        assert b.requests_per_s_ci
        effect = rate_log_ratio(
            a.requests_per_s, a.requests_per_s_ci, b.requests_per_s, b.requests_per_s_ci, extra_sd=extra
        )
        return replace(question, effect=effect)
    assert metric.q is not None
    needed = samples_needed(metric.q)
    counts = [_count(m) for m in (a, b)]
    if min(counts) < needed:
        side = "A" if counts[0] < needed else "B"
        return replace(
            question, a=None if counts[0] < needed else question.a, b=None if counts[1] < needed else question.b,
            reason=f"{side} has {min(counts)} samples, {metric.name} needs {needed}",
        )  # fmt: skip
    if question.a is None or question.b is None:
        side = "A" if question.a is None else "B"
        return replace(question, reason=f"{side} has no {metric.name}: too many requests had not finished")
    rng = np.random.default_rng(rules.seed)
    rounded_a, rounded_b = _rounding(a, question.a), _rounding(b, question.b)
    effect = log_ratio(
        _draws(a, metric.q, rng), _draws(b, metric.q, rng), value_a=question.a, value_b=question.b, rng=rng,
        extra_sd=extra, rounding=rounded_a + rounded_b,
    )  # fmt: skip
    rounded = max(rounded_a, rounded_b)
    weakness = f"latencies were rounded by up to {rounded:.0%} in the source" if rounded else None
    return replace(question, effect=effect, weakness=weakness)


def _custom(
    a: CustomFigure | None, b: CustomFigure | None, measurement: Measurement, *, label: str,
    service: Service | None, rules: Rules,
) -> Question:  # fmt: skip
    known = b or a
    assert known is not None
    rule = custom_of(known.name, service, rules.services)
    tolerance = rules.overrides.get(known.name) or (rule.tolerance if rule else Tolerance())
    has_rule = tolerance != Tolerance()
    return Question(
        name=f"{label} {known.name}", subject=measurement.subject, stage=measurement.stage, metric=known.name,
        kind="custom", unit=rule.unit if rule else known.unit, direction=rule.direction if rule else known.direction,
        service=service.name if service else None, tolerance=tolerance, gate=has_rule, evidence="summary",
        a=a.value if a else None, b=b.value if b else None,
        on_log_scale=tolerance.relative is not None,
        reason=None if has_rule else "no tolerance is set for it",
    )  # fmt: skip


def _p(q: Question, *, worse: bool) -> float:
    assert q.effect is not None
    return q.effect.p_up if (q.direction == "lower") == worse else q.effect.p_down


def _decide(q: Question, worse: bool | None, better: bool | None, *, rules: Rules) -> MetricComparison:
    verdict, reason = _verdict(q, worse, better, rules)
    if q.weakness:
        reason += f"; {q.weakness}"
    low = high = None
    if q.effect is not None:
        low, high = q.effect.low, q.effect.high
        if q.on_log_scale:
            low, high = math.exp(low), math.exp(high)
    has_both = q.a is not None and q.b is not None
    return MetricComparison(
        name=q.name, subject=q.subject, stage=q.stage, metric=q.metric, kind=q.kind, service=q.service,
        unit=q.unit, direction=q.direction, a=q.a, b=q.b,
        ratio=q.b / q.a if q.a and q.b is not None else None,
        difference=q.b - q.a if has_both and q.unit != "ms" else None,  # type: ignore[operator]  # has_both says so
        ci_low=_finite(low), ci_high=_finite(high), confidence=CONFIDENCE if q.effect else None,
        tolerance=in_words(q.tolerance, q.unit, q.direction), evidence=q.evidence,
        p_value=_p(q, worse=True) if q.effect else None, verdict=verdict, gate=q.gate, reason=reason,
    )  # fmt: skip


def _verdict(  # noqa: PLR0911 - a return per verdict reads better than nesting
    q: Question, worse: bool | None, better: bool | None, rules: Rules
) -> tuple[MetricVerdict, str]:
    if (over := _over_limit(q)) is not None:
        return "worse", over
    if q.reason is not None:
        return "cant_tell", q.reason
    if q.a is None or q.b is None:
        if q.b is not None and q.tolerance.limit is not None:
            return "unchanged", f"within the hard limit ({in_words(q.tolerance, q.unit, q.direction)})"
        return "not_comparable", f"{'A' if q.a is None else 'B'} has no such figure"
    if q.effect is None:
        return _by_threshold(q)
    words = in_words(Tolerance(relative=q.tolerance.relative, absolute=q.tolerance.absolute), q.unit, q.direction)
    if worse is None or better is None:  # does not gate: judged on its own
        worse, better = _p(q, worse=True) <= rules.alpha, _p(q, worse=False) <= rules.alpha
    verdict = verdict_of(
        q.effect, tolerance=on_scale(q), worse_is_up=q.direction == "lower", shown_worse=worse, shown_better=better
    )
    interval = f"the 95 % interval {_interval(q)}"
    if q.kind == "errors" and q.a == q.b == 0:
        return "unchanged", f"no errors on either side (a difference of {q.effect.high * 100:.2g} points could hide)"
    if verdict == "unchanged":
        return verdict, f"{interval} lies within {words}"
    if verdict in ("worse", "better"):
        return verdict, f"shown at a family-wise {rules.alpha:.0%}; {interval.removesuffix(',')}"
    if _p(q, worse=True) <= rules.alpha and not worse:
        return verdict, f"{interval}: by chance in so many comparisons, and no proof"
    return verdict, f"{interval} holds both no change and one beyond {words}"


def _by_threshold(q: Question) -> tuple[MetricVerdict, str]:
    """A summary against a fixed threshold: weak evidence, and said to be."""
    assert q.a is not None
    assert q.b is not None
    words = in_words(q.tolerance, q.unit, q.direction)
    weak = "weak evidence: a summary without samples"
    if q.tolerance.absolute is None and q.tolerance.relative is None:
        return "unchanged", f"within the hard limit ({words})"
    if q.tolerance.absolute is not None:
        change = q.b - q.a if q.direction == "lower" else q.a - q.b
        limit = q.tolerance.absolute
    else:
        if q.a <= 0 or q.b <= 0:
            return "cant_tell", f"a ratio of {q.a:g} and {q.b:g} says nothing ({weak})"
        change = math.log(q.b / q.a) * (1 if q.direction == "lower" else -1)
        limit = on_scale(q)
    if change > limit * (1 + 1e-9):
        return "worse", f"beyond {words} ({weak})"
    if change < -limit * (1 + 1e-9):
        return "better", f"better by more than {words.lstrip('+−')} ({weak})"
    return "unchanged", f"within {words} ({weak})"


def _over_limit(q: Question) -> str | None:
    if q.b is None or q.tolerance.limit is None:
        return None
    if (q.b > q.tolerance.limit) if q.direction == "lower" else (q.b < q.tolerance.limit):
        side = "at most" if q.direction == "lower" else "at least"
        return f"{q.b:g} breaks the hard limit: {side} {q.tolerance.limit:g}"
    return None


def on_scale(q: Question) -> float:
    """The tolerance on the effect's scale: positive, the logarithm of a ratio or a difference."""
    if not q.on_log_scale:
        assert q.tolerance.absolute is not None or q.tolerance.relative is not None
        return q.tolerance.absolute if q.tolerance.absolute is not None else q.tolerance.relative * (q.a or 0.0)  # type: ignore[operator]  # one of them is set
    if q.tolerance.relative is None:
        assert q.tolerance.absolute is not None
        assert q.a is not None
        return math.log1p(q.tolerance.absolute / q.a)
    return math.log1p(q.tolerance.relative) if q.direction == "lower" else -math.log1p(-q.tolerance.relative)


def _interval(q: Question) -> str:
    assert q.effect is not None
    if q.on_log_scale:
        return f"of the ratio, {math.exp(q.effect.low):.3f} to {math.exp(min(q.effect.high, 700)):.3f},"
    return f"of the difference, {q.effect.low * 100:+.2f} to {q.effect.high * 100:+.2f} points,"


def _value(metric: Metric, m: Measurement) -> float | None:
    if metric.kind == "errors":
        return m.errors / m.requests if m.errors is not None and m.requests else None
    if metric.kind == "throughput":
        return m.requests_per_s
    if metric.q is None:
        return None
    if m.samples_ms:
        ordered = sorted(m.samples_ms)
        return ordered[max(math.ceil(metric.q * len(ordered) - 1e-9), 1) - 1]
    return next((x.value_ms for x in m.quantiles if abs(x.q - metric.q) < 1e-9), None)


def _has_samples(metric: Metric, m: Measurement) -> bool:
    if metric.kind == "errors":
        return bool(m.requests) and m.errors is not None
    if metric.kind == "throughput":
        return m.requests_per_s_ci is not None and bool(m.requests_per_s)
    return metric.q is not None and (m.latency is not None or m.samples_ms is not None)


def _count(m: Measurement) -> int:
    if m.samples_ms is not None:
        return len(m.samples_ms)
    return (m.latency.count if m.latency else 0) + m.unfinished


def _draws(m: Measurement, q: float, rng: np.random.Generator) -> Draws:
    if m.samples_ms is not None:
        return sample_quantile_draws(m.samples_ms, q, rng, block=block_length(m.samples_ms))
    assert m.latency is not None
    effect = next((x.design_effect for x in m.quantiles if abs(x.q - q) < 1e-9), 1.0)
    return histogram_quantile_draws(_decoded(m.latency.encoded), q, rng, unfinished=m.unfinished, design_effect=effect)


@lru_cache(maxsize=8)
def _decoded(encoded: str) -> Latencies:
    """Each histogram is asked for several percentiles; nobody changes what is returned."""
    return Latencies.decode(encoded)


def _rounding(m: Measurement, value_ms: float) -> float:
    """By which share of a latency its source rounded it at most (locust/stats.py, StatsEntry._log_response_time)."""
    if m.rounded_by is None:
        return 0.0
    step = 1.0 if value_ms < 100 else 10.0 ** (math.floor(math.log10(value_ms)) - 1)
    return min(0.5 * step / max(value_ms, 0.5), 1.0)


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
