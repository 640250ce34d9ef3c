"""What a plan's conditions compare: "((status = 'open'::text) AND (lower(email) = $1))" into columns and operators.

EXPLAIN prints expressions as SQL, with a few words of its own for sub-plans; postgast (PostgreSQL's parser) reads them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import postgast

_OWN_WORDS = re.compile(r"\(?\b(?:hashed )?(?:SubPlan|InitPlan) \d+\)?(?:\.col\d+)?|alternatives: ")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
_RELABEL = frozenset({"text", "varchar", "bpchar", "regclass"})
Kind = Literal["equal", "range", "like", "other"]


class Compared(NamedTuple):
    """One comparison of a column with something that is not a column."""

    column: str
    table: str | None
    """As qualified in the text: an alias."""
    operator: str
    kind: Kind
    function: str | None = None
    """The expression around the column, as SQL, where it is not bare."""
    cast_to: str | None = None
    """The type that the column is cast to."""
    constant: str | None = None
    """The other side, where it is a string constant."""


@functools.lru_cache(maxsize=512)
def parse(expression: str) -> Any | None:
    """The parse tree of an expression, or None where it is none that SQL knows."""
    text = _OWN_WORDS.sub("NULL", expression)
    try:
        statement = postgast.parse(f"SELECT 1 WHERE {text}").stmts[0].stmt.select_stmt
    except (postgast.PgQueryError, RecursionError, ValueError):
        return None
    return statement.where_clause


def conjuncts(expression: str) -> list[Any]:
    """The parts of an expression that are joined by AND."""
    root = parse(expression)
    if root is None:
        return []
    found, stack = [], [postgast.unwrap_node(root)]
    while stack:
        node = stack.pop()
        if type(node).__name__ == "BoolExpr" and node.boolop == postgast.pg_query_pb2.AND_EXPR:
            stack.extend(postgast.unwrap_node(a) for a in reversed(node.args))
        else:
            found.append(node)
    return found


def compared(expression: str) -> list[Compared]:
    """The comparisons of an expression's conjuncts.

    >>> [(c.column, c.kind, c.function) for c in compared("((a = 1) AND (lower(t.b) = 'x'::text) AND (c > $1))")]
    [('a', 'equal', None), ('b', 'equal', 'lower(b)'), ('c', 'range', None)]
    """
    return [c for node in conjuncts(expression) if (c := _compared(node)) is not None]


def _compared(node: Any) -> Compared | None:
    name = type(node).__name__
    if name == "ColumnRef":  # a boolean column by itself
        return _of_column(node, "=", "equal")
    if name != "A_Expr" or not node.name:
        return None
    left, right = postgast.unwrap_node(node.lexpr), postgast.unwrap_node(node.rexpr)
    operator = node.name[-1].string.sval
    if not any(True for _ in columns_in(left)):
        left, right = right, left
    if any(True for _ in columns_in(right)):
        return None  # a join condition
    kind: Kind = "other"
    if operator == "=" or node.kind == postgast.pg_query_pb2.AEXPR_IN:
        kind = "equal"
    elif operator in ("<", "<=", ">", ">="):
        kind = "range"
    elif operator in ("~~", "~~*"):
        kind = "like"
    return _of_column(left, operator, kind, constant=_constant(right))


def _of_column(node: Any, operator: str, kind: Kind, *, constant: str | None = None) -> Compared | None:
    names = list(columns_in(node))
    if len(names) != 1:
        return None
    table, column = names[0]
    cast_to, bare = None, node
    while type(bare).__name__ == "TypeCast":
        cast_to = cast_to or ".".join(n.string.sval for n in bare.type_name.names if n.string.sval != "pg_catalog")
        bare = postgast.unwrap_node(bare.arg)
    function = None
    if type(bare).__name__ != "ColumnRef":
        function, cast_to = _sql(node), None
    return Compared(column, table, operator, kind, function, cast_to, constant)


def columns_in(node: Any) -> Iterator[tuple[str | None, str]]:
    """(qualifier, column) of each column reference below a parse node."""
    for _, one in postgast.walk(node):
        if type(one).__name__ == "ColumnRef":
            fields = [f.string.sval for f in one.fields if f.WhichOneof("node") == "string"]
            if fields:
                yield (fields[-2] if len(fields) > 1 else None), fields[-1]


def _constant(node: Any) -> str | None:
    while type(node).__name__ == "TypeCast":
        node = postgast.unwrap_node(node.arg)
    return node.sval.sval if type(node).__name__ == "A_Const" and node.HasField("sval") else None


def _sql(node: Any) -> str | None:
    """An expression as SQL, without the qualifiers of its columns."""
    tree = postgast.parse("SELECT 1")
    target = tree.stmts[0].stmt.select_stmt.target_list[0].res_target
    field = next(f.name for f in target.val.DESCRIPTOR.fields if f.message_type is node.DESCRIPTOR)
    target.val.Clear()
    getattr(target.val, field).CopyFrom(node)
    for _, one in postgast.walk(target.val):
        if type(one).__name__ == "ColumnRef" and len(one.fields) > 1:
            last = one.fields[-1].string.sval
            del one.fields[:]
            one.fields.add().string.sval = last
    try:
        return str(postgast.deparse(tree)).removeprefix("SELECT ")
    except postgast.PgQueryError:
        return None


def is_relabel(c: Compared) -> bool:
    """Whether a cast may be the free one between varchar and text, which an index can be used with."""
    return c.cast_to in _RELABEL


def mentions_or_across_tables(expression: str) -> bool:
    """Whether an OR has arms about different tables.

    >>> mentions_or_across_tables("((a.x = 1) OR (b.y = 2))"), mentions_or_across_tables("((a.x = 1) OR (a.y = 2))")
    (True, False)
    """
    for node in conjuncts(expression):
        if type(node).__name__ == "BoolExpr" and node.boolop == postgast.pg_query_pb2.OR_EXPR:
            arms = [frozenset(t for t, _ in columns_in(a)) for a in node.args]
            joins = [arm for arm in arms if len(arm - {None}) > 1]
            if len({*arms}) > 1 or joins:
                return True
    return False


def quote(name: str) -> str:
    """An identifier as SQL wants it.

    >>> quote("id"), quote("Order"), quote('a"b')
    ('id', '"Order"', '"a""b"')
    """
    if _PLAIN_NAME.fullmatch(name) and not _reserved(name):
        return name
    return '"' + name.replace('"', '""') + '"'


@functools.lru_cache(maxsize=1024)
def _reserved(name: str) -> bool:
    tokens = postgast.scan(name).tokens
    return any(t.keyword_kind > 1 for t in tokens)


def index_columns(comparisons: list[Compared]) -> list[str]:
    """Columns in the order that a B-tree serves best: equalities, then one range; expressions in parentheses."""
    found: list[str] = []
    for kind in ("equal", "range"):
        for c in comparisons:
            if c.kind != kind:
                continue
            text = f"({c.function})" if c.function else quote(c.column)
            if text not in found:
                found.append(text)
            if kind == "range":
                break
    return found


def create_index(schema: str | None, relation: str, columns: list[str], *, using: str = "") -> str | None:
    """The statement that makes an index without blocking writers; None without columns."""
    if not columns:
        return None
    name = quote(relation) if schema in (None, "public") else f"{quote(str(schema))}.{quote(relation)}"
    return f"CREATE INDEX CONCURRENTLY ON {name} {using}({', '.join(columns)});"
