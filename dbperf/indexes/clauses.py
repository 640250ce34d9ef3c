"""What a statement asks of each table: conditions, joins, order, groups and columns, read from its parse tree.

Names are resolved as PostgreSQL does: aliases, subqueries, CTEs, views and correlated outer references, each query
level with its own scope. What can't be resolved is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import postgast

from dbperf.indexes.parse_tree import (
    Tree,
    children,
    column_path,
    function_name,
    inner,
    is_literal,
    is_value,
    kind,
    of_kind,
    operator,
    print_expression,
    without_casts,
)  # fmt: skip
from dbperf.records.shadow import Catalog, Relation

Kind = Literal["equal", "in", "join", "range", "prefix", "contains", "substring", "null", "not_null", "true"]
_RANGE = {"<", "<=", ">", ">=", "BETWEEN", "BETWEEN SYMMETRIC"}
_GIN = {"@>", "<@", "&&", "?", "?|", "?&", "@@", "@?"}
_SUBSTRING = {"~~", "~~*", "~", "~*"}
_AGGREGATE_NAMES = (
    "sum count avg min max array_agg string_agg json_agg jsonb_agg bool_and bool_or every stddev variance mode "
    "percentile_cont percentile_disc json_object_agg jsonb_object_agg"
)
_AGGREGATES = frozenset(_AGGREGATE_NAMES.split())
DISTANCES = {"<->": "l2", "<=>": "cosine", "<#>": "ip", "<+>": "l1"}
"""pgvector's distance operators."""


@dataclass(frozen=True)
class Key:
    """A column, or an expression over columns of one table."""

    text: str
    is_column: bool


@dataclass(frozen=True)
class Condition:
    key: Key
    kind: Kind
    operator: str = "="
    sql: str | None = None
    """The condition as SQL where it holds for constants alone: usable as an index's predicate."""
    parameter: int | None = None
    """n of $n that the key is compared with."""


@dataclass(frozen=True)
class Order:
    key: Key
    descending: bool = False
    nulls_first: bool | None = None
    distance: str | None = None
    """Of a vector column ordered by distance: "cosine", ..."""


@dataclass
class TableUse:
    """One table of one query level."""

    relation: Relation
    alias: str
    conditions: list[Condition] = field(default_factory=list)
    orders: list[list[Order]] = field(default_factory=list)
    groups: list[list[Key]] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    """Columns that the statement reads."""
    all_columns: bool = False
    limited: bool = False
    """Its query level has a LIMIT."""


@dataclass
class StatementUse:
    tables: list[TableUse]
    written: dict[tuple[str, str], frozenset[str] | None]
    """Tables that it writes; an UPDATE's columns, None for INSERT and DELETE."""
    inserts: bool = False


class _Derived:
    """A subquery, CTE or view as an outer level sees it: output names to base columns."""

    def __init__(self, alias: str, outputs: Mapping[str, tuple[TableUse, str]], tables: Sequence[TableUse]) -> None:
        self.alias = alias
        self.outputs = outputs
        self.tables = tables


_Scope = dict[str, "TableUse | _Derived"]


class Resolver:
    """Reads statements against one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._path = [p.strip().strip('"') for p in catalog.search_path.split(",")]
        self._by_name: dict[str, list[Relation]] = {}
        for r in catalog.relations:
            self._by_name.setdefault(r.name, []).append(r)
        self._views = {o.name: o.sql for o in catalog.objects if o.kind == "view"}

    def read(self, sql: str) -> StatementUse:
        """What the statement asks of its tables; empty where libpg_query can't parse it."""
        try:
            tree = postgast.parse(sql)
        except postgast.PgQueryError:
            return StatementUse([], {})
        reading = _Reading(self)
        for statement in tree.stmts:
            reading.statement(statement.stmt, {}, {})
        return StatementUse(reading.tables, reading.written, reading.inserts)

    def relation(self, schema: str, name: str) -> Relation | None:
        found = self._by_name.get(name, [])
        if schema:
            return next((r for r in found if r.schema == schema), None)
        for s in self._path:
            if hit := next((r for r in found if r.schema == s), None):
                return hit
        return found[0] if len(found) == 1 else None

    def view(self, schema: str, name: str) -> Tree | None:
        for s in [schema] if schema else self._path:
            for quoted in (f"{s}.{name}", f'"{s}"."{name}"', f'{s}."{name}"', f'"{s}".{name}'):
                if sql := self._views.get(quoted):
                    try:
                        statement = postgast.parse(sql).stmts[0].stmt
                    except postgast.PgQueryError:
                        return None
                    return statement.view_stmt.query if kind(statement) == "view_stmt" else None
        return None


