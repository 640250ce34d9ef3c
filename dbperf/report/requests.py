"""Findings of traced requests, brought together: the same pattern at the same place, whatever the endpoint."""

from __future__ import annotations

from collections import defaultdict

from dbperf.records.base import Record
from dbperf.records.trace import Trace, TraceFinding

_SEVERITY = {"critical": 0, "warning": 1, "info": 2}


class FindingGroup(Record, frozen=True, kw_only=True):
    """One pattern at one place (source line and statement)."""

    finding: TraceFinding
    """Of the endpoint where it costs most."""
    saved_ms: float
    """What it could save over all traced requests of all its endpoints, estimated; 0 where no estimate exists."""
    also: list[TraceFinding]
    """The same in other endpoints."""


def finding_groups(trace: Trace | None) -> list[FindingGroup]:
    """The gravest first, and among those the ones that save most."""
    found: dict[tuple[str, str, str], list[tuple[float, TraceFinding]]] = defaultdict(list)
    for e in trace.endpoints if trace else []:
        for f in e.findings:
            key = (f.rule_id, f.source or "", (f.fingerprint or "") if f.source else "")
            found[key].append(((f.saved_ms or 0.0) * e.requests, f))
    groups = []
    for members in found.values():
        ordered = sorted(members, key=lambda m: (_SEVERITY[m[1].severity], -m[0]))
        groups.append(
            FindingGroup(finding=ordered[0][1], saved_ms=sum(m[0] for m in ordered), also=[m[1] for m in ordered[1:]])
        )
    return sorted(
        groups, key=lambda g: (_SEVERITY[g.finding.severity], -g.saved_ms, g.finding.route, g.finding.rule_id)
    )


def short_source(source: str | None) -> str:
    """A place in the source without the folders above the package: the last three parts of its path.

    >>> short_source("/home/kim/shop/api/routes/views.py:12")
    'api/routes/views.py:12'
    """
    return "/".join((source or "").replace("\\", "/").split("/")[-3:])
