"""Builds the part of a report that says what changed: metrics with verdicts, statements, flame graphs."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.errors import RecordError, UsageError
from dbperf.flame.changes import compare as compare_flames
from dbperf.records.base import D, Record
from dbperf.records.comparison import Comparison, MetricComparison
from dbperf.records.flames import Flames
from dbperf.records.plans import PlanNode, Plans
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statement, Statements
from dbperf.report.changes_model import ChangesReport, FlameDifference, StatementChange

MAX_STATEMENTS = 12
MAX_FRAMES = 12
SMALL = 0.05
"""Statements whose time per request changed by less than this share of the largest change are left out."""
_ORDER = {"worse": 0, "better": 2, "cant_tell": 3, "unchanged": 4, "not_comparable": 5}


class Against(Record, frozen=True, kw_only=True):
    """The other side: what was judged about it, and what its run directory holds."""

    name: str
    comparison: Comparison | None = None
    reason: str | None = None
    """Why nothing could be judged."""
    statements: Statements | None = None
    plans: Plans | None = None
    flames: Flames | None = None


def against_run(run: RunDirectory, comparison: Comparison | None, reason: str | None = None) -> Against:
    """Another run, with the documents that can be read; a damaged one costs its own part only."""

    def read(cls: type[D]) -> D | None:
        try:
            return run.maybe(cls)
        except RecordError:
            return None

    return Against(
        name=run.path.resolve().name,
        comparison=comparison,
        reason=reason,
        statements=read(Statements),
        plans=read(Plans),
        flames=read(Flames),
    )


def changes(
    against: Against, statements: Statements | None, plans: Plans | None, flames: Flames | None
) -> ChangesReport:
    """What changed from `against` to the documents of this run."""
    c = against.comparison
    return ChangesReport(
        against=against.name,
        verdict=c.verdict if c else None,
        reason=against.reason,
        judged_on=c.compared_at.date() if c else None,
        a=c.a if c else None,
        family=c.family if c else 0,
        alpha=c.alpha if c else 0.0,
        metrics=sorted(c.metrics, key=_order) if c else [],
        notes=c.notes if c else [],
        statements=_statements(against, statements, plans),
        flames=_flames(against.flames, flames),
    )


def _order(m: MetricComparison) -> tuple[bool, int, str]:
    changed = m.verdict in ("worse", "better")
    return (not (m.gate or changed), 1 if m.accepted else _ORDER[m.verdict], m.name)


def _statements(against: Against, statements: Statements | None, plans: Plans | None) -> list[StatementChange]:
    if against.statements is None or statements is None:
        return []
    before = {s.fingerprint: s for s in against.statements.statements}
    after = {s.fingerprint: s for s in statements.statements}
    scans_before, scans_after = _scans(against.plans), _scans(plans)
    found = []
    for key in dict.fromkeys([*before, *after]):
        a, b = before.get(key), after.get(key)
        told = b or a
        assert told is not None
        found.append(
            StatementChange(
                fingerprint=key,
                text=told.text,
                before_ms=_per_request(a),
                after_ms=_per_request(b),
                calls_before=a.calls_per_request if a else None,
                calls_after=b.calls_per_request if b else None,
                plan_before=scans_before.get(key, []),
                plan_after=scans_after.get(key, []),
            )
        )
    # Without a count of requests nothing can be said per request.
    found = [s for s in found if s.before_ms is not None or s.after_ms is not None]
    found.sort(key=lambda s: (-_size(s), s.fingerprint))
    return [s for s in found if _size(s) > SMALL * _size(found[0])][:MAX_STATEMENTS]


def _per_request(s: Statement | None) -> float | None:
    if s is None or s.calls_per_request is None or not s.calls:
        return None
    return s.total_ms / s.calls * s.calls_per_request


def _size(s: StatementChange) -> float:
    return abs((s.after_ms or 0.0) - (s.before_ms or 0.0))


def _scans(plans: Plans | None) -> dict[str, list[str]]:
    """By fingerprint: how each plan reads its tables."""
    found: dict[str, list[str]] = {}
    for p in plans.plans if plans else []:
        if p.plan and p.fingerprint:
            found.setdefault(p.fingerprint, list(dict.fromkeys(_reads(p.plan.root))))
    return found


def _reads(node: PlanNode) -> Iterator[str]:
    if node.relation or node.index_name:
        using = f" using {node.index_name}" if node.index_name else ""
        yield f"{node.node_type}{using}{f' on {node.relation}' if node.relation else ''}"
    for child in node.children:
        yield from _reads(child)


def _flames(before: Flames | None, after: Flames | None) -> list[FlameDifference]:
    others = {e.route: e for e in before.endpoints} if before else {}
    found = []
    for e in after.endpoints if after else []:
        if (other := others.get(e.route)) is None:
            continue
        try:
            changed = compare_flames(other.stacks, e.stacks, absolute=True)
        except UsageError:  # an empty profile, or one in another unit
            continue
        found.append(
            FlameDifference(
                route=e.route,
                before_ms=other.request_ms,
                after_ms=e.request_ms,
                before=other.stacks,
                changes=[c for c in changed if c.change][:MAX_FRAMES],
            )
        )
    return found
