"""`redact`'s work on the other side of a comparison."""

from __future__ import annotations

from dbperf.records.comparison import Comparison, MetricComparison
from dbperf.report import redact as r
from dbperf.report.changes import Against
from dbperf.report.redact_text import HIDDEN, redact_prose


def redact_against(against: Against) -> Against:
    """Without literals, messages, names of places and people; figures and verdicts stay."""
    return Against(
        name=HIDDEN,
        comparison=against.comparison and redact_comparison(against.comparison),
        reason=against.reason and HIDDEN,
        statements=against.statements and r.redact_statements(against.statements),
        plans=against.plans and r.redact_plans(against.plans),
        flames=against.flames and r.redact_flames(against.flames),
    )


def redact_comparison(c: Comparison) -> Comparison:
    """Names of metrics and figures stay; paths, people and reasons in their own words go."""

    def metric(m: MetricComparison) -> MetricComparison:
        accepted = m.accepted and r.replace(m.accepted, reason=HIDDEN, who=HIDDEN)
        return r.replace(m, accepted=accepted, reason=r.redact_url(redact_prose(m.reason)))

    return r.replace(
        c,
        a=r.replace(c.a, source=HIDDEN),
        b=r.replace(c.b, source=HIDDEN),
        metrics=[metric(m) for m in c.metrics],
        notes=[r.redact_url(redact_prose(n)) for n in c.notes],
    )
