"""The verdict in words, and the three facts that matter most."""

from __future__ import annotations

from collections.abc import Iterable

from dbperf.records.plans import Finding
from dbperf.records.proof import Proof
from dbperf.records.run import Manifest
from dbperf.records.trace import Trace
from dbperf.records.verdicts import LevelVerdict, Verdict, Verdicts
from dbperf.report.model import EndpointReport, Fact, LoadReport, StatementReport, StatementsReport, VerdictWords
from dbperf.report.remedy import remedy
from dbperf.report.requests import finding_groups, short_source
from dbperf.units import format_count, format_ms, format_share

FACTS = 3
METRICS = {"p50": "P50", "p95": "P95", "p99": "P99", "error_rate": "error rate", "requests_per_s": "requests/s"}
_SEVERITY = {"critical": 2, "warning": 1, "info": 0}


def quantity(value: float | None, unit: str) -> str:
    """A level's observation or limit as a person would write it.

    >>> quantity(1500, "ms"), quantity(0.001, "share"), quantity(99.5, "per_s")
    ('1.5 s', '0.1 %', '99.5/s')
    """
    if unit == "ms":
        return format_ms(value)
    if unit == "share":
        return format_share(value)
    return f"{format_count(value)}/s"


def short_sql(text: str, limit: int = 90) -> str:
    """A statement on one line; what does not fit goes from the list of columns first, since FROM and WHERE tell more.

    >>> short_sql("SELECT t.a, t.b, t.c,\\n    (SELECT 1 FROM u) FROM t WHERE t.c = $1", 36)
    'SELECT t.a, … FROM t WHERE t.c = $1'
    >>> short_sql("UPDATE t SET a = $1, b = $2 WHERE c = $3", 20)
    'UPDATE t SET a = …'
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    line = _without_columns(line)
    if len(line) <= limit:
        return line
    cut = line[: limit - 1]
    return f"{cut[: cut.rfind(' ')] if cut.rfind(' ') > limit // 2 else cut} …"


def _without_columns(line: str) -> str:
    """SELECT with its first column only; the statement as it is where its own FROM is not found."""
    if line[:7].upper() != "SELECT ":
        return line
    depth, comma = 0, 0
    for i, c in enumerate(line):
        depth += (c == "(") - (c == ")")
        if depth == 0 and c == "," and not comma:
            comma = i
        if depth == 0 and comma and line[i : i + 6].upper() == " FROM ":
            return f"{line[:comma]}, …{line[i:]}"
    return line


def overrun(level: LevelVerdict) -> float | None:
    """How many times an observation exceeds its limit (for a throughput: falls short of it); None where unknown."""
    if level.observed is None:
        return None
    if level.metric == "requests_per_s":
        return level.limit / level.observed if level.observed > 0 else None
    return level.observed / level.limit if level.limit > 0 else None


def verdict_words(
    manifest: Manifest,
    verdicts: Verdicts | None,
    load: LoadReport | None,
    endpoints: list[EndpointReport],
    statements: StatementsReport | None,
    trace: Trace | None = None,
    proof: Proof | None = None,
) -> VerdictWords:
    """The verdict of a run with its three facts and what helps; says so where nothing could be judged."""
    count: dict[Verdict, int] = {"pass": 0, "fail": 0, "cant_tell": 0}
    judged = [v.verdict for v in verdicts.levels] + [g.verdict for g in verdicts.gates] if verdicts else []
    for verdict in judged:
        count[verdict] += 1
    title, text = _title(manifest, verdicts, count)
    return VerdictWords(
        overall=verdicts.overall if verdicts and (verdicts.levels or verdicts.gates) else None,
        title=title,
        text=text,
        passed=count["pass"],
        failed=count["fail"],
        cant_tell=count["cant_tell"],
        facts=_facts(load, endpoints, statements, trace),
        remedy=remedy(proof),
    )


def _title(manifest: Manifest, verdicts: Verdicts | None, count: dict[Verdict, int]) -> tuple[str, str]:
    total = sum(count.values())
    if verdicts is None or total == 0:
        why = (
            "No service level applies to what was measured."
            if verdicts is not None
            else "The run holds no service-level verdicts; the figures below stand on their own."
            if manifest.status in ("complete", "running")
            else "The run ended before its service levels were judged; what was measured until then is below."
        )
        return "Not judged", why
    noun = _noun(verdicts)
    met = f"{count['pass']} of {total} {noun} are met"
    unsure = (
        f"{count['cant_tell']} can't be told apart from {'its limit' if count['cant_tell'] == 1 else 'their limits'}"
    )
    match verdicts.overall:
        case "fail":
            rest = [f"{count['pass']} met"] + ([unsure] if count["cant_tell"] else [])
            return (
                f"{count['fail']} of {total} {noun} {'is' if count['fail'] == 1 else 'are'} missed",
                f"The others: {', '.join(rest)}.",
            )
        case "cant_tell":
            return "Can't tell", f"{met}; {unsure} with this much data. A longer load narrows the intervals."
        case "pass":
            return f"All {total} {noun} are met", "Each with its whole confidence interval on the right side."


def _noun(verdicts: Verdicts) -> str:
    if not verdicts.gates:
        return "service levels"
    return "service levels and gates" if verdicts.levels else "gates"


def _facts(
    load: LoadReport | None,
    endpoints: list[EndpointReport],
    statements: StatementsReport | None,
    trace: Trace | None,
) -> list[Fact]:
    """At most three, from different places first: the user's view, the database's, and the plan's."""
    above = [_worst_level(endpoints) or _unsure(endpoints), *_error_facts(endpoints)]
    plan, requests = _finding(statements), _traced(trace)
    # What was measured, in requests or in an executed plan, before what a plan that was not executed suggests.
    measured = plan is not None and plan.figure.endswith("%")
    below = [_heaviest(statements), *((plan, requests) if measured else (requests, plan))]
    kept: list[Fact] = []
    for fact in [above[0], *below, *above[1:]]:
        if fact is not None and fact not in kept:
            kept.append(fact)
    spare = [_slowest(endpoints), _load(load), _statements_seen(statements)]
    return [*kept, *(f for f in spare if f is not None)][:FACTS]


