"""An Alembic revision that makes the changes of up.sql and undoes them like down.sql.

Ordinary indexes become `op.create_index` and `op.drop_index` with `postgresql_concurrently`; what Alembic has no words
for (partitions, settings) is executed as SQL. All of it runs in `autocommit_block`, one statement per transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import postgast

from dbperf.indexes.ddl import CreateIndex, parse_create_index
from dbperf.indexes.script_text import LOCK_TIMEOUT, check_after, check_before, robust
from dbperf.records.proof import IndexChange

_TEMPLATE = '''"""{title}

Written by dbperf. Set down_revision to your history's head before you use it (alembic heads).

Revision ID: {revision}
Revises: {down_revision_text}
Create Date: {created}
"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down_revision}
branch_labels = None
depends_on = None


def upgrade() -> None:
{up}


def downgrade() -> None:
{down}
'''


def revision_id(changes: Sequence[IndexChange]) -> str:
    """Twelve hexadecimal digits that follow from the changes: the same changes, the same revision."""
    text = "\0".join(s for c in changes for s in (*c.up_sql, *c.down_sql))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def alembic_revision(changes: Sequence[IndexChange], *, created_at: datetime, down_revision: str | None = None) -> str:
    """The text of a revision file."""
    names = ", ".join(c.name for c in changes)
    title = f"Index changes: {names}".replace("\\", "").replace('"""', "")
    if len(title) > 100:
        title = f"{len(changes)} index changes"
    return _TEMPLATE.format(
        title=title,
        revision=revision_id(changes),
        down_revision=repr(down_revision),
        down_revision_text=down_revision or "",
        created=f"{created_at:%Y-%m-%d %H:%M:%S}",
        up=_body([s for c in changes for s in _lines(c, c.up_sql)]),
        down=_body([s for c in reversed(changes) for s in _lines(c, c.down_sql)]),
    )


def _body(statements: list[str]) -> str:
    lines = [
        "    with op.get_context().autocommit_block():",
        f"        op.execute(\"SET lock_timeout = '{LOCK_TIMEOUT}'\")",
        '        op.execute("SET statement_timeout = 0")',
    ]
    for statement in statements:
        lines += [f"        {line}" for line in statement.splitlines()]
    lines += ['        op.execute("RESET lock_timeout")', '        op.execute("RESET statement_timeout")']
    return "\n".join(lines)


def _lines(change: IndexChange, steps: Sequence[str]) -> list[str]:
    found = [line for s in steps for line in _step(s)]
    if any("ATTACH PARTITION" in s for s in steps):
        found.append(_execute(check_after(change.schema, change.name)))
    return found


def _step(sql: str) -> list[str]:
    tree = postgast.parse(sql)
    kind = tree.stmts[0].stmt.WhichOneof("node")
    if kind == "index_stmt":
        create = parse_create_index(sql)
        if create.only:
            return [_execute(robust(create))]
        return [
            _execute(check_before(create.schema, create.name, create.table)),
            _create(create, tree.stmts[0].stmt.index_stmt),
            _execute(check_after(create.schema, create.name)),
        ]
    if kind == "drop_stmt":
        drop = tree.stmts[0].stmt.drop_stmt
        schema, name = (item.string.sval for item in drop.objects[0].list.items)
        concurrently = ", postgresql_concurrently=True" if drop.concurrent else ""
        return [f"op.drop_index({name!r}, schema={schema!r}, if_exists=True{concurrently})"]
    return [_execute(sql)]


def _execute(sql: str) -> str:
    return f"op.execute({_text(sql)})"


def _text(sql: str) -> str:
    """SQL as SQLAlchemy's text, in which a colon would begin a parameter."""
    escaped = sql.replace(":", "\\:")
    return f"sa.text({escaped!r})"


def _create(create: CreateIndex, statement: Any) -> str:
    keys = []
    for param in statement.index_params:
        element = param.index_elem
        plain = element.name and not element.opclass and not element.collation
        if plain and element.ordering == postgast.pg_query_pb2.SORTBY_DEFAULT and not element.nulls_ordering > 1:
            keys.append(repr(element.name))
        else:
            keys.append(_text(_key(param)))
    parts = [
        repr(create.name),
        repr(create.table),
        f"[{', '.join(keys)}]",
        f"schema={create.schema!r}",
        f"unique={create.unique}",
        "if_not_exists=True",
        "postgresql_concurrently=True",
        f"postgresql_using={statement.access_method or 'btree'!r}",
    ]
    include = [p.index_elem.name for p in statement.index_including_params]
    if include:
        parts.append(f"postgresql_include={include!r}")
    if statement.options:
        parts.append(f"postgresql_with={_options(statement)!r}")
    if statement.table_space:
        parts.append(f"postgresql_tablespace={statement.table_space!r}")
    if statement.nulls_not_distinct:
        parts.append("postgresql_nulls_not_distinct=True")
    if statement.HasField("where_clause"):
        parts.append(f"postgresql_where={_text(_where(statement))}")
    return "op.create_index(\n    " + ",\n    ".join(parts) + ",\n)"


_ALONE = "CREATE INDEX i ON t USING btree "


def _alone() -> tuple[Any, Any]:
    """A tiny index whose parts are replaced, so that one part's SQL can be cut out of its text."""
    tree = postgast.parse(_ALONE + "(a)")
    return tree, tree.stmts[0].stmt.index_stmt


def _key(param: Any) -> str:
    tree, alone = _alone()
    del alone.index_params[:]
    alone.index_params.append(param)
    return str(postgast.deparse(tree)).removeprefix(_ALONE + "(").removesuffix(")")


def _where(statement: Any) -> str:
    tree, alone = _alone()
    alone.where_clause.CopyFrom(statement.where_clause)
    return str(postgast.deparse(tree)).removeprefix(_ALONE + "(a) WHERE ")


def _options(statement: Any) -> dict[str, str]:
    tree, alone = _alone()
    alone.options.extend(statement.options)
    text = str(postgast.deparse(tree)).removeprefix(_ALONE + "(a) WITH (").removesuffix(")")
    return {k.strip(): v.strip() for k, _, v in (part.partition("=") for part in text.split(","))}
