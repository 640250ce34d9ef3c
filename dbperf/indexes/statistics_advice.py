"""CREATE STATISTICS where a wrong row estimate is the cause: from plans that were executed.

The rule row-estimate finds where an error starts and of which kind it is. Columns that depend on each other want
functional dependencies (for equalities) and most common combinations; groups want the number of combinations; a
function of a column wants statistics of the expression (PostgreSQL's manual, "Extended Statistics").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from dbperf.indexes.affected import defined
from dbperf.indexes.rewrites import facts_of
from dbperf.plans.expressions import compared
from dbperf.plans.fingerprint import literals_masked, shape
from dbperf.plans.rules import find
from dbperf.plans.tree import walk
from dbperf.records.advice import StatisticsAdvice, quoted
from dbperf.records.plans import PlanNode, StatementPlan
from dbperf.records.shadow import Catalog, Relation, WorkloadStatement

_NAME_BYTES = 63
_COLUMNS_MOST = 8
"""CREATE STATISTICS takes no more."""
_QUALIFIED = re.compile(r"^(?:(?P<alias>\w+|\"(?:[^\"]|\"\")+\")\.)?(?P<column>\w+|\"(?:[^\"]|\"\")+\")$")


class _Wanted(NamedTuple):
    kinds: tuple[str, ...]
    """Empty: of an expression."""
    targets: tuple[str, ...]
    """Columns, or one expression."""
    words: str


class _Seen(NamedTuple):
    relation: Relation
    wanted: _Wanted
    node: PlanNode
    id: str | None

    @property
    def factor(self) -> float:
        error = self.node.row_error or 1.0
        return max(error, 1 / error)


def statistics_advice(
    plans: Iterable[StatementPlan], statements: Sequence[WorkloadStatement], catalog: Catalog
) -> list[StatisticsAdvice]:
    """Statistics objects to create, the worst misestimate first; nothing for plans without actual rows."""
    facts = facts_of(catalog)
    relations: dict[tuple[str | None, str], Relation] = {}
    for r in catalog.relations:
        relations[r.schema, r.name] = r
        relations.setdefault((None, r.name), r)
    ids = {_key(s.text): s.id for s in statements}
    seen: dict[tuple[str, str, tuple[str, ...]], list[_Seen]] = {}
    for p in plans:
        if p.plan is None or not p.plan.analyzed:
            continue
        by_id = {n.node_id: n for n in walk(p.plan.root)}
        for f in find(p.plan, statement=p.text, facts=facts):
            if f.rule_id != "row-estimate" or f.node_id is None:
                continue
            node, cause = by_id[f.node_id], str(f.evidence["cause"])
            source = node if node.node_type != "Aggregate" else _only_scan(node)
            relation = relations.get((source.schema, source.relation or "")) if source is not None else None
            wanted = _wanted(cause, node, relation) if relation is not None else None
            if relation is None or wanted is None or _exists(wanted, relation, catalog):
                continue
            one = _Seen(relation, wanted, node, ids.get(_key(p.text)))
            seen.setdefault((relation.schema, relation.name, wanted.targets), []).append(one)
    found = [_advice(several) for several in seen.values()]
    return _named(sorted(found, key=lambda s: (-s.factor, s.create_sql)))


def _key(text: str) -> str:
    return shape(literals_masked(text) or text)


def _only_scan(node: PlanNode) -> PlanNode | None:
    """The scan that an aggregate's rows come from; None where tables are joined."""
    scans = [n for n in walk(node) if n.relation is not None]
    return scans[0] if len({(n.schema, n.relation) for n in scans}) == 1 else None


