"""Reads statements against a catalog: what they ask of each table, from their parse trees.

Names are resolved as PostgreSQL does: aliases, subqueries, CTEs, views and correlated outer references, each query
level with its own scope. What can't be resolved is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

import postgast

from dbperf.indexes.clauses import Condition, Key, StatementUse, TableUse
from dbperf.indexes.conditions import where
from dbperf.indexes.orders import extremes, groups, orders
from dbperf.indexes.parse_tree import Tree, column_path, inner, kind, of_kind
from dbperf.indexes.scopes import Derived, Scope, resolve, tables_of
from dbperf.records.shadow import Catalog, Relation


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

    def statement(self, node: Tree, outer: Scope, ctes: dict[str, Derived]) -> Mapping[str, tuple[TableUse, str]]:
        name, body = kind(node), inner(node)
        if name == "select_stmt":
            return self.select(body, outer, ctes)
        if name not in ("insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"):
            return {}
        ctes = self._with(body, outer, ctes)
        scope: Scope = {}
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
            where(body.join_condition, scope, outer)
        if name == "insert_stmt" and kind(body.select_stmt):
            self.statement(body.select_stmt, outer, ctes)
        if name in sources:
            where(body.where_clause, scope, outer)
        self._columns(body, scope, outer, ctes)
        return {}

    def select(self, body: Tree, outer: Scope, ctes: dict[str, Derived]) -> Mapping[str, tuple[TableUse, str]]:
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

    def _plain_select(self, body: Tree, outer: Scope, ctes: dict[str, Derived]) -> Mapping[str, tuple[TableUse, str]]:
        scope: Scope = {}
        for item in body.from_clause:
            self._from(item, scope, ctes, outer)
        where(body.where_clause, scope, outer)
        self._columns(body, scope, outer, ctes)
        limited = bool(kind(body.limit_count))
        targets = [inner(t) for t in body.target_list]
        for use in tables_of(scope):
            use.limited |= limited
        orders(body, targets, scope)
        groups(body, targets, scope)
        extremes(targets, scope)
        outputs = {}
        for t in targets:
            if kind(t.val) == "column_ref":
                path = column_path(t.val.column_ref)
                if path[-1] == "*":
                    for use in tables_of(scope):
                        outputs.update({c.name: (use, c.name) for c in use.relation.columns})
                elif found := resolve(path, scope):
                    outputs[t.name or path[-1]] = found
        return outputs

    def _with(self, body: Tree, outer: Scope, ctes: dict[str, Derived]) -> dict[str, Derived]:
        if not body.HasField("with_clause"):
            return ctes
        ctes = dict(ctes)
        for node in body.with_clause.ctes:
            cte = inner(node)
            ctes[cte.ctename] = Derived(cte.ctename, {}, [])  # a recursive one refers to itself
            ctes[cte.ctename] = Derived(cte.ctename, self.statement(cte.ctequery, outer, ctes), [])
        return ctes

    def _from(self, node: Tree, scope: Scope, ctes: dict[str, Derived], outer: Scope) -> None:
        name = kind(node)
        if name == "range_var":
            self._table(node.range_var, scope, ctes)
        elif name == "join_expr":
            join = node.join_expr
            self._from(join.larg, scope, ctes, outer)
            self._from(join.rarg, scope, ctes, outer)
            where(join.quals, scope, outer)
            for column in join.using_clause:
                for use in tables_of(scope):
                    if any(c.name == column.string.sval for c in use.relation.columns):
                        use.conditions.append(Condition(Key(column.string.sval, True), "join"))
                        use.columns.add(column.string.sval)
        elif name == "range_subselect":
            sub = node.range_subselect
            alias = sub.alias.aliasname or f"?{len(scope)}"
            outputs = self.statement(sub.subquery, {**outer, **scope} if sub.lateral else outer, ctes)
            scope[alias] = Derived(alias, outputs, [])

    def _table(self, var: Tree, scope: Scope, ctes: dict[str, Derived]) -> TableUse | Derived | None:
        alias = var.alias.aliasname or var.relname
        if not var.schemaname and var.relname in ctes:
            scope[alias] = Derived(alias, ctes[var.relname].outputs, [])
        elif relation := self.resolver.relation(var.schemaname, var.relname):
            use = TableUse(relation, alias)
            scope[alias] = use
            self.tables.append(use)
        elif (query := self.resolver.view(var.schemaname, var.relname)) is not None:
            scope[alias] = Derived(alias, self.statement(query, {}, {}), [])
        return scope.get(alias)

    def _columns(self, body: Tree, scope: Scope, outer: Scope, ctes: dict[str, Derived]) -> None:
        """Columns that this level reads, and the subqueries below its expressions."""
        both = {**outer, **scope}
        for ref in of_kind(body, "column_ref", stop=("sub_link", "range_subselect", "select_stmt")):
            path = column_path(ref)
            if path[-1] == "*":
                entries = [both.get(path[-2])] if len(path) > 1 else list(scope.values())
                for entry in entries:
                    if isinstance(entry, TableUse):
                        entry.all_columns = True
                    elif isinstance(entry, Derived):
                        for use, column in entry.outputs.values():
                            use.columns.add(column)
            elif found := resolve(path, both):
                found[0].columns.add(found[1])
            elif isinstance(whole := both.get(path[-1]), TableUse):
                whole.all_columns = True  # row_to_json(t)
        for link in of_kind(body, "sub_link", stop=("select_stmt",)):
            outputs = self.statement(link.subselect, both, ctes)
            if kind(link.testexpr) == "column_ref":
                # x IN (SELECT y ...): a join of x with y.
                ends = [resolve(column_path(link.testexpr.column_ref), both)]
                ends += list(outputs.values())[:1]
                for end in ends:
                    if end:
                        end[0].conditions.append(Condition(Key(end[1], True), "join"))
