"""Which column each parameter of a statement is compared with, from the parse tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import postgast

Role = Literal["equal", "low", "high", "like", "any", "limit", "offset", "other"]
"""`low`: the column must be above the value; `high`: below it."""

_LOW, _HIGH = (">", ">="), ("<", "<=")
_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


class Binding(NamedTuple):
    number: int
    role: Role
    column: str | None = None
    tables: tuple[str, ...] = ()
    """Tables that may have the column: one where the text qualifies it, else all of the statement."""


def bindings(sql: str) -> list[Binding]:
    """One binding per parameter that is compared with a column or limits the result; none for what can't be parsed.

    >>> bindings("SELECT * FROM t WHERE a = $1 AND b BETWEEN $2 AND $3 LIMIT $4")[1]
    Binding(number=2, role='low', column='b', tables=('t',))
    """
    try:
        tree = postgast.parse(sql)
    except (postgast.PgQueryError, RecursionError):
        return []
    nodes = [node for _, node in postgast.walk(tree)]
    aliases = {
        (n.alias.aliasname if n.HasField("alias") else n.relname): n.relname
        for n in nodes
        if type(n).__name__ == "RangeVar"
    }
    found: dict[int, Binding] = {}
    for node in nodes:
        for b in _of_node(node, aliases):
            found.setdefault(b.number, b)
    return [found[n] for n in sorted(found)]


def _of_node(node: Any, aliases: dict[str, str]) -> Iterator[Binding]:
    kind = type(node).__name__
    if kind == "SelectStmt":
        for field, role in (("limit_count", "limit"), ("limit_offset", "offset")):
            if node.HasField(field):
                for number in _parameters(getattr(node, field)):
                    yield Binding(number, role)  # type: ignore[arg-type]  # mypy widens the literals of the tuple
    elif kind == "A_Expr" and node.name:
        left, right = node.lexpr, node.rexpr
        operator = node.name[-1].string.sval
        column = _column(left)
        if column is None:
            column, left, right = _column(right), right, left
            operator = _FLIPPED.get(operator, operator)
        if column is None:
            return
        qualifier, name = column
        tables = (aliases.get(qualifier, qualifier),) if qualifier else tuple(dict.fromkeys(aliases.values()))
        numbers = list(_parameters(right))
        for i, number in enumerate(numbers):
            yield Binding(number, _role(node, operator, i), name, tables)


def _role(node: Any, operator: str, position: int) -> Role:
    if node.kind in (postgast.pg_query_pb2.AEXPR_OP_ANY, postgast.pg_query_pb2.AEXPR_OP_ALL):
        return "any"
    if operator in ("BETWEEN", "BETWEEN SYMMETRIC"):
        return "low" if position == 0 else "high"
    if operator in _LOW:
        return "low"
    if operator in _HIGH:
        return "high"
    if operator in ("=", "<>"):
        return "equal"
    return "like" if operator in ("~~", "~~*", "!~~", "!~~*") else "other"


def _parameters(node: Any) -> Iterator[int]:
    for _, one in postgast.walk(node):
        if type(one).__name__ == "ParamRef":
            yield one.number


def _column(node: Any) -> tuple[str | None, str] | None:
    """The column that a side of a comparison is, casts aside."""
    one = postgast.unwrap_node(node)
    while type(one).__name__ == "TypeCast":
        one = postgast.unwrap_node(one.arg)
    if type(one).__name__ != "ColumnRef":
        return None
    names = [f.string.sval for f in one.fields if f.WhichOneof("node") == "string"]
    return ((names[-2] if len(names) > 1 else None), names[-1]) if names else None
