"""What a statement's text may do: an allow-list over PostgreSQL's own parse tree. Pure; the catalog has its say after.

Everything that is not known to only read is refused. Names of functions, operators, types and relations are collected
for `readonly`, which asks the catalog about them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import postgast

from dbperf.errors import StatementError

Name = tuple[str | None, str]
"""Schema as written, and name."""

_JSON = frozenset({
    "JsonAggConstructor", "JsonArgument", "JsonArrayAgg", "JsonArrayConstructor", "JsonArrayQueryConstructor",
    "JsonBehavior", "JsonFormat", "JsonFuncExpr", "JsonIsPredicate", "JsonKeyValue", "JsonObjectAgg",
    "JsonObjectConstructor", "JsonOutput", "JsonParseExpr", "JsonReturning", "JsonScalarExpr", "JsonSerializeExpr",
    "JsonTable", "JsonTableColumn", "JsonTablePathSpec", "JsonValueExpr",
})  # fmt: skip
ALLOWED = _JSON | frozenset({
    "A_ArrayExpr", "A_Const", "A_Expr", "A_Indices", "A_Indirection", "A_Star", "Alias", "BitString",
    "BoolExpr", "Boolean", "BooleanTest", "CTECycleClause", "CTESearchClause", "CaseExpr", "CaseWhen", "CoalesceExpr",
    "CollateClause", "ColumnDef", "ColumnRef", "CommonTableExpr", "Float", "FuncCall", "GroupingFunc",
    "GroupingSet", "Integer",
    "JoinExpr", "List", "MinMaxExpr", "NamedArgExpr", "Node", "NullTest", "ParamRef", "ParseResult", "RangeFunction",
    "RangeSubselect", "RangeTableFunc", "RangeTableFuncCol", "RangeTableSample", "RangeVar", "RawStmt", "ResTarget",
    "RowExpr", "SQLValueFunction", "SelectStmt", "SortBy", "String", "SubLink", "TypeCast", "TypeName", "WindowDef",
    "WithClause", "XmlExpr", "XmlSerialize",
})  # fmt: skip
_OPERATORS = {"A_Expr": "name", "SortBy": "use_op", "SubLink": "oper_name"}
_REASONS = {
    "InsertStmt": "it inserts rows",
    "UpdateStmt": "it updates rows",
    "DeleteStmt": "it deletes rows",
    "MergeStmt": "it merges rows",
    "LockingClause": "it locks rows (FOR UPDATE or FOR SHARE)",
    "IntoClause": "it creates a table (SELECT INTO)",
}
HARMLESS_VOLATILE = frozenset({
    "system", "bernoulli", "random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid",
    "uuidv4", "uuidv7", "pg_backend_pid",
    "pg_relation_size", "pg_total_relation_size", "pg_table_size", "pg_indexes_size", "pg_database_size",
    "pg_column_compression", "pg_is_in_recovery", "pg_current_wal_lsn", "pg_last_wal_replay_lsn", "pg_blocking_pids",
    "pg_stat_get_activity", "json_populate_record",
})  # fmt: skip
"""Volatile functions of pg_catalog that change nothing outside of their own result."""
DANGEROUS = frozenset({
    "set_config", "nextval", "setval", "dblink", "dblink_exec", "dblink_open", "dblink_send_query", "dblink_connect",
    "pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_xact_lock", "pg_sleep", "pg_notify", "lo_import",
    "lo_export", "query_to_xml", "cursor_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "ts_stat",
    "ts_rewrite", "pg_terminate_backend", "pg_cancel_backend", "pg_reload_conf", "pg_read_file",
    "pg_read_binary_file", "pg_ls_dir",
})  # fmt: skip
"""Refused by name, whatever the catalog says of them."""


class Uses(NamedTuple):
    """What a text refers to."""

    functions: frozenset[Name]
    operators: frozenset[Name]
    types: frozenset[Name]
    relations: frozenset[Name]


def uses(sql: str) -> Uses:
    """What a text that may only read refers to.

    Raises:
        StatementError: it can't be parsed (and so can't be proven), or holds something that is not allowed; says what.
    """
    try:
        tree = postgast.parse(sql)
    except postgast.PgQueryError as e:
        line, column = _position(sql, e.cursorpos)
        raise StatementError(f"line {line}, column {column}: {e.message}") from None
    except RecursionError:
        raise StatementError("the statement is nested too deeply to be proven read-only") from None
    if len(tree.stmts) != 1:
        raise StatementError(f"one statement can be executed, {len(tree.stmts)} were given")
    nodes = [(type(node).__name__, node) for _, node in postgast.walk(tree)]
    for kind, _ in nodes:
        if kind not in ALLOWED:
            raise not_read_only(_REASONS.get(kind) or f"it holds {_words(kind)}, which is not known to only read")
    functions = {_name(n.funcname) for kind, n in nodes if kind == "FuncCall"}
    functions |= {_name(n.method) for kind, n in nodes if kind == "RangeTableSample"}
    for _, name in functions:
        if name in DANGEROUS or name.startswith(("dblink", "pg_advisory", "pg_try_advisory", "lo_")):
            raise not_read_only(f"it calls {name}()")
    # A CTE's name is looked up as a table too, needlessly where it is none, which does no harm.
    return Uses(
        functions=frozenset(functions),
        operators=frozenset(o for kind, n in nodes if kind in _OPERATORS for o in _operator(n, kind)),
        types=frozenset(_name(n.names) for kind, n in nodes if kind == "TypeName" and n.names),
        relations=frozenset((n.schemaname or None, n.relname) for kind, n in nodes if kind == "RangeVar"),
    )


def not_read_only(reason: str) -> StatementError:
    return StatementError(
        f"the statement is not executed: {reason}",
        hint="EXPLAIN ANALYZE executes; leave --analyze out to see the plan without executing it",
    )


def _name(parts: Any) -> Name:
    words = [p.string.sval for p in parts]
    return (words[-2] if len(words) > 1 else None), words[-1]


def _operator(node: Any, kind: str) -> set[Name]:
    parts = [p for p in getattr(node, _OPERATORS[kind]) if p.WhichOneof("node") == "string"]
    if not parts:
        return set()
    schema, name = _name(parts)
    # The grammar writes LIKE, BETWEEN and IN as names; what they stand for is looked up too.
    plain = {"BETWEEN": "<=", "NOT BETWEEN": "<=", "BETWEEN SYMMETRIC": "<=", "NOT BETWEEN SYMMETRIC": "<="}
    return {(schema, plain.get(name, name))}


def _words(kind: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in kind).strip().removesuffix(" stmt")


def _position(sql: str, cursor: int) -> tuple[int, int]:
    """Line and column of the parser's position, which counts bytes from 1."""
    before = sql.encode()[: max(cursor - 1, 0)].decode(errors="replace")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
