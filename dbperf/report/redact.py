"""Takes data and names out of a run before its report is handed to others; figures and shapes stay.

What goes: literals and comments in SQL and plan conditions, parameters, error messages, host names, addresses, users,
paths and the values of options. What stays: statements' shape, table, column and index names, and every figure.

Works on the documents, before anything is derived from them, so that no output can hold what another one lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from dbperf.records.advice import NO_TABLE, Advice
from dbperf.records.flames import Flames
from dbperf.records.load import EndpointLoad, Load
from dbperf.records.plans import Finding, Plan, PlanNode, Plans, StatementPlan
from dbperf.records.profile import ProfileSummary
from dbperf.records.proof import IndexProof, Proof
from dbperf.records.run import Manifest, RunStage
from dbperf.records.stacks import HotSpot, Stacks
from dbperf.records.statements import Statements
from dbperf.records.telemetry import Telemetry
from dbperf.records.trace import EndpointTrace, Trace, TraceFinding
from dbperf.records.waits import BlockedSession, Session, Waits
from dbperf.report.redact_text import HIDDEN, literals, redact_prose, redact_sql

_PUBLIC_OPTIONS = {
    "--duration",
    "--users",
    "--scale",
    "--suite",
    "--warm-up",
    "--implementation",
    "--workers",
    "--name",
}
"""Options whose values say how the run was done, and nothing of where."""

replace = msgspec.structs.replace


def redact_manifest(m: Manifest) -> Manifest:
    """Without host, addresses, paths, and values of options; notes and details without quoted strings."""
    server = m.server and replace(
        m.server, dsn=HIDDEN, settings={k: "?" if "/" in v else redact_prose(v) for k, v in m.server.settings.items()}
    )
    return replace(
        m,
        host=replace(m.host, hostname=HIDDEN),
        server=server,
        target=m.target and replace(m.target, url=HIDDEN),
        command=redact_command(m.command),
        stages=[replace(s, detail=_detail(s)) for s in m.stages],
        notes=[redact_prose(n) for n in m.notes],
        extra={},
    )


def redact_command(command: Sequence[str]) -> list[str]:
    """The program, the subcommand, the names of options, and the values that say nothing of where.

    >>> redact_command(["dbperf", "run", "--users", "10", "--dsn", "host=db", "--url=http://x", "--quick"])
    ['dbperf', 'run', '--users', '10', '--dsn', '?', '--url=?', '--quick']
    """
    kept: list[str] = []
    for i, word in enumerate(command):
        name, equals, _ = word.partition("=")
        if word.startswith("-"):
            kept.append(word if not equals or name in _PUBLIC_OPTIONS else f"{name}=?")
        else:
            public = command[i - 1] in _PUBLIC_OPTIONS if i > 1 else word.isidentifier()
            kept.append(word if public else "dbperf" if i == 0 else "?")
    return kept


def _detail(stage: RunStage) -> str | None:
    if stage.detail is None:
        return None
    # The detail of a stage that failed is the server's or the API's message.
    return redact_url(redact_prose(stage.detail)) if stage.status in ("done", "running", "skipped") else HIDDEN


def redact_url(text: str) -> str:
    """Addresses out of a sentence.

    >>> redact_url("the API is at http://10.0.0.7:8000/x now")
    'the API is at (redacted) now'
    """
    return re.sub(r"\b[A-Za-z][\w+.-]*://\S+", HIDDEN, text)


def redact_load(load: Load) -> Load:
    """Without messages and addresses."""

    def endpoint(e: EndpointLoad) -> EndpointLoad:
        return replace(e, errors_by_kind=[replace(k, message=HIDDEN) for k in e.errors_by_kind])

    return replace(
        load,
        url=HIDDEN,
        stages=[replace(s, endpoints=[endpoint(e) for e in s.endpoints]) for s in load.stages],
        left_out=[replace(x, reason=redact_prose(x.reason)) for x in load.left_out],
        notes=[redact_url(redact_prose(n)) for n in load.notes],
    )


def redact_statements(s: Statements) -> Statements:
    """Normalised texts still hold literals: utility statements (SET, COPY, CREATE ROLE) and comments."""
    return replace(
        s,
        statements=[
            replace(
                x,
                text=redact_sql(x.text),
                user=None,
                validity_note=x.validity_note and redact_prose(x.validity_note),
            )
            for x in s.statements
        ],
        validity=replace(s.validity, notes=[redact_prose(n) for n in s.validity.notes]),
    )


def redact_plans(plans: Plans) -> Plans:
    """Without parameters, literals in conditions, and messages."""
    return replace(plans, plans=[_statement_plan(p) for p in plans.plans])


def _statement_plan(p: StatementPlan) -> StatementPlan:
    known = literals(p.text) | {x for x in p.parameters if x}
    known |= {lit for text in _expressions(p.plan.root) for lit in literals(text)} if p.plan else set()
    known |= {lit for f in p.findings if f.sql for lit in literals(f.sql)}
    return replace(
        p,
        text=redact_sql(p.text),
        parameters=["?" for _ in p.parameters],
        plan=p.plan and _plan(p.plan),
        findings=[_finding(f, known) for f in p.findings],
        error=p.error and HIDDEN,
    )


def _expressions(node: PlanNode) -> Iterable[str]:
    yield from node.conditions.values()
    yield from _texts(node.extra)
    for child in node.children:
        yield from _expressions(child)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _texts(v)
    elif isinstance(value, list):
        for v in value:
            yield from _texts(v)


def _plan(plan: Plan) -> Plan:
    return replace(
        plan,
        root=_node(plan.root),
        settings={k: "?" if "/" in v else v for k, v in plan.settings.items()},
        extra=_each_text(plan.extra, redact_sql),
    )


def _node(node: PlanNode) -> PlanNode:
    return replace(
        node,
        conditions={k: redact_sql(v) for k, v in node.conditions.items()},
        extra=_each_text(node.extra, redact_sql),
        children=[_node(c) for c in node.children],
    )


def _finding(f: Finding, known: set[str]) -> Finding:
    return replace(
        f,
        title=redact_prose(f.title, known),
        node=f.node and redact_prose(f.node, known),
        advice=redact_prose(f.advice, known),
        evidence={k: redact_sql(v) if isinstance(v, str) else v for k, v in f.evidence.items()},
        sql=f.sql and redact_sql(f.sql),
    )


def redact_proof(proof: Proof) -> Proof:
    """Verdicts and figures stay; texts lose their literals, and plans, which the report does not draw, go."""

    def index(i: IndexProof) -> IndexProof:
        return replace(
            i,
            create_sql=redact_sql(i.create_sql),
            reason=redact_prose(i.reason),
            statements=[
                replace(
                    s,
                    text=s.text and redact_sql(s.text),
                    plan_before=None,
                    plan_after=None,
                    error=s.error and redact_prose(s.error),
                )
                for s in i.statements
            ],
            writes=[
                replace(w, text=w.text and redact_sql(w.text), error=w.error and redact_prose(w.error))
                for w in i.writes
            ],
        )

    return replace(
        proof,
        target=HIDDEN,
        indexes=[index(i) for i in proof.indexes],
        queries=[replace(q, reason=redact_prose(q.reason)) for q in proof.queries],
        notes=[redact_prose(n) for n in proof.notes],
    )


def redact_flames(flames: Flames) -> Flames:
    """Statements lose their literals; source files keep their name, not their folder."""

    def stacks(s: Stacks) -> Stacks:
        frames = [
            replace(f, name=redact_sql(f.name) if f.kind == "sql" else f.name, file=f.file and _file(f.file))
            for f in s.frames
        ]
        return replace(s, frames=frames, notes=[redact_prose(n) for n in s.notes])

    def spot(h: HotSpot) -> HotSpot:
        return replace(h, name=redact_sql(h.name) if h.kind == "sql" else h.name, place=h.place and _file(h.place))

    return replace(
        flames,
        endpoints=[
            replace(e, stacks=stacks(e.stacks), hot_spots=[spot(h) for h in e.hot_spots]) for e in flames.endpoints
        ],
        notes=[redact_prose(n) for n in flames.notes],
    )


def redact_trace(trace: Trace) -> Trace:
    """Parameters are $1 already; literals in the application's own SQL are not. Paths of source files stay short."""

    def finding(f: TraceFinding) -> TraceFinding:
        known = literals(f.text) if f.text else set()
        return replace(
            f,
            title=redact_prose(f.title, known),
            text=f.text and redact_sql(f.text),
            source=_file(f.source),
            evidence={k: redact_prose(v, known) if isinstance(v, str) else v for k, v in f.evidence.items()},
            advice=redact_prose(f.advice, known),
        )

    def endpoint(e: EndpointTrace) -> EndpointTrace:
        return replace(
            e,
            statements=[replace(s, text=redact_sql(s.text), source=_file(s.source)) for s in e.statements],
            findings=[finding(f) for f in e.findings],
        )

    return replace(
        trace,
        endpoints=[endpoint(e) for e in trace.endpoints],
        loop_blocks=[replace(b, source=_file(b.source) or HIDDEN) for b in trace.loop_blocks],
        notes=[redact_prose(n) for n in trace.notes],
    )