def _wanted(cause: str, node: PlanNode, relation: Relation) -> _Wanted | None:
    columns = {c.name for c in relation.columns}
    if cause == "correlated columns":
        conditions = [c for k in ("Index Cond", "Recheck Cond", "Filter") for c in compared(node.conditions.get(k, ""))]
        names = sorted({c.column for c in conditions if not c.function} & columns)[:_COLUMNS_MOST]
        equal = sum(c.kind == "equal" for c in conditions) > 1
        kinds = ("dependencies", "mcv") if equal else ("mcv",)
        words = f"{', '.join(names)} depend on each other, and the planner multiplies as if they did not"
        return _Wanted(kinds, tuple(names), words) if len(names) > 1 else None
    if cause == "missing extended statistics":
        keys = [m for k in node.extra.get("Group Key", ()) if (m := _QUALIFIED.match(str(k)))]
        names = sorted({_bare(m["column"]) for m in keys} & columns)[:_COLUMNS_MOST]
        if len(names) < 2 or len(keys) != len(node.extra.get("Group Key", ())):
            return None
        return _Wanted(("ndistinct",), tuple(names), f"the number of combinations of {', '.join(names)} is guessed")
    if cause == "function":
        found = next((c for k in ("Index Cond", "Recheck Cond", "Filter") for c in compared(node.conditions.get(k, ""))
                      if c.function), None)  # fmt: skip
        if found is not None and found.function is not None and found.column in columns:
            words = f"the planner knows nothing about the values of {found.function}"
            return _Wanted((), (found.function,), words)
    return None


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _exists(wanted: _Wanted, relation: Relation, catalog: Catalog) -> bool:
    """Whether an object has these statistics already: then ANALYZE or a larger target is what is missing."""
    return any(
        d.relation is relation
        and ((set(wanted.targets) <= d.columns and set(wanted.kinds) <= d.kinds) if wanted.kinds else d.expressions)
        for d in defined(catalog)
    )


def _advice(seen: Sequence[_Seen]) -> StatisticsAdvice:
    """One object for all that was seen of the same columns; the figures are those of the worst."""
    worst = max(seen, key=lambda x: x.factor)
    relation, wanted, node = worst.relation, worst.wanted, worst.node
    actual, expected = node.actual_rows or 0.0, node.plan_rows or 0.0
    kinds = tuple(k for k in ("ndistinct", "dependencies", "mcv") if any(k in x.wanted.kinds for x in seen))
    words = "; ".join(dict.fromkeys(x.wanted.words for x in seen))
    return StatisticsAdvice(
        name="_".join(["st", relation.name, *(re.sub(r"\W+", "_", t).strip("_") for t in wanted.targets)]),
        schema=relation.schema,
        table=relation.name,
        create_sql=_sql(relation, kinds, wanted.targets, "{name}"),
        drop_sql="DROP STATISTICS IF EXISTS {name};",
        rows=actual,
        rows_estimated=expected,
        factor=round(worst.factor, 1),
        statements=list(dict.fromkeys(x.id for x in seen if x.id is not None)),
        reason=f"{words}: {actual:,.0f} rows where {expected:,.0f} were expected (factor {worst.factor:,.0f}), and "
        "plans are chosen by that number, whatever index there is",
    )


def _sql(relation: Relation, kinds: Sequence[str], targets: Sequence[str], name: str) -> str:
    table = f"{quoted(relation.schema)}.{quoted(relation.name)}"
    on = ", ".join(map(quoted, targets)) if kinds else f"({targets[0]})"
    of_kinds = f"({', '.join(kinds)}) " if kinds else ""
    return f"CREATE STATISTICS {name} {of_kinds}ON {on} FROM {table}; ANALYZE {table};"


def _named(found: Sequence[StatisticsAdvice]) -> list[StatisticsAdvice]:
    """Names within 63 bytes, each once."""
    counts: dict[str, int] = {}
    named = []
    for s in found:
        base = s.name.encode()[: _NAME_BYTES - 3].decode(errors="ignore")
        counts[base] = counts.get(base, 0) + 1
        name = base if counts[base] == 1 else f"{base}_{counts[base]}"
        public = f"{quoted(s.schema)}.{quoted(name)}"
        named.append(
            msgspec.structs.replace(
                s,
                name=name,
                create_sql=s.create_sql.replace("{name}", public, 1),
                drop_sql=s.drop_sql.replace("{name}", public, 1),
            )
        )
    return named
