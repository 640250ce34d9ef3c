"""Runs all rules over a plan."""

from __future__ import annotations

from dbperf.plans.rules import (  # noqa: F401 - importing a module registers its rules
    estimates,
    joins,
    memory,
    order,
    scans,
    storage,
    subqueries,
    time,
    usable,
)
from dbperf.plans.rules.base import RULES, Context, Facts, Thresholds
from dbperf.records.plans import Finding, Plan

_RANK = {"critical": 0, "warning": 1, "info": 2}


def find(
    plan: Plan, *, statement: str | None = None, facts: Facts | None = None, thresholds: Thresholds | None = None
) -> list[Finding]:
    """All findings, worst first, then by the time they explain.

    Args:
        statement: the SQL text where it is known; a log's "Query Text" is used otherwise.
        facts: what the server knows about the tables (dbperf.postgres.facts); some rules need it.
    """
    text = statement or plan.extra.get("Query Text")
    context = Context(
        plan,
        statement=text if isinstance(text, str) else None,
        facts=facts or {},
        thresholds=thresholds or Thresholds(),
    )
    found = [f for rule in RULES.values() for f in rule.findings(context)]
    return sorted(found, key=lambda f: (_RANK[f.severity], -(f.explains_ms or 0.0), f.rule_id, f.node_id or 0))