def _worst_level(endpoints: list[EndpointReport]) -> Fact | None:
    # A percentile can be missed for sure without a value: more requests were slow than the level allows.
    missed = [
        (1.0 if v.observed is None else overrun(v) or 0.0, e, v)
        for e in endpoints
        for v in e.levels
        if v.verdict == "fail"
    ]
    latency = [m for m in missed if m[2].unit == "ms"]
    if not missed:
        return None
    ratio, e, level = max(latency or missed, key=lambda m: m[0])
    if level.observed is None:
        text = f"{METRICS[level.metric]} of {e.name}: {level.reason}"
        figure = f"> {quantity(level.limit, level.unit)}"
        return Fact(kind="service_level", figure=figure, text=text, anchor=e.anchor, status="fail")
    more = f", limit {quantity(level.limit, level.unit)}"
    interval = (
        f" ({quantity(level.ci_low, level.unit)} to {quantity(level.ci_high, level.unit)})"
        if level.ci_low is not None and level.ci_high is not None
        else ""
    )
    text = f"{METRICS[level.metric]} of {e.name} is {quantity(level.observed, level.unit)}{interval}{more}"
    figure = f"{ratio:.2g} ×" if level.unit == "ms" and ratio < 100 else quantity(level.observed, level.unit)
    return Fact(kind="service_level", figure=figure, text=text, anchor=e.anchor, status="fail")


def _unsure(endpoints: list[EndpointReport]) -> Fact | None:
    """Where nothing is missed: what can't be told, and the reason for the busiest endpoint's."""
    open_levels = [(e, v) for e in endpoints for v in e.levels if v.verdict == "cant_tell"]
    if not open_levels:
        return None
    e, level = max(open_levels, key=lambda x: x[0].requests)
    text = f"of the endpoints' levels can't be told, such as {METRICS[level.metric]} of {e.name}: {level.reason}"
    figure = format_count(len(open_levels))
    return Fact(kind="service_level", figure=figure, text=text, anchor=e.anchor, status="cant_tell")


