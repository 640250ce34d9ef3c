"""Small tools over libpg_query's parse trees: unwrap nodes, walk one query level, print expressions.

Trees are protobuf messages, see postgast.pg_query_pb2; a Node wraps exactly one of many kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import postgast
from postgast.pg_query_pb2 import Node, ParseResult

Tree = Any
"""A protobuf message."""


def kind(node: Tree) -> str:
    """What a Node holds: "select_stmt", "column_ref", ...; "" for an empty one."""
    return node.WhichOneof("node") or ""


def inner(node: Tree) -> Tree:
    """The message that a Node holds."""
    return getattr(node, kind(node)) if kind(node) else None


def children(message: Tree) -> Iterator[Tree]:
    """All Nodes directly below a message."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in value if field.is_repeated else (value,):
            if one.DESCRIPTOR.name == "Node":
                if kind(one):
                    yield one
            else:
                # Some fields hold a kind directly (a SelectStmt's larg, an InsertStmt's relation).
                yield from children(one)


def of_kind(message: Tree, *kinds: str, stop: tuple[str, ...] = ()) -> Iterator[Tree]:
    """Messages of some kinds below a message, outermost first; nothing below a kind in `stop` is searched."""
    for node in children(message):
        name = kind(node)
        if name in kinds:
            yield inner(node)
        if name not in stop:
            yield from of_kind(inner(node), *kinds, stop=stop)


def column_path(ref: Tree) -> list[str]:
    """A column_ref's names: [column], [alias, column] or [schema, table, column]; "*" for a star."""
    return ["*" if kind(f) == "a_star" else f.string.sval for f in ref.fields]


def operator(expression: Tree) -> str:
    """An a_expr's operator without its schema."""
    return expression.name[-1].string.sval if expression.name else ""


def function_name(call: Tree) -> str:
    return call.funcname[-1].string.sval if call.funcname else ""


def without_casts(node: Tree) -> Tree:
    """The node below any casts."""
    while kind(node) == "type_cast":
        node = node.type_cast.arg
    return node


def is_value(node: Tree) -> bool:
    """A constant, a parameter, or an expression of such that reads no column: what can stand in an index condition."""
    name = kind(node)
    if name in ("a_const", "param_ref", "sqlvalue_function"):
        return True
    if name in ("column_ref", "sub_link"):
        return False
    return all(is_value(n) for n in children(inner(node))) if name else False


def is_literal(node: Tree) -> bool:
    return kind(without_casts(node)) == "a_const"


def print_expression(node: Tree) -> str:
    """SQL of an expression, with column names stripped of their table."""
    copy = Node()
    copy.CopyFrom(node)
    for ref in [copy.column_ref] if kind(copy) == "column_ref" else list(of_kind(inner(copy), "column_ref")):
        last = Node()
        last.CopyFrom(ref.fields[-1])
        del ref.fields[:]
        ref.fields.append(last)
    result = ParseResult()
    statement = result.stmts.add().stmt.select_stmt
    statement.target_list.add().res_target.val.CopyFrom(copy)
    return str(postgast.deparse(result)).removeprefix("SELECT ")
