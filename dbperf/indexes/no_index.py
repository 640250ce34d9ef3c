"""Why a statement gets no index, and what to do instead: "no index" is an answer, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dbperf.indexes import candidates as make
from dbperf.indexes.costs import Planned
from dbperf.indexes.rewrites import facts_of, rewrites_of
from dbperf.indexes.search import Point
from dbperf.postgres.whatif import nodes
from dbperf.records.advice import Rejected, Rewrite
from dbperf.records.shadow import Relation
from dbperf.units import format_share

if TYPE_CHECKING:
    from dbperf.indexes.advise import Advisor

_MOST = 100
_UNSELECTIVE = 0.2
"""From this share of a table's rows on an index is rarely cheaper than reading the table (random_page_cost 4)."""
_WORTH_SAYING = 0.1
"""Of a statement's cost."""
_SERVED = 0.5
"""A statement whose cost falls below this share needs no rewriting."""


class NoIndex(NamedTuple):
    rejected: list[Rejected]
    rewrites: list[Rewrite]


def no_index(advisor: Advisor, chosen: Point, points: Sequence[Point]) -> NoIndex:
    """The statements that no chosen index serves, by weight, each with the reason; rewrites of those that stay dear."""
    mask = advisor.costs.mask(chosen.names)
    over = {n for p in points if p.objective < chosen.objective for n in p.names} - set(chosen.names)
    facts = facts_of(advisor.catalog)
    groups: dict[str, list[Planned]] = {}
    for s in advisor.statements:
        groups.setdefault(s.id, []).append(s)
    rejected: list[Rejected] = []
    rewrites: list[Rewrite] = list(advisor.workload.rewrites)
    seen = {(r.statement, r.rule_id) for r in rewrites}
    for id_ in sorted(groups, key=lambda i: -sum(s.calls * s.base for s in groups[i]))[: 2 * _MOST]:
        variants = groups[id_]
        before = sum(s.calls * s.base for s in variants)
        after = sum(s.calls * advisor.costs.cost(s, mask) for s in variants)
        served = any(advisor.costs.used(s, mask) for s in variants)
        if after > _SERVED * before or not before:
            dearest = max(variants, key=lambda s: s.calls * s.base)
            for r in rewrites_of(id_, dearest.text, dearest.plan, advisor.uses[dearest.key], facts):
                if (r.statement, r.rule_id) not in seen and (not served or r.rule_id in _WHATEVER_INDEX):
                    seen.add((r.statement, r.rule_id))
                    rewrites.append(r)
        if not served:
            rewritten = [r for r in rewrites if r.statement == id_ and r.rule_id in _INDEX_RULES]
            reason = "write it otherwise: see the rewrites" if rewritten else _why(advisor, variants, over)
            rejected.append(Rejected(sql=variants[0].text, statement=id_, reason=reason))
    return NoIndex(rejected[:_MOST], rewrites)


_INDEX_RULES = frozenset(
    {"index-unusable-cast", "index-unusable-wildcard", "order-by-random", "not-in-subquery", "or-across-tables"}
)
_WHATEVER_INDEX = frozenset({"order-by-random", "large-offset", "not-in-subquery"})


def _why(advisor: Advisor, variants: Sequence[Planned], over: set[str]) -> str:
    return next(_reasons(advisor, variants, over))


def _reasons(advisor: Advisor, variants: Sequence[Planned], over: set[str]) -> Iterator[str]:
    """What holds, the most telling first; the last always does."""
    tables = {t: advisor.relations[t] for s in variants for t in s.tables if t in advisor.relations}
    own = {n for s in variants for n in s.made}
    live = {n for s in variants for n in s.helped.union(advisor.costs.names(s.live))} & own
    if all(_small(r) and (r.tuples >= 0 or not r.pages) for r in tables.values()):
        pages = max((r.pages for r in tables.values()), default=0)
        yield f"its tables are small (below {max(pages + 1, 2)} pages): reading one is as fast as any index"
    if bare := sorted(f"{r.schema}.{r.name}" for r in tables.values() if r.tuples < 0 and r.pages):
        yield f"{bare[0]} was never analysed, so that nothing can be estimated: ANALYZE it and ask again"
    if all(r.kind == "foreign" or _small(r) for r in tables.values()):
        yield "its tables are foreign: an index belongs on their own server"
    if live & over:
        yield "the index for it does not fit the budget or the limits"
    specs = advisor.costs.specs
    if not live and any(n in specs and specs[n].method in ("hnsw", "ivfflat") for n in own):
        yield (
            "the planner compares all vectors rather than use an approximate index: it does not count what it reads "
            "from TOAST. Where that is slow, build the index and lower random_page_cost, or keep the vectors in the "
            "table (SET STORAGE PLAIN)"
        )
    if advisor.writes.keys() & tables.keys() and (gain := _gain(variants)):
        yield (
            f"an index would lower its cost by {format_share(gain)}, which is less than what the workload's writes "
            "would pay for it"
        )
    if used := _serving(variants, tables):
        yield f"{', '.join(used)} {'serves' if len(used) == 1 else 'serve'} it already"
    if reads := _unselective(variants, tables):
        name, share = reads
        yield f"it reads {format_share(share)} of {name}'s rows: reading the table in one go costs less than an index"
    if not own:
        yield "it has no condition, join or order that an index could serve"
    if live:
        yield "an index would help it less than the noise of the statistics, or costs more in writes than it saves"
    yield "the planner keeps its plan, whichever index is there"


def _gain(variants: Sequence[Planned]) -> float:
    """The share of its cost (0..1) that one of its own candidates saves; 0 where that is too little to say."""
    before = sum(s.calls * s.base for s in variants)
    after = sum(s.calls * min([s.base, *(k.cost for k in s.known if k.used & s.own)]) for s in variants)
    return 1 - after / before if before and after < (1 - _WORTH_SAYING) * before else 0.0


def _small(r: Relation) -> bool:
    return r.kind not in ("partitioned", "foreign") and r.pages < make.SMALLEST_PAGES


def _serving(variants: Sequence[Planned], tables: Mapping[tuple[str, str], Relation]) -> list[str]:
    """Existing indexes by which every scan of a big table is done."""
    big = {r.name for r in tables.values() if not _small(r)}
    found: dict[str, None] = {}
    for s in variants:
        for node in nodes(s.plan or {}):
            if node["Node Type"] == "Seq Scan" and node.get("Relation Name") in big:
                return []
            if "Index Name" in node and ("Index Cond" in node or node["Node Type"] != "Bitmap Index Scan"):
                found[node["Index Name"]] = None
    return list(found)


def _unselective(variants: Sequence[Planned], tables: Mapping[tuple[str, str], Relation]) -> tuple[str, float] | None:
    """The largest table that is read from start to end for a good part of its rows, and that part (0..1)."""
    by_name = {r.name: r for r in tables.values()}
    found: list[tuple[float, str, float]] = []
    for s in variants:
        for node in nodes(s.plan or {}):
            r = by_name.get(node.get("Relation Name", ""))
            if node["Node Type"] != "Seq Scan" or r is None or _small(r):
                continue
            # A parallel scan tells each worker's part.
            share = min(1.0, node["Plan Rows"] * (2.4 if node.get("Parallel Aware") else 1.0) / max(r.tuples, 1.0))
            if share >= _UNSELECTIVE:
                found.append((r.tuples, r.name, share))
    return max(found)[1:] if found else None
