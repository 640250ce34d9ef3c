"""A workload from what an application was seen to ask (`dbperf trace`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dbperf.postgres.fingerprint import fingerprint
from dbperf.records.advice import Rewrite
from dbperf.records.shadow import WorkloadStatement
from dbperf.records.trace import Trace

_LOOPS = frozenset({"n_plus_one", "row_by_row_write", "duplicate_statement"})
# Placeholders of drivers that do not send $1 themselves (PEP 249's format and pyformat), quoted text left alone.
_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|%(?:\((?P<name>[^)]*)\))?s|%%")


def statements_of_trace(trace: Trace) -> Iterator[WorkloadStatement]:
    """Every statement, each endpoint's on its own; an executemany counts for each of its parameter sets."""
    taken: dict[str, int] = {}
    for endpoint in trace.endpoints:
        for s in endpoint.statements:
            name = str(s.queryid) if s.queryid is not None else s.source or s.fingerprint or endpoint.route
            taken[name] = taken.get(name, 0) + 1
            yield WorkloadStatement(
                id=name if taken[name] == 1 else f"{name} ({taken[name]})",
                text=s.text if fingerprint(s.text) else numbered(s.text),
                calls=float(max(s.calls, s.executions)),
                mean_ms=s.total_ms / s.calls if s.calls else None,
            )


def loops_of_trace(trace: Trace, statements: Sequence[WorkloadStatement]) -> list[Rewrite]:
    """Statements of a workload that the application asks in a loop: an index makes each faster, one statement all."""
    ids: dict[str, str] = {}
    for s in statements:
        if (found := fingerprint(s.text)) is not None:
            ids.setdefault(found, s.id)
    rewrites: dict[tuple[str, str], Rewrite] = {}
    for endpoint in trace.endpoints:
        for f in endpoint.findings:
            known = fingerprint(numbered(f.text)) if f.text and f.rule_id in _LOOPS else None
            if known in ids:
                reason = f"{f.title} ({f.route}). {f.advice}"
                found_one = Rewrite(statement=ids[known], rule_id=f.rule_id, reason=reason, source=f.source)
                rewrites.setdefault((found_one.statement, f.rule_id), found_one)
    return list(rewrites.values())


def numbered(text: str) -> str:
    """The text with a driver's placeholders as $1, $2; one that is named twice is one parameter.

    >>> numbered("SELECT '%s' FROM t WHERE a = %(x)s AND b = %(x)s OR c %% 2 = %s")
    "SELECT '%s' FROM t WHERE a = $1 AND b = $1 OR c % 2 = $2"
    """
    numbers: dict[str, int] = {}

    def replaced(m: re.Match[str]) -> str:
        if m[0][0] in "'\"":
            return m[0]
        if m[0] == "%%":
            return "%"
        name = m["name"] if m["name"] is not None else f" {len(numbers)}"
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return _PLACEHOLDER.sub(replaced, text)
