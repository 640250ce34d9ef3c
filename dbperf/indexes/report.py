"""Turns a chosen set into recommendations with names, reasons and SQL."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbperf.indexes import candidates as make
from dbperf.indexes.affected import affected_notes
from dbperf.indexes.clauses import StatementUse
from dbperf.indexes.costs import Mask, Planned
from dbperf.indexes.no_index import no_index
from dbperf.indexes.search import Point
from dbperf.indexes.statistics_advice import statistics_advice
from dbperf.indexes.writes import blocks_hot
from dbperf.records.advice import OVER_LIMITS, Advice, BudgetPoint, IndexSpec, Recommendation, Rejected, StatementCost
from dbperf.records.shadow import Index, Relation
from dbperf.units import format_share

if TYPE_CHECKING:
    from dbperf.indexes.advise import Advisor

_REJECTED_MOST = 100
_NAME_BYTES = 63


def build_advice(advisor: Advisor, chosen: Point, points: Sequence[Point], *, complete: bool) -> Advice:
    """The document for a chosen set; `points` is the whole frontier."""
    mask = advisor.costs.mask(chosen.names)
    before = sum(s.calls * s.base for s in advisor.statements)
    after = _weighted(advisor, mask) + sum(advisor.write_cost(n) for n in chosen.names)
    taken = {i.name for r in advisor.catalog.relations for i in r.indexes}
    recommendations = []
    for name in chosen.names:
        recommendations.append(_recommendation(advisor, name, mask, taken))
    recommendations.sort(key=lambda r: (-r.gain, r.name))
    curve = [
        BudgetPoint(
            size_bytes=p.size_bytes,
            cost=_weighted(advisor, advisor.costs.mask(p.names)) + sum(advisor.write_cost(n) for n in p.names),
            indexes=[advisor.costs.specs[n].create_sql("…") for n in p.names],
        )
        for p in points
    ]
    without = no_index(advisor, chosen, points)
    return Advice(
        planner="hypopg" if advisor.planner.name == "hypopg" else "shadow",
        source=advisor.catalog.source,
        server_version=advisor.catalog.server_version,
        what_if_calls=advisor.planner.calls,
        elapsed_s=time.monotonic() - advisor.started,
        budget_bytes=advisor.request.budget_bytes,
        cost_before=before,
        cost_after=after,
        size_bytes=chosen.size_bytes,
        recommendations=recommendations,
        rejected=_rejected(advisor, chosen, points) + without.rejected,
        statements=_statement_costs(advisor, mask),
        skipped=advisor.skipped,
        curve=curve,
        redundant=_redundant(advisor),
        rewrites=without.rewrites,
        statistics=statistics_advice(advisor.workload.plans, advisor.source, advisor.catalog),
        notes=[f"{n.object}: {n.reason}" for n in advisor.catalog.notes] + _misled(advisor),
        complete=complete,
    )


def _misled(advisor: Advisor) -> list[str]:
    """The target's own planner has all statistics."""
    if advisor.planner.name == "hypopg":
        return []
    uses: dict[str, list[StatementUse]] = {}
    for s in advisor.statements:
        uses.setdefault(s.id, []).append(advisor.uses[s.key])
    return affected_notes(advisor.catalog, uses)


def _statement_costs(advisor: Advisor, mask: Mask) -> list[StatementCost]:
    """Costs per call; of a statement with variants the mean over its calls."""
    groups: dict[str, list[Planned]] = {}
    for s in advisor.statements:
        groups.setdefault(s.id, []).append(s)
    found = []
    for key, variants in groups.items():
        calls = sum(s.calls for s in variants)
        weights = [s.calls / calls if calls else 1 / len(variants) for s in variants]
        found.append(
            StatementCost(
                id=key,
                calls=calls,
                cost_before=sum(w * s.base for w, s in zip(weights, variants, strict=True)),
                cost_after=sum(w * advisor.costs.cost(s, mask) for w, s in zip(weights, variants, strict=True)),
                text=variants[0].text,
            )
        )
    return found


def _weighted(advisor: Advisor, mask: Mask) -> float:
    return sum(s.calls * advisor.costs.cost(s, mask) for s in advisor.statements)


def _recommendation(advisor: Advisor, name: str, mask: Mask, taken: set[str]) -> Recommendation:
    spec, size, bit = advisor.costs.specs[name], advisor.pool.sizes[name], advisor.costs.bits[name]
    relation = advisor.relations[spec.schema, spec.table]
    users: list[tuple[Planned, float, float]] = []
    gain = share = 0.0
    for s in advisor.statements:
        if (spec.schema, spec.table) not in s.tables:
            continue
        if not advisor.costs.used(s, mask) & bit:
            continue
        after = advisor.costs.cost(s, mask)
        users.append((s, s.base, after))
        lost = advisor.costs.cost(s, mask & ~bit) - after
        gain += s.calls * lost
        share += advisor.coefficients[s.key] * lost
    written = advisor.write_cost(name)
    public = _index_name(spec, taken)
    replaced = [i for i in relation.indexes if replaces(spec, i)]
    create = spec.create_sql(public, concurrently=relation.kind != "partitioned")
    quoted = make.table_sql(spec.schema, public)
    return Recommendation(
        name=public,
        schema=spec.schema,
        table=spec.table,
        method=spec.method,
        create_sql=f"{create};",
        drop_sql=f"DROP INDEX {'' if relation.kind == 'partitioned' else 'CONCURRENTLY '}IF EXISTS {quoted};",
        size_bytes=size.size_bytes,
        gain=share - advisor.write_share(name),
        gain_cost=gain - written,
        write_cost=written,
        statements=list(dict.fromkeys(s.id for s, _, _ in users)),
        makes_redundant=[f"{i.schema}.{i.name}" for i in replaced],
        blocks_hot_updates=blocks_hot(spec, advisor.writes),
        reason=_reason(spec, users, replaced, size.size_bytes, relation, advisor.asked_for.get(name)),
    )


