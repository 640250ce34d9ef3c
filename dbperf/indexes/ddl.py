"""Index SQL that is safe on a live database: what is created, dropped and attached, in which statements.

CREATE INDEX CONCURRENTLY can't be used on a partitioned table. There the parent's index is created on the parent alone
(ON ONLY: invalid, at once), each partition's concurrently, and then attached; with the last one the parent's becomes
valid (PostgreSQL manual, 5.12.2.2 and CREATE INDEX).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import postgast

from dbperf.errors import StatementError
from dbperf.postgres.index_catalog import IndexDetails, Partition
from dbperf.records.advice import quoted

NAME_BYTES = 63
_CREATE = re.compile(r"CREATE (UNIQUE )?INDEX ")


@dataclass(frozen=True)
class CreateIndex:
    """A parsed CREATE INDEX that can be written for another name or table."""

    schema: str
    table: str
    name: str
    concurrently: bool
    if_not_exists: bool
    only: bool
    unique: bool
    method: str
    columns: tuple[str, ...]
    """Names of key columns, expressions left out."""
    has_expressions: bool
    _tree: Any = field(repr=False, compare=False)

    def sql(
        self,
        *,
        name: str | None = None,
        on: tuple[str, str] | None = None,
        concurrently: bool = True,
        only: bool = False,
        if_not_exists: bool = False,
        tablespace: str | None = None,
    ) -> str:
        """The same index under this name on this table (schema, name); an empty schema leaves the table bare."""
        tree = type(self._tree)()
        tree.CopyFrom(self._tree)
        statement = tree.stmts[0].stmt.index_stmt
        statement.idxname = self.name if name is None else name
        statement.relation.schemaname, statement.relation.relname = on or (self.schema, self.table)
        statement.relation.inh = not only
        statement.concurrent = concurrently
        statement.if_not_exists = if_not_exists
        if tablespace is not None:
            statement.table_space = tablespace
        return str(postgast.deparse(tree))


def parse_create_index(sql: str) -> CreateIndex:
    """A CREATE INDEX statement with a name and a schema-qualified table.

    Raises:
        StatementError: it is something else, or leaves one of them out.
    """
    try:
        tree = postgast.parse(sql)
    except postgast.PgQueryError as e:
        raise StatementError(f"it does not parse: {str(e).splitlines()[0]}") from e
    if len(tree.stmts) != 1 or tree.stmts[0].stmt.WhichOneof("node") != "index_stmt":
        raise StatementError("it is no CREATE INDEX statement")
    s = tree.stmts[0].stmt.index_stmt
    if not s.idxname or not s.relation.schemaname:
        raise StatementError("CREATE INDEX must name the index, and its table with the schema")
    return CreateIndex(
        schema=s.relation.schemaname,
        table=s.relation.relname,
        name=s.idxname,
        concurrently=s.concurrent,
        if_not_exists=s.if_not_exists,
        only=not s.relation.inh,
        unique=s.unique,
        method=s.access_method or "btree",
        columns=tuple(p.index_elem.name for p in s.index_params if p.index_elem.name),
        has_expressions=any(not p.index_elem.name for p in s.index_params),
        _tree=tree,
    )


def create_steps(
    create: CreateIndex, partitions: Sequence[Partition] | None = None, taken: set[str] | None = None
) -> list[str]:
    """The statements that build an index, each to be run on its own, outside of a transaction.

    Args:
        partitions: of a partitioned table; None where it is an ordinary one. Foreign tables are left out by the caller.
        taken: names that the partitions' indexes may not have; those chosen are entered.
    """
    if partitions is None:
        return [create.sql()]
    steps: list[str] = []
    taken = {create.name} if taken is None else taken
    _dance(create, create.name, (create.schema, create.table), partitions, steps, taken)
    return steps


def _dance(
    create: CreateIndex,
    name: str,
    on: tuple[str, str],
    partitions: Sequence[Partition],
    steps: list[str],
    taken: set[str],
) -> None:
    steps.append(create.sql(name=name, on=on, concurrently=False, only=True))
    for p in partitions:
        own = _partition_name(create, p.table, taken)
        if p.partitioned:
            _dance(create, own, (p.schema, p.table), p.children, steps, taken)
        else:
            steps.append(create.sql(name=own, on=(p.schema, p.table)))
        steps.append(f"ALTER INDEX {qualified(on[0], name)} ATTACH PARTITION {qualified(p.schema, own)}")


def _partition_name(create: CreateIndex, table: str, taken: set[str]) -> str:
    if create.table in create.name:
        return free_name(create.name.replace(create.table, table, 1), taken)
    return free_name(f"{create.name}_{table}", taken)


def drop_steps(schema: str, name: str, *, partitioned: bool = False) -> list[str]:
    """The statements that drop an index. A partitioned one can't be dropped concurrently, only as a whole."""
    return [f"DROP INDEX {'' if partitioned else 'CONCURRENTLY '}{qualified(schema, name)}"]


def restore_steps(index: IndexDetails) -> list[str]:
    """The statements that build a dropped index again, with its settings; those of its partitions' where it had any."""
    create = parse_create_index(index.definition)
    if not index.partitioned:
        return [create.sql(tablespace=index.tablespace), *index.settings]
    steps = [create.sql(concurrently=False, only=True, tablespace=index.tablespace)]
    for child in index.children:
        steps += restore_steps(child)
        where = qualified(index.schema, index.name)
        steps.append(f"ALTER INDEX {where} ATTACH PARTITION {qualified(child.schema, child.name)}")
    return [*steps, *index.settings]


def concurrent_definition(definition: str) -> str:
    """pg_get_indexdef's text as CREATE INDEX CONCURRENTLY.

    >>> concurrent_definition("CREATE UNIQUE INDEX i ON s.t USING btree (a)")
    'CREATE UNIQUE INDEX CONCURRENTLY i ON s.t USING btree (a)'
    """
    return _CREATE.sub(lambda m: f"{m[0]}CONCURRENTLY ", definition, count=1)


def index_name(table: str, keys: Sequence[str], taken: set[str]) -> str:
    """``idx_<table>_<keys>`` in at most 63 bytes, not taken; it is entered in `taken`.

    >>> index_name("orders", ["customer_id", "lower(note)"], set())
    'idx_orders_customer_id_lower_note'
    """
    words = [re.sub(r"\W+", "_", k).strip("_") for k in keys]
    return free_name("_".join(["idx", table, *words]), taken)


def free_name(wanted: str, taken: set[str]) -> str:
    """The name cut to 63 bytes, with a number where it is taken; it is entered in `taken`."""
    n = 1
    while True:
        tail = "" if n == 1 else f"_{n}"
        name = wanted.encode()[: NAME_BYTES - len(tail)].decode(errors="ignore") + tail
        if name not in taken:
            taken.add(name)
            return name
        n += 1


def qualified(schema: str, name: str) -> str:
    """A name with its schema, quoted where it must be.

    >>> qualified("public", "Order")
    'public."Order"'
    """
    return f"{quoted(schema)}.{quoted(name)}"
