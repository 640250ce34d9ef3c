"""The index advice and its proof in the Markdown summary."""

from __future__ import annotations

from dbperf.records.proof import EndpointProof, IndexProof, Proof, QueryProof
from dbperf.report.links import Links
from dbperf.report.markdown_text import Section, code, prose
from dbperf.report.model import Report
from dbperf.report.proof_view import EFFECT_WORDS, INDEX_WORDS, at, endpoint_ratio, named, proof_sentences
from dbperf.units import format_bytes, format_ms, format_share

_VERDICTS = {"pass": "✅ pass", "fail": "❌ fail", "cant_tell": "❔ can't tell"}


def index_sections(r: Report) -> list[Section]:
    """The advice; with a proof its verdicts, the queries with limits and the endpoints before and after."""
    if r.proof is not None:
        return _proved(r.proof, Links(r))
    return [
        Section(
            importance=5,
            head=["### Indexes (estimates of the planner, nothing was created)", ""],
            rows=[
                f"- {format_share(x.gain)} of the workload's cost for {format_bytes(x.size_bytes)}: "
                f"{code(x.create_sql)}"
                for x in (r.advice.recommendations if r.advice else [])
            ],
            what="indexes",
        )
    ]


def _proved(p: Proof, links: Links) -> list[Section]:
    order = {"keep": 0, "reject": 1, "cant_tell": 2}
    return [
        Section(
            importance=6,
            head=["### Indexes, measured", "", *(f"- {prose(s)}" for s in proof_sentences(p)), ""],
            rows=[_index(i, links) for i in sorted(p.indexes, key=lambda i: order[i.verdict])],
            what="indexes",
        ),
        Section(
            importance=7,
            head=[
                "### Endpoints with the proved indexes, the same load",
                "",
                "| Endpoint | Effect | P50 | P95 | P99 | Ratio |",
                "|---|---|--:|--:|--:|--:|",
            ],
            rows=[_endpoint(e) for e in p.endpoints],
            what="endpoints",
        ),
        Section(
            importance=7,
            head=[
                "### Queries with limits",
                "",
                "| Query | Verdict | Limit of P95 | Before | After | Index |",
                "|---|---|--:|--:|--:|---|",
            ],
            rows=[_query(q) for q in p.queries],
            what="queries",
        ),
    ]


def _index(i: IndexProof, links: Links) -> str:
    size = "" if i.size_bytes is None else f" ({format_bytes(i.size_bytes)})"
    return f"- **{INDEX_WORDS[i.verdict]}** {code(i.create_sql)}{size}: {prose(named(i.reason, links))}"


def _endpoint(e: EndpointProof) -> str:
    times = []
    for q in (0.5, 0.95, 0.99):
        before, after = at(e.quantiles_before, q), at(e.quantiles_after, q)
        ci = ""
        if after.ci_low_ms is not None and after.ci_high_ms is not None:
            ci = f" ({format_ms(after.ci_low_ms)} to {format_ms(after.ci_high_ms)})"
        times.append(f"{format_ms(before.value_ms)} → {format_ms(after.value_ms)}{ci}")
    ratio, interval = endpoint_ratio(e)
    return f"| {code(e.endpoint)} | {EFFECT_WORDS[e.verdict]} | {' | '.join(times)} | {ratio} ({interval}) |"


def _query(q: QueryProof) -> str:
    cells = [f"{prose(q.id)}: {prose(q.title)}", _VERDICTS[q.verdict], format_ms(q.limit_ms)]
    cells += [format_ms(q.p95_before_ms), format_ms(q.p95_after_ms), code(q.index) if q.index else "–"]
    return f"| {' | '.join(cells)} |"
