"""ORDER BY, DISTINCT, GROUP BY, min and max, entered in the tables whose indexes could deliver them."""

from __future__ import annotations

from collections.abc import Sequence

from dbperf.indexes.clauses import DISTANCES, Order, TableUse
from dbperf.indexes.parse_tree import Tree, column_path, function_name, inner, is_value, kind, operator
from dbperf.indexes.scopes import Scope, key_of


def orders(body: Tree, targets: Sequence[Tree], scope: Scope) -> None:
    found: list[tuple[TableUse, Order]] = []
    for node in body.sort_clause:
        sort = inner(node)
        target = _by_position(sort.node, targets)
        if not (order := _order(target, sort, scope)):
            break
        found.append(order)
    clauses = [found]
    if distinct := [_by_position(d, targets) for d in body.distinct_clause if kind(d)]:
        keys = [key_of(d, scope) for d in distinct]
        if all(keys):
            clauses.append([(k[0], Order(k[1])) for k in keys if k])
    elif len(body.distinct_clause):
        keys = [key_of(t.val, scope) for t in targets]
        if keys and all(keys):
            clauses.append([(k[0], Order(k[1])) for k in keys if k])
    for clause in clauses:
        if clause and all(use is clause[0][0] for use, _ in clause):
            clause[0][0].orders.append([o for _, o in clause])
        elif clause:
            first = [o for use, o in clause if use is clause[0][0]]
            clause[0][0].orders.append(first[:1])


def _order(target: Tree, sort: Tree, scope: Scope) -> tuple[TableUse, Order] | None:
    descending = sort.sortby_dir == 3
    nulls = {2: True, 3: False}.get(sort.sortby_nulls)
    if kind(target) == "a_expr" and operator(target.a_expr) in DISTANCES:
        for side, other in ((target.a_expr.lexpr, target.a_expr.rexpr), (target.a_expr.rexpr, target.a_expr.lexpr)):
            key = key_of(side, scope)
            if key and key[1].is_column and is_value(other):
                return key[0], Order(key[1], distance=DISTANCES[operator(target.a_expr)])
    key = key_of(target, scope)
    return (key[0], Order(key[1], descending, nulls)) if key else None


def groups(body: Tree, targets: Sequence[Tree], scope: Scope) -> None:
    keys = [key_of(_by_position(g, targets), scope) for g in body.group_clause]
    known = [k for k in keys if k]
    if known and len(known) == len(keys) and all(use is known[0][0] for use, _ in known):
        known[0][0].groups.append([key for _, key in known])


def extremes(targets: Sequence[Tree], scope: Scope) -> None:
    """min(x) and max(x) read one end of an index."""
    for t in targets:
        for call in [t.val.func_call] if kind(t.val) == "func_call" else []:
            if function_name(call) in ("min", "max") and len(call.args) == 1:
                key = key_of(call.args[0], scope)
                if key:
                    key[0].orders.append([Order(key[1])])
                    key[0].limited = True


def _by_position(node: Tree, targets: Sequence[Tree]) -> Tree:
    """ORDER BY 2 and ORDER BY alias mean an output column."""
    if kind(node) == "a_const" and node.a_const.HasField("ival"):
        n = node.a_const.ival.ival
        if 1 <= n <= len(targets):
            return targets[n - 1].val
    if kind(node) == "column_ref" and len(path := column_path(node.column_ref)) == 1:
        for t in targets:
            if t.name == path[0]:
                return t.val
    return node