def _file(source: str | None) -> str | None:
    """
    >>> _file("/home/kim/shop/api/views.py:12")
    'views.py:12'
    """
    return source and source.replace("\\", "/").rsplit("/", 1)[-1]


def redact_waits(waits: Waits) -> Waits:
    """Without the statements' literals and without users, applications and addresses."""

    def session(s: Session) -> Session:
        return replace(s, user=None, application_name=None, text=s.text and redact_sql(s.text))

    def blocked(b: BlockedSession) -> BlockedSession:
        return replace(b, session=session(b.session), blocked=[blocked(x) for x in b.blocked])

    return replace(
        waits,
        by_statement=[replace(s, text=s.text and redact_sql(s.text)) for s in waits.by_statement],
        blockers=[replace(c, root=session(c.root), blocked=[blocked(b) for b in c.blocked]) for c in waits.blockers],
        idle_transactions=[replace(t, session=session(t.session)) for t in waits.idle_transactions],
        pools=[replace(p, application_name=HIDDEN, user=None) for p in waits.pools],
        notes=[redact_prose(n) for n in waits.notes],
    )


def redact_profile(profile: ProfileSummary) -> ProfileSummary:
    """Without the command that ran beside it, and without literals."""
    return replace(profile, command=profile.command and HIDDEN, findings=[_finding(f, set()) for f in profile.findings])


