"""Reads up.sql and down.sql: which steps they take, whoever wrote or edited them.

What can be run safely is known: building, dropping and attaching indexes, settings of indexes and tables. Anything
else is refused, with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import postgast

from dbperf.errors import StatementError
from dbperf.indexes.ddl import CreateIndex, parse_create_index, qualified
from dbperf.indexes.script_text import check_after, check_before

Kind = Literal["create", "create_parent", "drop", "attach", "setting"]
_SETTINGS = {"lock_timeout", "statement_timeout", "maintenance_work_mem", "max_parallel_maintenance_workers"}
_LEADING_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_INDEX_SUBTYPES = {"AT_SetStatistics", "AT_SetRelOptions", "AT_ResetRelOptions"}
_TABLE_SUBTYPES = {"AT_SetRelOptions", "AT_ResetRelOptions", "AT_ClusterOn"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One statement of the file."""

    kind: Kind
    sql: str
    line: int
    schema: str
    name: str
    """Of the index; of the table for its settings."""
    create: CreateIndex | None = None
    child: tuple[str, str] | None = None
    """Of an attachment: the partition's index."""
    concurrently: bool = False
    table: str | None = None

    @property
    def where(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True, kw_only=True)
class Script:
    steps: list[Step]
    settings: dict[str, str]
    """Of the file's SET statements, by name, as SQL."""


def read_script(text: str, *, source: str) -> Script:
    """The steps of a file.

    Raises:
        StatementError: it does not parse, or holds something that is no safe index change; the line is named.
    """
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError as e:
        raise StatementError(f"{source} does not parse: {str(e).splitlines()[0]}") from e
    data = text.encode()
    steps: list[Step] = []
    settings: dict[str, str] = {}
    checks: list[tuple[int, str]] = []
    for raw in tree.stmts:
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(data)
        whole = data[raw.stmt_location : end].decode()
        sql = _LEADING_COMMENTS.sub("", whole).rstrip()
        line = data[: raw.stmt_location].count(b"\n") + 1 + (whole[: len(whole) - len(whole.lstrip())]).count("\n")
        line += whole.lstrip()[: max(0, whole.lstrip().find(sql))].count("\n")
        kind = raw.stmt.WhichOneof("node")
        node: Any = getattr(raw.stmt, kind)
        try:
            if kind == "do_stmt":
                checks.append((line, sql))
            elif kind == "variable_set_stmt" and node.name in _SETTINGS and not node.is_local:
                settings[node.name] = sql
            else:
                steps.append(_step(kind, node, sql, line))
        except StatementError as e:
            raise StatementError(
                f"{source}, line {line}: {e.message}", hint="run what is no index change by hand, in a file of its own"
            ) from e
    _known_checks(steps, checks, source)
    return Script(steps=steps, settings=settings)


def _step(kind: str, node: Any, sql: str, line: int) -> Step:
    match kind:
        case "index_stmt":
            create = parse_create_index(sql)
            if not create.concurrently and not create.only:
                raise StatementError(f"CREATE INDEX {create.name} without CONCURRENTLY blocks writes to the table")
            return Step(
                kind="create_parent" if create.only and not create.concurrently else "create", sql=sql, line=line,
                schema=create.schema, name=create.name, table=create.table, create=create,
                concurrently=create.concurrently,
            )  # fmt: skip
        case "drop_stmt" if _enum(node, "remove_type") == "OBJECT_INDEX":
            if len(node.objects) != 1 or _enum(node, "behavior") == "DROP_CASCADE":
                raise StatementError("DROP INDEX must name one index, without CASCADE")
            names = [i.string.sval for i in node.objects[0].list.items]
            schema, name = _two(names, "DROP INDEX")
            return Step(kind="drop", sql=sql, line=line, schema=schema, name=name, concurrently=node.concurrent)
        case "alter_table_stmt":
            return _alter(node, sql, line)
        case "comment_stmt" if _enum(node, "objtype") == "OBJECT_INDEX":
            schema, name = _two([i.string.sval for i in node.object.list.items], "COMMENT ON INDEX")
            return Step(kind="setting", sql=sql, line=line, schema=schema, name=name)
        case _:
            raise StatementError(f"{sql.split(maxsplit=1)[0].upper()} … is no change of an index")


def _alter(node: Any, sql: str, line: int) -> Step:
    schema, name = _two([node.relation.schemaname, node.relation.relname], "ALTER")
    is_index = _enum(node, "objtype") == "OBJECT_INDEX"
    commands = [c.alter_table_cmd for c in node.cmds]
    subtypes = {_enum(c, "subtype") for c in commands}
    if subtypes == {"AT_AttachPartition"} and is_index and len(commands) == 1:
        child = getattr(commands[0], "def").partition_cmd.name
        return Step(
            kind="attach", sql=sql, line=line, schema=schema, name=name,
            child=_two([child.schemaname, child.relname], "ATTACH PARTITION"),
        )  # fmt: skip
    if subtypes <= (_INDEX_SUBTYPES if is_index else _TABLE_SUBTYPES):
        return Step(kind="setting", sql=sql, line=line, schema=schema, name=name)
    raise StatementError(f"ALTER of {qualified(schema, name)} does more than attach an index or set its options")


def _two(names: list[str], what: str) -> tuple[str, str]:
    if len(names) != 2 or not all(names):
        raise StatementError(f"{what} must name the index or table with its schema")
    return names[0], names[1]


def _enum(node: Any, field: str) -> str:
    """The name of an enum's value."""
    return str(node.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(node, field)].name)


def _known_checks(steps: list[Step], checks: list[tuple[int, str]], source: str) -> None:
    """DO blocks must be dbperf's own checks, which applying makes superfluous."""
    known = {check_after(s.schema, s.name) for s in steps}
    known |= {check_before(s.schema, s.name, s.table) for s in steps if s.table}
    for line, sql in checks:
        if sql not in known:
            raise StatementError(
                f"{source}, line {line}: a DO block that dbperf did not write, or for another index",
                hint="run it by hand, in a file of its own",
            )
