"""Conditions of WHERE and ON, entered in the tables that they are about."""

from __future__ import annotations

from dbperf.indexes.clauses import Condition, Key, Kind
from dbperf.indexes.parse_tree import (
    Tree,
    column_path,
    inner,
    is_literal,
    is_value,
    kind,
    of_kind,
    operator,
    print_expression,
    without_casts,
)
from dbperf.indexes.scopes import Scope, key_of, resolve

_RANGE = {"<", "<=", ">", ">=", "BETWEEN", "BETWEEN SYMMETRIC"}
_GIN = {"@>", "<@", "&&", "?", "?|", "?&", "@@", "@?"}
_SUBSTRING = {"~~", "~~*", "~", "~*"}


def where(node: Tree, scope: Scope, outer: Scope) -> None:
    name = kind(node)
    if name == "bool_expr":
        arms = list(node.bool_expr.args)
        if node.bool_expr.boolop in (1, 2):  # AND
            for arm in arms:
                where(arm, scope, outer)
        elif kind(arms[0]) == "column_ref":
            _boolean(arms[0], scope, negated=True)
    elif name == "a_expr":
        _comparison(node, scope, outer)
    elif name == "null_test":
        if key := key_of(node.null_test.arg, scope):
            missing = node.null_test.nulltesttype == 1  # IS_NULL
            sql = print_expression(node) if key[1].is_column else None
            key[0].conditions.append(Condition(key[1], "null" if missing else "not_null", sql=sql))
    elif name == "column_ref":
        _boolean(node, scope, negated=False)
    elif name == "boolean_test" and kind(node.boolean_test.arg) == "column_ref":
        _boolean(node.boolean_test.arg, scope, negated=node.boolean_test.booltesttype in (3, 2))


def _boolean(node: Tree, scope: Scope, *, negated: bool) -> None:
    if key := key_of(node, scope):
        sql = print_expression(node)
        key[0].conditions.append(Condition(key[1], "true", sql=f"NOT {sql}" if negated else sql))


def _comparison(node: Tree, scope: Scope, outer: Scope) -> None:
    expression = node.a_expr
    op = operator(expression)
    left, right = expression.lexpr, expression.rexpr
    a, b = key_of(left, scope), key_of(right, scope)
    if a and b and a[0] is not b[0]:
        if op == "=":
            a[0].conditions.append(Condition(a[1], "join"))
            b[0].conditions.append(Condition(b[1], "join"))
        return
    for side, other in ((a, right), (b, left)):
        if side is None:
            continue
        correlated = _only_outer(other, scope, outer)
        if not (correlated or _is_value(other)):
            continue
        if found := _kind(expression, op, other, left_side=side is a, correlated=correlated):
            sql = None
            end = resolve(column_path(other.column_ref), outer) if kind(other) == "column_ref" else None
            if found == "join" and end:
                # The planner may turn EXISTS into a join and go the other way.
                end[0].conditions.append(Condition(Key(end[1], True), "join"))
            if is_literal(other) or (found == "in" and not correlated and _literals(other)):
                sql = print_expression(node)
            value = without_casts(other)
            number = value.param_ref.number if kind(value) == "param_ref" else None
            side[0].conditions.append(Condition(side[1], found, op, sql, number))


def _is_value(node: Tree) -> bool:
    if kind(node) == "list":
        return all(is_value(n) for n in node.list.items)
    return is_value(node) or kind(node) == "sub_link"


def _only_outer(node: Tree, scope: Scope, outer: Scope) -> bool:
    """The node reads columns of outer levels only: a parameter, seen from here."""
    if not kind(node):
        return False
    refs = [node.column_ref] if kind(node) == "column_ref" else list(of_kind(inner(node), "column_ref"))
    return bool(refs) and all(resolve(column_path(r), scope) is None and resolve(column_path(r), outer) for r in refs)


def _kind(expression: Tree, op: str, other: Tree, *, left_side: bool, correlated: bool) -> Kind | None:
    form = expression.kind
    found: Kind | None = None
    if form == 2:  # op ANY (array): a column in the array
        found = "in" if op == "=" and left_side else None
    elif form == 7:  # IN
        found = "in" if op == "=" else None
    elif op == "=":
        found = "join" if correlated else "equal"
    elif op in _RANGE:
        found = "range"
    elif op in _GIN and left_side:
        found = "contains"
    elif op in _SUBSTRING and left_side:
        value = without_casts(other)
        text = value.a_const.sval.sval if kind(value) == "a_const" else None
        anchored = text is None or (text != "" and text[0] not in "%_")
        found = "prefix" if op == "~~" and anchored else "substring"
    return found


def _literals(node: Tree) -> bool:
    return kind(node) == "list" and all(is_literal(n) for n in node.list.items)