def redact_telemetry(telemetry: Telemetry) -> Telemetry:
    """The report takes figures only from it; its notes name what could not be watched."""
    return replace(telemetry, notes=[redact_prose(n) for n in telemetry.notes])


def redact_advice(advice: Advice) -> Advice:
    """Without literals in predicates and statements, and without the address of the database."""
    return replace(
        advice,
        source=HIDDEN,
        recommendations=[
            replace(
                r,
                create_sql=redact_sql(r.create_sql),
                drop_sql=redact_sql(r.drop_sql),
                reason=redact_prose(r.reason, literals(r.create_sql)),
            )
            for r in advice.recommendations
        ],
        rejected=[
            replace(x, sql=redact_sql(x.sql), reason=redact_prose(x.reason, literals(x.sql))) for x in advice.rejected
        ],
        redundant=[replace(x, sql=redact_sql(x.sql), reason=redact_prose(x.reason)) for x in advice.redundant],
        rewrites=[
            replace(x, reason=redact_prose(x.reason), source=_file(x.source), sql=x.sql and redact_sql(x.sql))
            for x in advice.rewrites
        ],
        statistics=[
            replace(x, create_sql=redact_sql(x.create_sql), reason=redact_prose(x.reason)) for x in advice.statistics
        ],
        statements=[replace(s, text=s.text and redact_sql(s.text)) for s in advice.statements],
        skipped=[s if s.reason == NO_TABLE else replace(s, reason=HIDDEN) for s in advice.skipped],
        notes=[redact_prose(n) for n in advice.notes],
    )


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {k: _each_text(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_each_text(v, change) for v in value]
    return value
