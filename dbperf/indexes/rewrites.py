"""Statements that no index mends: what to write instead, in the words of the rules for plans.

The plan is the planner's own for an empty set of candidates, so that the rules judge by estimates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import postgast

from dbperf.errors import PlanError
from dbperf.indexes.clauses import StatementUse
from dbperf.indexes.parse_tree import Tree, column_path, function_name, inner, kind, of_kind, operator
from dbperf.plans.read_json import plans_from_data
from dbperf.plans.rules import Facts, Table, find
from dbperf.plans.rules.base import Index
from dbperf.plans.rules.order import KEYSET
from dbperf.plans.rules.subqueries import NOT_EXISTS
from dbperf.postgres.whatif import PlanJson
from dbperf.records.advice import Rewrite
from dbperf.records.plans import Finding
from dbperf.records.shadow import Catalog, Column

_MANY_ROWS = 10_000
"""As the rules for plans: below, nothing is worth rewriting."""
_FAR_OFFSET = 1000
_FROM_PLANS = frozenset({"index-unusable-cast", "index-unusable-wildcard", "or-across-tables", "cte-materialised-once"})
_DAY = ("date", "date_trunc")


def rewrites_of(id_: str, text: str, plan: PlanJson | None, use: StatementUse, facts: Facts) -> list[Rewrite]:
    """What to write instead of a statement on a table worth the trouble; nothing where its text does not parse."""
    if not any(t.relation.tuples >= _MANY_ROWS for t in use.tables):
        return []
    try:
        statements = postgast.parse(text).stmts
    except postgast.PgQueryError:
        return []
    found = [r for s in statements for r in _of_tree(id_, s, use)]
    seen = {r.rule_id for r in found}
    return found + [r for r in _of_plan(id_, text, plan, facts) if r.rule_id not in seen]


def facts_of(catalog: Catalog) -> Facts:
    """The catalog as the rules for plans want it."""
    found: Facts = {}
    for r in catalog.relations:
        table = Table(
            schema=r.schema,
            name=r.name,
            rows=r.tuples,
            types={c.name: c.type for c in r.columns},
            indexes=tuple(
                Index(
                    name=i.name,
                    columns=tuple(i.keys),
                    method=i.method,
                    pattern_ops=any("pattern_ops" in o for o in i.operator_classes[:1]),
                    partial=i.predicate is not None,
                )
                for i in r.indexes
            ),
            statistics=any(c.statistics for c in r.columns),
            pages=r.pages,
        )
        found[r.schema, r.name] = table
        found.setdefault((None, r.name), table)
    return found


def _of_tree(id_: str, statement: Tree, use: StatementUse) -> Iterator[Rewrite]:
    selects = list(of_kind(statement, "select_stmt"))
    if any(function_name(c) == "random" for s in selects for sort in s.sort_clause for c in _calls(sort)):
        yield Rewrite(
            statement=id_,
            rule_id="order-by-random",
            reason="ORDER BY random() computes a number for every row and sorts them all, and no index can hold it: "
            "TABLESAMPLE, or the first rows from a random key on (WHERE id >= $1 ORDER BY id LIMIT n)",
        )
    offset = next((o for s in selects if kind(s.limit_offset) and (o := _far(s.limit_offset))), None)
    if offset:
        yield Rewrite(
            statement=id_,
            rule_id="large-offset",
            reason=f"OFFSET {offset} reads and drops all rows before the page, with an index too: {KEYSET}",
        )
    columns = {c.name: c for t in use.tables for c in t.relation.columns}
    for s in selects:
        for negated in (e for e in of_kind(s.where_clause, "bool_expr") if e.boolop == postgast.pg_query_pb2.NOT_EXPR):
            yield from _not_in(id_, negated, columns)
        if kind(s.where_clause) == "bool_expr" and s.where_clause.bool_expr.boolop == postgast.pg_query_pb2.NOT_EXPR:
            yield from _not_in(id_, s.where_clause.bool_expr, columns)
        for comparison in _comparisons(s.where_clause):
            wrapped = _day_of(comparison)
            if wrapped in columns and columns[wrapped].type.endswith("with time zone"):
                yield Rewrite(
                    statement=id_,
                    rule_id="index-unusable-cast",
                    reason=f"{wrapped} is cut to a day in every row, by the session's time zone, so that no index can "
                    f"hold it: write a half-open range, {wrapped} >= day AND {wrapped} < day + 1",
                )


def _calls(node: Tree) -> Iterator[Tree]:
    yield from of_kind(inner(node), "func_call")


def _far(node: Tree) -> str | None:
    """An OFFSET worth a word: a big number, or whatever a parameter brings."""
    if kind(node) == "param_ref":
        return f"${node.param_ref.number}"
    if kind(node) == "a_const" and (value := node.a_const.ival.ival) >= _FAR_OFFSET:
        return str(value)
    return None


def _not_in(id_: str, negated: Tree, columns: dict[str, Column]) -> Iterator[Rewrite]:
    """NOT (x IN (SELECT y)): it can't become an anti-join, and a NULL among the y leaves no row at all."""
    for node in negated.args:
        if kind(node) != "sub_link" or node.sub_link.sub_link_type != postgast.pg_query_pb2.ANY_SUBLINK:
            continue
        outputs = [inner(t).val for t in inner(node.sub_link.subselect).target_list]
        names = [column_path(o.column_ref)[-1] for o in outputs if kind(o) == "column_ref"]
        nullable = [n for n in names if n in columns and not columns[n].not_null]
        trap = f"{nullable[0]} may be NULL, and a single NULL leaves no row at all; " if nullable else ""
        yield Rewrite(
            statement=id_,
            rule_id="not-in-subquery",
            reason=f"NOT IN (SELECT ...) compares every row with the whole list, whatever index there is: {trap}"
            + NOT_EXISTS,
        )


def _comparisons(node: Tree) -> Iterator[Tree]:
    """Comparisons that are joined by AND."""
    if kind(node) == "a_expr":
        yield node.a_expr
    elif kind(node) == "bool_expr" and node.bool_expr.boolop == postgast.pg_query_pb2.AND_EXPR:
        for arm in node.bool_expr.args:
            yield from _comparisons(arm)


def _day_of(comparison: Tree) -> str | None:
    """The column of "at::date = x", "date(at) = x" or "date_trunc('day', at) = x"."""
    if operator(comparison) not in ("=", "<", "<=", ">", ">=", "BETWEEN"):
        return None
    for side in (comparison.lexpr, comparison.rexpr):
        refs: list[Tree] = []
        if kind(side) == "type_cast" and side.type_cast.type_name.names[-1].string.sval == "date":
            refs = [side.type_cast.arg]
        elif kind(side) == "func_call" and function_name(side.func_call) in _DAY:
            refs = list(side.func_call.args)
        if found := next((r for r in refs if kind(r) == "column_ref"), None):
            return column_path(found.column_ref)[-1]
    return None


def _of_plan(id_: str, text: str, plan: PlanJson | None, facts: Facts) -> Iterator[Rewrite]:
    if plan is None:
        return
    try:
        [read] = plans_from_data([{"Plan": plan}])
    except (PlanError, ValueError):
        return
    findings: Sequence[Finding] = find(read, statement=text, facts=facts)
    for f in findings:
        if f.rule_id in _FROM_PLANS:
            words = re.sub(r"^the whole table is to be read: ", "", f.advice)
            sql = f.sql if f.rule_id == "index-unusable-wildcard" else None
            yield Rewrite(statement=id_, rule_id=f.rule_id, reason=f"{f.node or 'the statement'}: {words}", sql=sql)
