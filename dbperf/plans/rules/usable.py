"""Conditions that an index on the column can't serve: the column is wrapped, cast, or matched from the middle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from dbperf.plans.expressions import Compared, compared, create_index, is_relabel, quote
from dbperf.plans.rules.base import Context, Seen, Table, count, removed, rows_out, rule
from dbperf.records.plans import PlanNode

_Kind = Literal["function", "cast", "wildcard", "prefix"]
_WILDCARD = re.compile(r"^(?:\\.|[^%_\\])*")
_TEXT = ("text", "character varying", "character", "name", "citext")


class Obstacle(NamedTuple):
    kind: _Kind
    comparison: Compared


def obstacle(context: Context, node: PlanNode) -> Obstacle | None:
    """The first comparison of a scan's filter that keeps an index from being used, where no other could serve."""
    if "Filter" not in node.conditions:
        return None
    found = [(_kind(context, node, c), c) for c in compared(node.conditions["Filter"])]
    # One comparison that an index can serve is enough: the rule about the missing index says it.
    if any(kind is None and c.kind in ("equal", "range") for kind, c in found):
        return None
    return next((Obstacle(kind, c) for kind, c in found if kind is not None), None)


def _kind(context: Context, node: PlanNode, c: Compared) -> _Kind | None:
    if c.kind in ("equal", "range") and c.function is not None:
        return "function"
    if c.kind in ("equal", "range") and c.cast_to is not None:
        return "cast" if _real_cast(context.table(node), c) else None
    if c.kind == "like" and c.constant is not None:
        fixed = _WILDCARD.match(c.constant)
        if c.operator == "~~*" or fixed is None or not fixed[0]:
            return "wildcard"
        return "prefix" if len(fixed[0]) < len(c.constant) else None
    return None


def _real_cast(table: Table | None, c: Compared) -> bool:
    """Whether the cast changes the value; between varchar and text it does not, and an index can be used."""
    if table is not None and c.column in table.types:
        return not (is_relabel(c) and table.types[c.column].startswith(_TEXT))
    return not is_relabel(c)


def _obstructed(
    context: Context, kind: _Kind
) -> Iterator[tuple[PlanNode, Compared, dict[str, float | int | str | None]]]:
    for node in context.of_type("Seq Scan"):
        found = obstacle(context, node)
        if found is None or found.kind != kind:
            continue
        lost, kept = removed(node), rows_out(node)
        if node.loops is not None and (
            lost < context.at.many_rows
            or lost < context.at.discarded * (lost + kept)
            or not context.matters(node.self_ms)
        ):
            continue
        if node.loops is None and not _big(context, node):
            continue
        yield (
            node,
            found.comparison,
            {"rows_read": lost + kept, "rows_kept": kept}
            if node.loops is not None
            else {"rows_kept_estimated": node.plan_rows},
        )


def _big(context: Context, node: PlanNode) -> bool:
    table = context.table(node)
    return table is not None and table.rows >= context.at.big_table_rows


def _read(node: PlanNode) -> str:
    if node.loops is None:
        return "the whole table is to be read"
    return f"{count(removed(node) + rows_out(node))} rows are read to keep {count(rows_out(node))}"


@rule("index-unusable-function", "Function on the column hides it from its index")
def index_unusable_function(context: Context) -> Iterator[Seen]:
    """An index on a column knows nothing about a function of it."""
    for node, c, evidence in _obstructed(context, "function"):
        expression = c.function or c.column
        yield Seen(
            node,
            {**evidence, "expression": expression},
            node.self_ms,
            f"{_read(node)}: the condition is about {expression}, which an index on {c.column} does not have. Compare"
            " the bare column, or index the expression",
            create_index(node.schema, node.relation or "?", [f"({expression})"]),
        )


@rule("index-unusable-cast", "Cast of the column hides it from its index")
def index_unusable_cast(context: Context) -> Iterator[Seen]:
    """A parameter of another type than the column's makes PostgreSQL convert the column, row by row."""
    for node, c, evidence in _obstructed(context, "cast"):
        yield Seen(
            node,
            {**evidence, "column": c.column, "cast_to": c.cast_to},
            node.self_ms,
            f"{_read(node)}: {c.column} is converted to {c.cast_to} in every row. Give the value in the column's own"
            " type (check what the driver or ORM sends), and an index on the column can be used",
            create_index(node.schema, node.relation or "?", [quote(c.column)]),
        )


@rule("index-unusable-wildcard", "Pattern with a leading wildcard")
def index_unusable_wildcard(context: Context) -> Iterator[Seen]:
    """A B-tree finds beginnings, and LIKE '%x' has none."""
    for node, c, evidence in _obstructed(context, "wildcard"):
        target = f"({c.function})" if c.function else quote(c.column)
        index = create_index(node.schema, node.relation or "?", [f"{target} gin_trgm_ops"], using="USING gin ")
        yield Seen(
            node,
            {**evidence, "column": c.column, "operator": "ILIKE" if c.operator == "~~*" else "LIKE"},
            node.self_ms,
            f"{_read(node)}: a pattern that starts with a wildcard (or ignores case) can't use a B-tree. A trigram"
            " index serves it",
            f"CREATE EXTENSION IF NOT EXISTS pg_trgm;\n{index}",
        )


@rule("index-unusable-collation", "Pattern with a prefix, and no index that sorts by bytes")
def index_unusable_collation(context: Context) -> Iterator[Seen]:
    """LIKE 'prefix%' needs an index in the order of bytes: text_pattern_ops, or the C collation."""
    for node, c, evidence in _obstructed(context, "prefix"):
        table = context.table(node)
        existing = next((i for i in table.indexes if i.columns[:1] == (c.column,)), None) if table else None
        target = f"({c.function})" if c.function else quote(c.column)
        why = (
            f"the index {existing.name} sorts by the column's collation, in which a prefix is no range"
            if existing is not None and not existing.pattern_ops
            else "there is no index that sorts by bytes"
        )
        yield Seen(
            node,
            {**evidence, "column": c.column, "index": existing.name if existing else None},
            node.self_ms,
            f"{_read(node)}: {why}. One with text_pattern_ops serves LIKE 'prefix%'",
            create_index(node.schema, node.relation or "?", [f"{target} text_pattern_ops"]),
        )
