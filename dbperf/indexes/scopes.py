"""Names at one query level, and what an expression over them is as the key of an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dbperf.indexes.clauses import Key, TableUse
from dbperf.indexes.parse_tree import (
    Tree,
    column_path,
    function_name,
    inner,
    kind,
    of_kind,
    print_expression,
    without_casts,
)

_AGGREGATE_NAMES = (
    "sum count avg min max array_agg string_agg json_agg jsonb_agg bool_and bool_or every stddev variance mode "
    "percentile_cont percentile_disc json_object_agg jsonb_object_agg"
)
_AGGREGATES = frozenset(_AGGREGATE_NAMES.split())


class Derived:
    """A subquery, CTE or view as an outer level sees it: output names to base columns."""

    def __init__(self, alias: str, outputs: Mapping[str, tuple[TableUse, str]], tables: Sequence[TableUse]) -> None:
        self.alias = alias
        self.outputs = outputs
        self.tables = tables


Scope = dict[str, "TableUse | Derived"]


def tables_of(scope: Scope) -> Iterator[TableUse]:
    yield from (entry for entry in scope.values() if isinstance(entry, TableUse))


def resolve(path: Sequence[str], scope: Scope) -> tuple[TableUse, str] | None:
    """The table and column that a name means at this level."""
    column = path[-1]
    entries = [scope.get(path[-2])] if len(path) > 1 else list(scope.values())
    found = []
    for entry in entries:
        if isinstance(entry, TableUse) and any(c.name == column for c in entry.relation.columns):
            found.append((entry, column))
        elif isinstance(entry, Derived) and column in entry.outputs:
            found.append(entry.outputs[column])
    return found[0] if len(found) == 1 else None


def key_of(node: Tree, scope: Scope) -> tuple[TableUse, Key] | None:
    """The node as an index key, where it reads columns of one table of this level and nothing else."""
    plain = without_casts(node)
    if kind(plain) != "column_ref":
        return _expression_key(node, plain, scope)
    path = column_path(plain.column_ref)
    if path[-1] == "*" or not (found := resolve(path, scope)):
        return None
    use, column = found
    # A cast of a column in a condition is mostly the parser's own (varchar to text).
    if kind(node) == "type_cast" and not _harmless(node, use, column):
        return use, Key(print_expression(node), False)
    return use, Key(column, True)


def _expression_key(node: Tree, plain: Tree, scope: Scope) -> tuple[TableUse, Key] | None:
    if kind(plain) not in ("func_call", "a_expr", "coalesce_expr") or _has_parameter(plain):
        return None
    calls = [plain.func_call] if kind(plain) == "func_call" else list(of_kind(inner(plain), "func_call"))
    if any(function_name(c) in _AGGREGATES or c.HasField("over") for c in calls):
        return None
    refs = list(of_kind(inner(plain), "column_ref"))
    found_all = [resolve(column_path(r), scope) for r in refs if column_path(r)[-1] != "*"]
    tables = {id(f[0]): f[0] for f in found_all if f}
    if len(tables) != 1 or not all(found_all) or list(of_kind(inner(plain), "sub_link")):
        return None
    [use] = tables.values()
    if isinstance(scope.get(use.alias), Derived):
        return None
    return use, Key(print_expression(node), False)


def _harmless(node: Tree, use: TableUse, column: str) -> bool:
    """A cast that an index on the column still serves: text types among themselves."""
    names = [n.string.sval for n in node.type_cast.type_name.names]
    base = next(c.type for c in use.relation.columns if c.name == column)
    return names[-1] in ("text", "varchar", "bpchar") and base.startswith(("text", "character varying"))


def _has_parameter(node: Tree) -> bool:
    return any(True for _ in of_kind(inner(node), "param_ref"))