class _Reading:
    """One statement. `tables` grows as levels are read."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.tables: list[TableUse] = []
        self.written: dict[tuple[str, str], frozenset[str] | None] = {}
        self.inserts = False
        self.depth = 0

    def statement(self, node: Tree, outer: _Scope, ctes: dict[str, _Derived]) -> Mapping[str, tuple[TableUse, str]]:
        name, body = kind(node), inner(node)
        if name == "select_stmt":
            return self.select(body, outer, ctes)
        if name not in ("insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"):
            return {}
        ctes = self._with(body, outer, ctes)
        scope: _Scope = {}
        target = self._table(body.relation, scope, ctes)
        if isinstance(target, TableUse):
            key = (target.relation.schema, target.relation.name)
            columns = None
            if name == "update_stmt":
                columns = frozenset(inner(t).name for t in body.target_list)
            self.written[key] = columns
            self.inserts |= name == "insert_stmt"
            target.all_columns = True  # the whole row is needed to write it again
        sources = {"update_stmt": "from_clause", "delete_stmt": "using_clause"}
        for item in getattr(body, sources[name]) if name in sources else ():
            self._from(item, scope, ctes, outer)
        if name == "merge_stmt":
            self._from(body.source_relation, scope, ctes, outer)
            self._where(body.join_condition, scope, outer, ctes)
        if name == "insert_stmt" and kind(body.select_stmt):
            self.statement(body.select_stmt, outer, ctes)
        if name in sources:
            self._where(body.where_clause, scope, outer, ctes)
        self._columns(body, scope, outer, ctes)
        return {}

    def select(self, body: Tree, outer: _Scope, ctes: dict[str, _Derived]) -> Mapping[str, tuple[TableUse, str]]:
        self.depth += 1
        try:
            if self.depth > 40:
                return {}
            ctes = self._with(body, outer, ctes)
            if body.HasField("larg"):
                outputs = self.select(body.larg, outer, ctes)
                self.select(body.rarg, outer, ctes)
                return {} if outputs else outputs
            return self._plain_select(body, outer, ctes)
        finally:
            self.depth -= 1

    def _plain_select(self, body: Tree, outer: _Scope, ctes: dict[str, _Derived]) -> Mapping[str, tuple[TableUse, str]]:
        scope: _Scope = {}
        for item in body.from_clause:
            self._from(item, scope, ctes, outer)
        self._where(body.where_clause, scope, outer, ctes)
        self._columns(body, scope, outer, ctes)
        limited = bool(kind(body.limit_count))
        targets = [inner(t) for t in body.target_list]
        for use in self._tables_of(scope):
            use.limited |= limited
        self._orders(body, targets, scope)
        self._groups(body, targets, scope)
        self._extremes(targets, scope)
        outputs = {}
        for t in targets:
            if kind(t.val) == "column_ref":
                path = column_path(t.val.column_ref)
                if path[-1] == "*":
                    for use in self._tables_of(scope):
                        outputs.update({c.name: (use, c.name) for c in use.relation.columns})
                elif found := self._resolve(path, scope):
                    outputs[t.name or path[-1]] = found
        return outputs

    def _with(self, body: Tree, outer: _Scope, ctes: dict[str, _Derived]) -> dict[str, _Derived]:
        if not body.HasField("with_clause"):
            return ctes
        ctes = dict(ctes)
        for node in body.with_clause.ctes:
            cte = inner(node)
            ctes[cte.ctename] = _Derived(cte.ctename, {}, [])  # a recursive one refers to itself
            ctes[cte.ctename] = _Derived(cte.ctename, self.statement(cte.ctequery, outer, ctes), [])
        return ctes

    def _from(self, node: Tree, scope: _Scope, ctes: dict[str, _Derived], outer: _Scope) -> None:
        name = kind(node)
        if name == "range_var":
            self._table(node.range_var, scope, ctes)
        elif name == "join_expr":
            join = node.join_expr
            self._from(join.larg, scope, ctes, outer)
            self._from(join.rarg, scope, ctes, outer)
            self._where(join.quals, scope, outer, ctes)
            for column in join.using_clause:
                for use in self._tables_of(scope):
                    if any(c.name == column.string.sval for c in use.relation.columns):
                        use.conditions.append(Condition(Key(column.string.sval, True), "join"))
                        use.columns.add(column.string.sval)
        elif name == "range_subselect":
            sub = node.range_subselect
            alias = sub.alias.aliasname or f"?{len(scope)}"
            outputs = self.statement(sub.subquery, {**outer, **scope} if sub.lateral else outer, ctes)
            scope[alias] = _Derived(alias, outputs, [])

    def _table(self, var: Tree, scope: _Scope, ctes: dict[str, _Derived]) -> TableUse | _Derived | None:
        alias = var.alias.aliasname or var.relname
        if not var.schemaname and var.relname in ctes:
            scope[alias] = _Derived(alias, ctes[var.relname].outputs, [])
        elif relation := self.resolver.relation(var.schemaname, var.relname):
            use = TableUse(relation, alias)
            scope[alias] = use
            self.tables.append(use)
        elif (query := self.resolver.view(var.schemaname, var.relname)) is not None:
            scope[alias] = _Derived(alias, self.statement(query, {}, {}), [])
        return scope.get(alias)

    @staticmethod
    def _tables_of(scope: _Scope) -> Iterator[TableUse]:
        yield from (entry for entry in scope.values() if isinstance(entry, TableUse))

    def _resolve(self, path: Sequence[str], scope: _Scope) -> tuple[TableUse, str] | None:
        """The table and column that a name means at this level."""
        column = path[-1]
        entries = [scope.get(path[-2])] if len(path) > 1 else list(scope.values())
        found = []
        for entry in entries:
            if isinstance(entry, TableUse) and any(c.name == column for c in entry.relation.columns):
                found.append((entry, column))
            elif isinstance(entry, _Derived) and column in entry.outputs:
                found.append(entry.outputs[column])
        return found[0] if len(found) == 1 else None

    def _columns(self, body: Tree, scope: _Scope, outer: _Scope, ctes: dict[str, _Derived]) -> None:
        """Columns that this level reads, and the subqueries below its expressions."""
        both = {**outer, **scope}
        for ref in of_kind(body, "column_ref", stop=("sub_link", "range_subselect", "select_stmt")):
            path = column_path(ref)
            if path[-1] == "*":
                entries = [both.get(path[-2])] if len(path) > 1 else list(scope.values())
                for entry in entries:
                    if isinstance(entry, TableUse):
                        entry.all_columns = True
                    elif isinstance(entry, _Derived):
                        for use, column in entry.outputs.values():
                            use.columns.add(column)
            elif found := self._resolve(path, both):
                found[0].columns.add(found[1])
            elif isinstance(whole := both.get(path[-1]), TableUse):
                whole.all_columns = True  # row_to_json(t)
        for link in of_kind(body, "sub_link", stop=("select_stmt",)):
            outputs = self.statement(link.subselect, both, ctes)
            if kind(link.testexpr) == "column_ref":
                # x IN (SELECT y ...): a join of x with y.
                ends = [self._resolve(column_path(link.testexpr.column_ref), both)]
                ends += list(outputs.values())[:1]
                for end in ends:
                    if end:
                        end[0].conditions.append(Condition(Key(end[1], True), "join"))

    def _where(self, node: Tree, scope: _Scope, outer: _Scope, ctes: dict[str, _Derived]) -> None:
        name = kind(node)
        if name == "bool_expr":
            arms = list(node.bool_expr.args)
            if node.bool_expr.boolop in (1, 2):  # AND
                for arm in arms:
                    self._where(arm, scope, outer, ctes)
            elif kind(arms[0]) == "column_ref":
                self._boolean(arms[0], scope, negated=True)
        elif name == "a_expr":
            self._comparison(node, scope, outer)
        elif name == "null_test":
            if key := self._key(node.null_test.arg, scope):
                missing = node.null_test.nulltesttype == 1  # IS_NULL
                sql = print_expression(node) if key[1].is_column else None
                key[0].conditions.append(Condition(key[1], "null" if missing else "not_null", sql=sql))
        elif name == "column_ref":
            self._boolean(node, scope, negated=False)
        elif name == "boolean_test" and kind(node.boolean_test.arg) == "column_ref":
            self._boolean(node.boolean_test.arg, scope, negated=node.boolean_test.booltesttype in (3, 2))

    def _boolean(self, node: Tree, scope: _Scope, *, negated: bool) -> None:
        if key := self._key(node, scope):
            sql = print_expression(node)
            key[0].conditions.append(Condition(key[1], "true", sql=f"NOT {sql}" if negated else sql))

    def _comparison(self, node: Tree, scope: _Scope, outer: _Scope) -> None:
        expression = node.a_expr
        op = operator(expression)
        left, right = expression.lexpr, expression.rexpr
        a, b = self._key(left, scope), self._key(right, scope)
        if a and b and a[0] is not b[0]:
            if op == "=":
                a[0].conditions.append(Condition(a[1], "join"))
                b[0].conditions.append(Condition(b[1], "join"))
            return
        for side, other in ((a, right), (b, left)):
            if side is None:
                continue
            correlated = self._only_outer(other, scope, outer)
            if not (correlated or self._is_value(other)):
                continue
            if found := self._kind(expression, op, other, left_side=side is a, correlated=correlated):
                sql = None
                end = self._resolve(column_path(other.column_ref), outer) if kind(other) == "column_ref" else None
                if found == "join" and end:
                    # The planner may turn EXISTS into a join and go the other way.
                    end[0].conditions.append(Condition(Key(end[1], True), "join"))
                if is_literal(other) or (found == "in" and not correlated and _literals(other)):
                    sql = print_expression(node)
                value = without_casts(other)
                number = value.param_ref.number if kind(value) == "param_ref" else None
                side[0].conditions.append(Condition(side[1], found, op, sql, number))

    @staticmethod
    def _is_value(node: Tree) -> bool:
        if kind(node) == "list":
            return all(is_value(n) for n in node.list.items)
        return is_value(node) or kind(node) == "sub_link"

    def _only_outer(self, node: Tree, scope: _Scope, outer: _Scope) -> bool:
        """The node reads columns of outer levels only: a parameter, seen from here."""
        if not kind(node):
            return False
        refs = [node.column_ref] if kind(node) == "column_ref" else list(of_kind(inner(node), "column_ref"))
        return bool(refs) and all(
            self._resolve(column_path(r), scope) is None and self._resolve(column_path(r), outer) for r in refs
        )

    @staticmethod
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

    def _key(self, node: Tree, scope: _Scope) -> tuple[TableUse, Key] | None:
        """The node as an index key, where it reads columns of one table of this level and nothing else."""
        plain = without_casts(node)
        if kind(plain) != "column_ref":
            return self._expression_key(node, plain, scope)
        path = column_path(plain.column_ref)
        if path[-1] == "*" or not (found := self._resolve(path, scope)):
            return None
        use, column = found
        # A cast of a column in a condition is mostly the parser's own (varchar to text).
        if kind(node) == "type_cast" and not _harmless(node, use, column):
            return use, Key(print_expression(node), False)
        return use, Key(column, True)

    def _expression_key(self, node: Tree, plain: Tree, scope: _Scope) -> tuple[TableUse, Key] | None:
        if kind(plain) not in ("func_call", "a_expr", "coalesce_expr") or _has_parameter(plain):
            return None
        calls = [plain.func_call] if kind(plain) == "func_call" else list(of_kind(inner(plain), "func_call"))
        if any(function_name(c) in _AGGREGATES or c.HasField("over") for c in calls):
            return None
        refs = list(of_kind(inner(plain), "column_ref"))
        found_all = [self._resolve(column_path(r), scope) for r in refs if column_path(r)[-1] != "*"]
        tables = {id(f[0]): f[0] for f in found_all if f}
        if len(tables) != 1 or not all(found_all) or list(of_kind(inner(plain), "sub_link")):
            return None
        [use] = tables.values()
        if isinstance(scope.get(use.alias), _Derived):
            return None
        return use, Key(print_expression(node), False)

    def _orders(self, body: Tree, targets: Sequence[Tree], scope: _Scope) -> None:
        found: list[tuple[TableUse, Order]] = []
        for node in body.sort_clause:
            sort = inner(node)
            target = _by_position(sort.node, targets)
            if not (order := self._order(target, sort, scope)):
                break
            found.append(order)
        clauses = [found]
        if distinct := [_by_position(d, targets) for d in body.distinct_clause if kind(d)]:
            keys = [self._key(d, scope) for d in distinct]
            if all(keys):
                clauses.append([(k[0], Order(k[1])) for k in keys if k])
        elif len(body.distinct_clause):
            keys = [self._key(t.val, scope) for t in targets]
            if keys and all(keys):
                clauses.append([(k[0], Order(k[1])) for k in keys if k])
        for clause in clauses:
            if clause and all(use is clause[0][0] for use, _ in clause):
                clause[0][0].orders.append([o for _, o in clause])
            elif clause:
                first = [o for use, o in clause if use is clause[0][0]]
                clause[0][0].orders.append(first[:1])

    def _order(self, target: Tree, sort: Tree, scope: _Scope) -> tuple[TableUse, Order] | None:
        descending = sort.sortby_dir == 3
        nulls = {2: True, 3: False}.get(sort.sortby_nulls)
        if kind(target) == "a_expr" and operator(target.a_expr) in DISTANCES:
            for side, other in ((target.a_expr.lexpr, target.a_expr.rexpr), (target.a_expr.rexpr, target.a_expr.lexpr)):
                key = self._key(side, scope)
                if key and key[1].is_column and is_value(other):
                    return key[0], Order(key[1], distance=DISTANCES[operator(target.a_expr)])
        key = self._key(target, scope)
        return (key[0], Order(key[1], descending, nulls)) if key else None

    def _groups(self, body: Tree, targets: Sequence[Tree], scope: _Scope) -> None:
        keys = [self._key(_by_position(g, targets), scope) for g in body.group_clause]
        known = [k for k in keys if k]
        if known and len(known) == len(keys) and all(use is known[0][0] for use, _ in known):
            known[0][0].groups.append([key for _, key in known])

    def _extremes(self, targets: Sequence[Tree], scope: _Scope) -> None:
        """min(x) and max(x) read one end of an index."""
        for t in targets:
            for call in [t.val.func_call] if kind(t.val) == "func_call" else []:
                if function_name(call) in ("min", "max") and len(call.args) == 1:
                    key = self._key(call.args[0], scope)
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


def _harmless(node: Tree, use: TableUse, column: str) -> bool:
    """A cast that an index on the column still serves: text types among themselves."""
    names = [n.string.sval for n in node.type_cast.type_name.names]
    base = next(c.type for c in use.relation.columns if c.name == column)
    return names[-1] in ("text", "varchar", "bpchar") and base.startswith(("text", "character varying"))


def _has_parameter(node: Tree) -> bool:
    return any(True for _ in of_kind(inner(node), "param_ref"))


def _literals(node: Tree) -> bool:
    return kind(node) == "list" and all(is_literal(n) for n in node.list.items)


__all__ = ["DISTANCES", "Condition", "Key", "Order", "Resolver", "StatementUse", "TableUse", "children"]
