"""What a measured proof of the index advice says, cut for the templates and the Markdown: words, links and pictures."""

from __future__ import annotations

import math
import re
from collections import Counter

from markupsafe import Markup

from dbperf.records.load import Quantile
from dbperf.records.proof import EndpointProof, IndexProof, Proof
from dbperf.report.links import Links
from dbperf.report.model import Report
from dbperf.units import format_ms, format_ratio

WIDTH, HEIGHT = 150, 20
INDEX_WORDS = {"keep": "keep", "reject": "reject", "cant_tell": "can't tell"}
EFFECT_WORDS = {"better": "faster", "worse": "slower", "unchanged": "the same", "cant_tell": "can't tell"}
SHAPES = {
    "keep": "pass", "reject": "fail", "better": "pass", "worse": "fail", "unchanged": None, "cant_tell": "cant_tell",
}  # fmt: skip
"""Verdicts of a proof to the shapes of the report."""


def anchors(report: Report) -> dict[tuple[str, str], str]:
    """The id of each index in the HTML, by schema and name: advised ones are numbered as in the advice."""
    recommended = report.advice.recommendations if report.advice else []
    found = {(r.schema, r.name): f"index-{n}" for n, r in enumerate(recommended, 1)}
    for n, i in enumerate(report.proof.indexes if report.proof else [], 1):
        found.setdefault((i.schema, i.name), f"index-tried-{n}")
    return found


def indexes_of_endpoint(report: Report, links: Links, endpoint: str) -> list[IndexProof]:
    """The kept indexes that change a statement which the endpoint runs, by what was traced."""
    trace = links.trace_of(endpoint)
    if trace is None or report.proof is None:
        return []
    run = [links.statement(s.queryid, s.fingerprint) for s in trace.statements]
    ids = {s.queryid for s in run if s is not None}
    return [
        i
        for i in report.proof.indexes
        if i.verdict == "keep" and any(s.id in ids and s.uses_index and s.verdict == "better" for s in i.statements)
    ]


def endpoints_of_index(report: Report, links: Links, index: IndexProof) -> list[str]:
    """The endpoints that were loaded again and run a statement which the index makes faster."""
    names = [e.endpoint for e in report.proof.endpoints] if report.proof else []
    return [n for n in names if index in indexes_of_endpoint(report, links, n)]


_QUERYID = re.compile(r"(?<![\w-])-?\d{9,20}(?!\w)")


def named(text: str, links: Links) -> str:
    """A reason with its statements called as the report calls them: by rank instead of by queryid."""

    def name(m: re.Match[str]) -> str:
        found = links.statement(queryid=m[0])
        return f"statement {found.rank}" if found else m[0]

    return _QUERYID.sub(name, text)


def scale(proof: Proof) -> tuple[float, float]:
    """Lowest and highest latency (ms) of the logarithmic scale that all endpoints share."""
    quantiles = [q for e in proof.endpoints for q in (*e.quantiles_before, *e.quantiles_after)]
    seen = [v for q in quantiles for v in (q.value_ms, q.ci_low_ms, q.ci_high_ms) if v]
    return (min(seen) / 1.2, max(seen) * 1.2) if seen else (1.0, 10.0)


def proof_bar(e: EndpointProof, low_high: tuple[float, float]) -> Markup:
    """The percentile that decides before, above, and after, below, each with its interval. Numbers only."""
    low, high = low_high

    def x(ms: float) -> float:
        return round(4 + (WIDTH - 8) * math.log(ms / low) / math.log(high / low), 1)

    parts = [f'<line class="track" x1="0" x2="{WIDTH}" y1="10" y2="10"/>']
    pair = shown_pair(e)
    for q, name, y in ((pair[0], "before", 6), (pair[1], "after", 14)):
        if not q.value_ms:
            continue
        if q.ci_low_ms and q.ci_high_ms:
            parts.append(f'<line class="{name}" x1="{x(q.ci_low_ms)}" x2="{x(q.ci_high_ms)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{name}" cx="{x(q.value_ms)}" cy="{y}" r="3.4"/>')
    body = "".join(parts)
    return Markup(f'<svg class="range proof-bar" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{body}</svg>')  # noqa: S704


