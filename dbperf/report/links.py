"""What belongs to what: endpoint to statement, statement to endpoint, index to statement."""

from __future__ import annotations

import re
from collections import defaultdict

from dbperf.records.advice import Recommendation
from dbperf.records.comparison import MetricComparison
from dbperf.records.plans import PlanNode
from dbperf.records.trace import EndpointTrace, TraceStatement
from dbperf.report.model import EndpointReport, Report, StatementReport

_PARAMETER = re.compile(r"\{[^{}]*\}")


class Links:
    """Looks up across the parts of a report."""

    def __init__(self, report: Report) -> None:
        statements = report.statements.statements if report.statements else []
        self._by_id = {s.queryid: s for s in reversed(statements)}
        self._by_fingerprint = {s.fingerprint: s for s in reversed(statements)}
        self._endpoints = {_route(e.name): e for e in reversed(report.endpoints)}
        self._traces = {_route(t.route): t for t in report.trace.endpoints} if report.trace else {}
        self._waits = report.waits.by_statement if report.waits else []
        self._changes = report.changes.metrics if report.changes else []
        parts = {"waits": report.waits or report.profile, "indexes": report.advice, "traced requests": report.trace,
                 "resources": report.resources}  # fmt: skip
        ids = {"traced requests": "traces"}
        self._sections = {"latencies": "endpoints", "load": "endpoints", "service levels": "endpoints",
                          "statements": "statements", "plans": "statements", "run": "stages",
                          **{name: ids.get(name, name) for name, part in parts.items() if part}}  # fmt: skip
        self._flames = [e.route for e in report.flames.endpoints] if report.flames else []
        self._recommendations = report.advice.recommendations if report.advice else []

    def statement(self, queryid: int | str | None = None, fingerprint: str | None = None) -> StatementReport | None:
        """The statement of an id or a fingerprint, where the report holds it."""
        found = self._by_id.get(str(queryid)) if queryid is not None else None
        return found or (self._by_fingerprint.get(fingerprint) if fingerprint else None)

    def trace_of(self, endpoint: str) -> EndpointTrace | None:
        """What was traced of an endpoint. Names of path parameters may differ between suite and application."""
        return self._traces.get(_route(endpoint))

    def endpoint(self, route: str | None) -> EndpointReport | None:
        """The (first stage of the) endpoint of a route."""
        return self._endpoints.get(_route(route)) if route else None

    def users_of(self, s: StatementReport) -> list[tuple[EndpointTrace, TraceStatement]]:
        """The traced endpoints that run a statement, the one that spends most on it first."""
        found = [
            (trace, x)
            for trace in self._traces.values()
            for x in trace.statements
            if (x.queryid is not None and str(x.queryid) == s.queryid) or (x.fingerprint == s.fingerprint)
        ]
        return sorted(found, key=lambda f: -f[1].total_ms)

    def waits_of(self, trace: EndpointTrace) -> list[tuple[str, str, float, float]]:
        """What sessions did while they ran an endpoint's statements, whoever asked for those: event, its type, session
        time in ms, share. The most first."""
        found = [s for x in trace.statements if (s := self.statement(x.queryid, x.fingerprint))]
        wanted = {s.queryid for s in found}
        total: dict[tuple[str, str], float] = defaultdict(float)
        for w in self._waits:
            if str(w.queryid) in wanted:
                for e in w.events:
                    total[e.wait_event, e.wait_event_type] += e.session_ms
        whole = sum(total.values())
        ordered = sorted(total.items(), key=lambda x: (-x[1], x[0]))
        return [(event, kind, ms, ms / whole) for (event, kind), ms in ordered if whole]

    def changes_of(self, e: EndpointReport) -> list[tuple[int, MetricComparison]]:
        """What was compared of an endpoint, with the number (from 1) in the table of changes."""
        return [
            (i, m)
            for i, m in enumerate(self._changes, 1)
            if m.subject == e.name and m.stage in (None, e.stage) and m.verdict != "not_comparable"
        ]

    def recommendations_for(self, s: StatementReport) -> list[tuple[int, Recommendation]]:
        """The recommended indexes that a statement would use, with their numbers (from 1)."""
        return [(i, r) for i, r in enumerate(self._recommendations, 1) if s.queryid in r.statements]

    def indexes_for(self, s: StatementReport, node: PlanNode) -> list[tuple[int, Recommendation]]:
        """The recommended indexes of the table that a node of a statement's plan reads."""
        if node.relation is None:
            return []
        return [(i, r) for i, r in self.recommendations_for(s) if r.table.rsplit(".", 1)[-1] == node.relation]

    def of_note(self, about: str) -> str | None:
        """The anchor of what a note is about; None where the page has no such part."""
        if (e := self._endpoints.get(_route(about))) is not None:
            return e.anchor
        return self._sections.get(about)

    def flame_of(self, endpoint: str) -> int | None:
        """The number (from 1) of an endpoint's flame graph."""
        return next((n for n, route in enumerate(self._flames, 1) if _route(route) == _route(endpoint)), None)


def _route(name: str) -> str:
    """
    >>> _route("GET /cases/{case_id}/x") == _route("GET /cases/{id}/x")
    True
    """
    return _PARAMETER.sub("{}", name)
