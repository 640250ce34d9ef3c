"""`redact`'s work on the other side of a comparison."""

from __future__ import annotations

from dbperf.records.comparison import Comparison, MetricComparison
from dbperf.report import redact as r
from dbperf.report.changes import Against


def redact_against(against: Against) -> Against:
    """Without literals, messages, names of places and people; figures and verdicts stay."""
    return Against(
        name=r.HIDDEN,
        comparison=against.comparison and redact_comparison(against.comparison),
        reason=against.reason and r.HIDDEN,
        statements=against.statements and r.redact_statements(against.statements),
        plans=against.plans and r.redact_plans(against.plans),
        flames=against.flames and r.redact_flames(against.flames),
    )


def redact_comparison(c: Comparison) -> Comparison:
    """Names of metrics and figures stay; paths, people and reasons in their own words go."""

    def metric(m: MetricComparison) -> MetricComparison:
        accepted = m.accepted and r.replace(m.accepted, reason=r.HIDDEN, who=r.HIDDEN)
        return r.replace(m, accepted=accepted, reason=r.redact_url(r.redact_prose(m.reason)))

    return r.replace(
        c,
        a=r.replace(c.a, source=r.HIDDEN),
        b=r.replace(c.b, source=r.HIDDEN),
        metrics=[metric(m) for m in c.metrics],
        notes=[r.redact_url(r.redact_prose(n)) for n in c.notes],
    )