def shown_pair(e: EndpointProof) -> tuple[Quantile, Quantile]:
    """The percentile that the verdict is by, before and after."""
    q = deciding_q(e)
    return at(e.quantiles_before, q), at(e.quantiles_after, q)


def deciding_q(e: EndpointProof) -> float:
    """The percentile (0..1) that an endpoint's verdict is by."""
    if e.judged_q is not None:
        return e.judged_q
    return 0.5 if e.p95_ratio is None and e.p50_ratio is not None else 0.95


def at(quantiles: list[Quantile], q: float) -> Quantile:
    """The quantile of a list; one without a value where it is not there."""
    missing = Quantile(q=q, value_ms=None, ci_low_ms=None, ci_high_ms=None)
    return next((x for x in quantiles if abs(x.q - q) < 1e-9), missing)


def ratio_words(ratio: float | None, low: float | None, high: float | None) -> str:
    """
    >>> ratio_words(0.4823, 0.41, 0.6), ratio_words(0.5, None, None), ratio_words(None, None, None)
    ('0.48 (0.41 to 0.60)', '0.50', '–')
    """
    if ratio is None:
        return "–"
    return format_ratio(ratio) + (f" ({format_ratio(low)} to {format_ratio(high)})" if low and high else "")


def endpoint_ratio(e: EndpointProof) -> tuple[str, str]:
    """The ratio that the verdict is by, and its interval (with the percentile, where it is not P95)."""
    if e.p95_ratio is None and e.p50_ratio is None:
        few = max(e.errors_before, e.errors_after) == 0
        return format_ratio(None), "too few requests" if few else "too few requests that succeeded"
    if deciding_q(e) == 0.5:
        return format_ratio(e.p50_ratio), f"{format_ratio(e.p50_ratio_low)} to {format_ratio(e.p50_ratio_high)}, of P50"
    return format_ratio(e.p95_ratio), f"{format_ratio(e.p95_ratio_low)} to {format_ratio(e.p95_ratio_high)}, of P95"


def proof_notes(proof: Proof) -> list[str]:
    """What weakens the figures; statements that can't be executed at all are one sentence."""
    left_out = [n for n in proof.notes if ": not measured, " in n]
    found = [n for n in proof.notes if n not in left_out]
    if left_out:
        reasons = Counter(n.split(": not measured, ", 1)[1] for n in left_out)
        words = "; ".join(f"{count} of them: {reason}" for reason, count in reasons.items())
        found.append(f"{len(left_out)} statements of the workload were not measured ({words})")
    return found


def proof_sentences(proof: Proof) -> list[str]:
    """What was shown, in short sentences: indexes, queries with limits, endpoints."""
    count = {v: sum(i.verdict == v for i in proof.indexes) for v in INDEX_WORDS}
    found = [
        f"{len(proof.indexes)} indexes were built and measured: {count['keep']} to keep, {count['reject']} rejected, "
        f"{count['cant_tell']} can't be told"
    ]
    if proof.queries:
        met = sum(q.verdict == "pass" for q in proof.queries)
        found.append(f"{met} of {len(proof.queries)} queries with limits meet them with the kept indexes")
    for e in sorted((e for e in proof.endpoints if e.verdict in ("better", "worse")), key=_weight)[:3]:
        before, after = shown_pair(e)
        ratio, interval = endpoint_ratio(e)
        found.append(
            f"P{before.q * 100:g} of {e.endpoint} went from {format_ms(before.value_ms)} to {format_ms(after.value_ms)}"
            f" (ratio {ratio}, {interval.split(', of ')[0]})"
        )
    return found


def _weight(e: EndpointProof) -> float:
    """The endpoints with the most requests first."""
    return -e.requests_before