def _reason(
    spec: IndexSpec, users: Sequence[tuple[Planned, float, float]], replaced: Sequence[Index], size: int, r: Relation,
    asked_for: str | None,
) -> str:  # fmt: skip
    parts = [f"{asked_for}'s service level asks for an index"] if asked_for else []
    if users:
        s, base, after = max(users, key=lambda u: u[0].calls * (u[1] - u[2]))
        ratio = f"{base / after:.1f} times" if after > 0 else "much"
        count = len({u[0].id for u in users})
        who = "one statement uses it:" if count == 1 else f"{count} statements use it, most of all"
        parts.append(f"{who} {s.id}, whose cost falls {ratio}")
    if spec.predicate:
        parts.append(f"holds only rows where {spec.predicate}")
    if any(k.expression for k in spec.keys):
        parts.append("run ANALYZE once it is built: it brings statistics of the expression")
    if spec.include:
        parts.append(f"answers from the index alone thanks to INCLUDE ({', '.join(spec.include)})")
    if spec.method in ("hnsw", "ivfflat"):
        parts.append("an approximate index: check the recall of its answers when it is verified")
    if spec.method == "brin":
        parts.append("the table is stored in the column's order, so that a summary of its blocks is enough")
    if replaced:
        parts.append(f"replaces {', '.join(i.name for i in replaced)}, which can be dropped")
    if r.tuples < 0:
        parts.append("the table was never analysed, so that this is a guess: ANALYZE it and ask again")
    table = r.pages * 8192
    if table:
        # Vectors are mostly out of line: relpages knows nothing of TOAST.
        without = ", TOAST not counted" if spec.method in ("hnsw", "ivfflat") else ""
        parts.append(f"{format_share(size / table)} of the table's size{without}")
    return "; ".join(parts)


def replaces(spec: IndexSpec, index: Index) -> bool:
    """Whether a new index does all that an existing one does, which then only costs."""
    if index.unique or index.constraint or index.method != "btree" or spec.method != "btree" or not index.valid:
        return False
    columns = [k.column or k.expression or "" for k in spec.keys]
    return (
        index.predicate == spec.predicate
        and columns[: len(index.keys)] == index.keys
        and [k.descending for k in spec.keys][: len(index.keys)] == index.descending
        and set(index.include) <= {*spec.include, *columns}
        and all(not o for o in index.operator_classes)
    )


def _index_name(spec: IndexSpec, taken: set[str]) -> str:
    """idx_<table>_<keys>, at most 63 bytes, not taken; enters it in `taken`."""
    keys = [k.column or re.sub(r"\W+", "_", k.expression or "").strip("_") for k in spec.keys]
    suffix = {"btree": ""}.get(spec.method, f"_{spec.method}")
    base = "_".join(["idx", spec.table, *keys]) + ("_part" if spec.predicate else "") + suffix
    if base in taken and spec.include:
        base = "_".join([base, "incl", *spec.include])
    n = 1
    while True:
        tail = "" if n == 1 else f"_{n}"
        name = base.encode()[: _NAME_BYTES - len(tail)].decode(errors="ignore") + tail
        if name not in taken:
            taken.add(name)
            return name
        n += 1


def _rejected(advisor: Advisor, chosen: Point, points: Sequence[Point]) -> list[Rejected]:
    """Why candidates that helped somewhere are not in the set, and tables on which none can."""
    found = list(advisor.pool.rejected)
    better = [p for p in points if p.objective < chosen.objective]
    over = {n for p in better for n in p.names} - set(chosen.names)
    helped = 0
    users: set[str] = set()
    for s in advisor.statements:
        helped |= s.live
        users |= s.helped
    users.update(advisor.costs.names(helped))
    chosen_specs = [advisor.costs.specs[n] for n in chosen.names]
    for spec, name in sorted(advisor.pool.name_of.items(), key=lambda x: x[1]):
        if name in chosen.names or name not in advisor.costs.specs:
            continue
        if name in advisor.costs.skipping:
            reason = "only PostgreSQL 18 can use it (it skips over the leading column); the target is older"
        elif name not in users:
            continue
        elif any(make.prefix_of(spec, c) for c in chosen_specs):
            reason = "a chosen index begins with the same keys"
        elif name in over:
            reason = OVER_LIMITS
        else:
            reason = "chosen indexes do its work, or it gains less than the noise of the statistics"
        found.append(Rejected(sql=spec.create_sql("…"), table=f"{spec.schema}.{spec.table}", reason=reason))
    tables = {t for s in advisor.statements for t in s.tables}
    for t in sorted(tables):
        r = advisor.relations.get(t)
        if r and r.kind == "table" and r.pages < make.SMALLEST_PAGES:
            reason = f"the table has {r.pages} pages: reading it is as fast as any index"
            found.append(Rejected(sql="", table=f"{r.schema}.{r.name}", reason=reason))
    return found[:_REJECTED_MOST]


def _redundant(advisor: Advisor) -> list[Rejected]:
    found = []
    for r in advisor.catalog.relations:
        for index, other in make.redundant(r):
            sql = f"DROP INDEX CONCURRENTLY {make.table_sql(index.schema, index.name)};"
            reason = f"{other.name} does the same"
            found.append(Rejected(sql=sql, table=f"{r.schema}.{r.name}", reason=reason))
    return found
