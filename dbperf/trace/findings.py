"""N+1 and friends: runs the rules over an endpoint. A rule returns findings; its docstring says what "saved" means."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dbperf.records.trace import EndpointTrace, LoopBlock, TraceFinding
from dbperf.trace import rules_statements, rules_waits
from dbperf.trace.measures import RequestMeasures
from dbperf.trace.reader import Stream
from dbperf.trace.rule_base import Context, Rule

RULES: tuple[Rule, ...] = (
    rules_statements.repeated_statement,
    rules_statements.commit_per_row,
    rules_statements.slow_commit,
    rules_statements.duplicate_statement,
    rules_statements.wide_columns,
    rules_waits.idle_in_transaction,
    rules_waits.long_transaction,
    rules_waits.pool_wait,
    rules_waits.checkout_chatter,
    rules_waits.autoflush_storm,
    rules_waits.blocked_loop,
    rules_waits.garbage_collection,
)

PROCESS_WIDE = frozenset({"garbage_collection"})


def findings_of(
    endpoint: EndpointTrace,
    requests: list[RequestMeasures],
    stream: Stream,
    places: list[str | None],
    is_write: list[bool],
    blocks: Sequence[LoopBlock],
) -> list[TraceFinding]:
    """All findings of an endpoint, the one that saves most first."""
    context = Context(endpoint, requests, stream, places, is_write, blocks)
    found = [f for rule in RULES for f in rule(context)]
    return sorted(found, key=lambda f: -(f.saved_ms or 0.0))


def once_per_process(endpoints: Sequence[EndpointTrace]) -> list[EndpointTrace]:
    """The endpoints with one finding of what stops a process as a whole, instead of the same at each of them: at the
    one that it cost most, with the names of the others. A health check is not told to make fewer objects."""
    hit = {e.route: f for e in endpoints for f in e.findings if f.rule_id in PROCESS_WIDE}
    if len(hit) < 2:
        return list(endpoints)
    most = max(endpoints, key=lambda e: (e.route in hit, e.gc_ms))
    others = ", ".join(route for route in hit if route != most.route)
    kept = msgspec.structs.replace(hit[most.route], evidence={**hit[most.route].evidence, "delayed_endpoints": others})

    def left(e: EndpointTrace) -> list[TraceFinding]:
        own = [kept if f.rule_id in PROCESS_WIDE else f for f in e.findings]
        return own if e is most else [f for f in own if f.rule_id not in PROCESS_WIDE]

    return [msgspec.structs.replace(e, findings=left(e)) for e in endpoints]