def _error_facts(endpoints: list[EndpointReport]) -> list[Fact]:
    failing = [e for e in endpoints if e.errors]
    if not failing:
        return []
    e = max(failing, key=lambda x: (x.error_rate or 0.0, x.errors))
    kind = max(e.errors_by_kind, key=lambda k: k.count).kind if e.errors_by_kind else "errors"
    text = f"of {e.name} failed: {format_count(e.errors)} of {format_count(e.requests)}, mostly {kind}"
    return [Fact(kind="errors", figure=format_share(e.error_rate), text=text, anchor=e.anchor, status="warning")]


def _heaviest(statements: StatementsReport | None) -> Fact | None:
    if statements is None or not statements.statements:
        return None
    s = statements.statements[0]
    per = (
        f"{format_count(s.calls_per_request)} calls per request, {format_ms(s.mean_ms)} each"
        if s.calls_per_request is not None
        else f"{format_count(s.calls)} calls, {format_ms(s.mean_ms)} each"
    )
    return Fact(
        kind="statement",
        figure=format_share(s.share),
        text=f"of the database's time is one statement: {per}",
        code=short_sql(s.text, 120),
        anchor=s.anchor,
    )


def _finding(statements: StatementsReport | None) -> Fact | None:
    """The finding that explains the most of the database's time: the plan's share times the statement's."""
    found: list[tuple[float, int, StatementReport, Finding]] = [
        ((f.share or 0.0) * s.share, _SEVERITY[f.severity], s, f)
        for s in (statements.statements if statements else [])
        for f in s.findings
    ]
    if not found:
        return None
    weight, _, s, f = max(found, key=lambda x: (x[0], x[1]))
    where = f" ({f.node})" if f.node else ""
    if weight > 0 and f.share is not None:
        figure, text = format_share(f.share), f"of statement {s.rank}'s plan: {f.title}{where}"
    else:
        figure, text = f.severity, f"in statement {s.rank}'s plan: {f.title}{where}"
    anchor = node_anchor(s.anchor, f.node_id) if f.node_id is not None else s.anchor
    return Fact(kind="finding", figure=figure, text=text, anchor=anchor, status=f.severity)


def _traced(trace: Trace | None) -> Fact | None:
    """The pattern in requests that would save the most, over all requests of its endpoints."""
    groups = [g for g in finding_groups(trace) if g.saved_ms > 0]
    if not groups:
        return None
    f = max(groups, key=lambda g: g.saved_ms).finding
    where = f" ({short_source(f.source)})" if f.source else ""
    text = f"per request could be saved in {f.route}: {f.title}{where}"
    return Fact(kind="requests", figure=f"≈ {format_ms(f.saved_ms)}", text=text, anchor="traces", status=f.severity)


def _slowest(endpoints: list[EndpointReport]) -> Fact | None:
    timed = [(q.value_ms, e) for e in endpoints for q in e.quantiles if q.q == 0.95 and q.value_ms is not None]
    if not timed:
        return None
    ms, e = max(timed, key=lambda t: t[0])
    return Fact(kind="endpoint", figure=format_ms(ms), text=f"is the P95 of {e.name}, the slowest", anchor=e.anchor)


def _load(load: LoadReport | None) -> Fact | None:
    if load is None or not load.requests:
        return None
    rate = f", {format_count(load.requests_per_s)} per second" if load.requests_per_s is not None else ""
    text = f"requests were measured{rate}; {format_count(load.errors)} failed"
    return Fact(kind="load", figure=format_count(load.requests), text=text, anchor="endpoints")


def _statements_seen(statements: StatementsReport | None) -> Fact | None:
    if statements is None:
        return None
    n = len(statements.statements) + statements.left_out
    text = f"statements took {format_ms(statements.total_ms)} of database time in {statements.window_s:.0f} s"
    return Fact(kind="statements_seen", figure=format_count(n), text=text, anchor="statements")


def node_anchor(statement: str, node_id: int) -> str:
    """The id of a plan node in the HTML."""
    return f"{statement}-n{node_id}"


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Fail before can't tell before pass; None of nothing.

    >>> worst(["pass", "cant_tell"]), worst([])
    ('cant_tell', None)
    """
    order: list[Verdict] = ["fail", "cant_tell", "pass"]
    found = set(verdicts)
    return next((v for v in order if v in found), None)
