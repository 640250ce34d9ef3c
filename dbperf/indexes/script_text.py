"""up.sql and down.sql: for people to read, psql and squawk to accept, and `dbperf apply` to run.

IF NOT EXISTS keeps whatever has the name, a useless invalid index included. So each build stands between two checks
that raise an error: nothing invalid or foreign under the name before, a valid index after.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

import postgast

from dbperf import __version__
from dbperf.indexes.ddl import CreateIndex, parse_create_index, qualified
from dbperf.postgres.shadow_ddl import literal
from dbperf.records.proof import IndexChange
from dbperf.units import format_bytes, format_share

LOCK_TIMEOUT = "5s"
_WIDTH = 110


def script(
    changes: Sequence[IndexChange], *, source: str, server_version: str, created_at: datetime, down: bool = False
) -> str:
    """The file's text; `changes` in the order in which they are made, whichever direction is asked for."""
    name, other = ("down.sql", "up.sql") if down else ("up.sql", "down.sql")
    lines = [
        f"-- {'Undoes' if down else 'Makes'} {len(changes)} index {'change' if len(changes) == 1 else 'changes'};"
        f" {other} {'makes' if down else 'undoes'} {'it' if len(changes) == 1 else 'them'}.",
        *_comment("for", f"{source}, PostgreSQL {server_version}"),
        *_comment("by", f"dbperf {__version__}, {created_at:%Y-%m-%d %H:%M} UTC"),
        *_comment("run", f"dbperf apply . --dsn …{' --down' if down else ''}   (retries locks, cleans up, validates)"),
        f"--         or psql -X -v ON_ERROR_STOP=1 -f {name}   (not with -1: CONCURRENTLY needs no transaction)",
        "",
        "-- Waiting for a lock holds up those behind: better to give up and try again.",
        f"SET lock_timeout = '{LOCK_TIMEOUT}';",
        "-- A build takes as long as it takes.",
        "SET statement_timeout = 0;",
    ]
    ordered = list(reversed(changes)) if down else list(changes)
    for n, change in enumerate(ordered, 1):
        lines += ["", *_heading(change, n, len(ordered), down=down)]
        for sql in change.down_sql if down else change.up_sql:
            lines += _statement(sql)
        if any("ATTACH PARTITION" in s for s in (change.down_sql if down else change.up_sql)):
            lines.append(check_after(change.schema, change.name) + ";")
        if down and not change.down_sql:
            lines.append("-- Nothing to undo: an invalid index is not wanted back.")
    return "\n".join(lines) + "\n"


def _heading(change: IndexChange, n: int, of: int, *, down: bool) -> list[str]:
    verbs = {"create": ("create", "drop"), "drop": ("drop", "create again"), "set": ("set on", "reset on")}
    where = "" if change.action == "set" else f" on {qualified(change.schema, change.table)}"
    lines = [f"-- {n} of {of}: {verbs[change.action][down]} {qualified(change.schema, change.name)}{where}"]
    lines += _comment("why", change.reason)
    if change.gain is not None:
        lines += _comment("gain", f"{format_share(change.gain)} of the workload's cost")
    if change.size_bytes is not None:
        size = format_bytes(change.size_bytes)
        frees = (change.action == "drop") != down
        lines += _comment("size", f"frees {size}" if frees else f"about {size}")
    if change.statements:
        lines += _comment("for", ", ".join(change.statements))
    return lines


def _comment(label: str, text: str) -> list[str]:
    """A comment wrapped to the line's width, without anything that could end it."""
    words = re.sub(r"\s+", " ", text).strip().split(" ")
    lines, line = [], f"--   {label + ':':<5}"
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = "--        "
        line += f" {word}"
    return [*lines, line]


def _statement(sql: str) -> list[str]:
    kind = postgast.parse(sql).stmts[0].stmt.WhichOneof("node")
    if kind == "index_stmt":
        create = parse_create_index(sql)
        again = robust(create)
        if create.only:
            return [
                "-- The parent's index alone: nothing is read, and writes wait for an instant only.",
                "-- squawk-ignore require-concurrent-index-creation",
                again + ";",
            ]
        return [
            check_before(create.schema, create.name, create.table) + ";",
            again + ";",
            check_after(create.schema, create.name) + ";",
        ]
    if kind == "drop_stmt":
        if "CONCURRENTLY" in sql:
            return [sql.replace("DROP INDEX CONCURRENTLY ", "DROP INDEX CONCURRENTLY IF EXISTS ", 1) + ";"]
        return [
            "-- A partitioned index can't be dropped concurrently: a short exclusive lock on all partitions.",
            "-- squawk-ignore require-concurrent-index-deletion",
            sql.replace("DROP INDEX ", "DROP INDEX IF EXISTS ", 1) + ";",
        ]
    if kind in ("alter_table_stmt", "cluster_stmt") and sql.startswith("ALTER TABLE"):
        return [
            "-- Setting it twice is the same as once, so no transaction is needed.",
            "-- squawk-ignore prefer-robust-stmts",
            sql + ";",
        ]
    return [sql + ";"]


def robust(create: CreateIndex) -> str:
    """The statement with IF NOT EXISTS; it belongs between the two checks."""
    return create.sql(concurrently=not create.only, only=create.only, if_not_exists=True)


def check_before(schema: str, name: str, table: str) -> str:
    """Raises where an invalid index, or one of another table, has the name."""
    index, on = (_literal(qualified(schema, n)) for n in (name, table))
    hint = _literal(f"DROP INDEX CONCURRENTLY {qualified(schema, name)}; then start again")
    message = _literal(f"{qualified(schema, name)} is left over from a build that failed, or belongs to another table")
    return _block(
        "EXISTS (SELECT FROM pg_catalog.pg_index",
        f"             WHERE indexrelid = pg_catalog.to_regclass({index})",
        f"               AND (NOT indisvalid OR indrelid <> pg_catalog.to_regclass({on})))",
        message,
        hint,
    )


def check_after(schema: str, name: str) -> str:
    """Raises where there is no valid index of that name."""
    index = _literal(qualified(schema, name))
    hint = _literal(f"DROP INDEX CONCURRENTLY {qualified(schema, name)}; then start again")
    return _block(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_index",
        f"                 WHERE indexrelid = pg_catalog.to_regclass({index})",
        "                   AND indisvalid)",
        _literal(f"{qualified(schema, name)} was not built: it is missing or invalid"),
        hint,
    )


def _block(condition: str, where: str, also: str, message: str, hint: str) -> str:
    # RAISE takes % in its message as a place for a value.
    raised = f"    RAISE EXCEPTION USING MESSAGE = {message}, HINT = {hint};"
    return "\n".join(
        ["DO $dbperf$ BEGIN", f"  IF {condition}", where, also + " THEN", raised, "  END IF;", "END $dbperf$"]
    )


def _literal(text: str) -> str:
    return literal(text.replace("$dbperf$", "$ dbperf $"))


def statements_of(changes: Iterable[IndexChange], *, down: bool) -> list[str]:
    """All statements of a direction, in the order in which they run."""
    ordered = reversed(list(changes)) if down else changes
    return [s for c in ordered for s in (c.down_sql if down else c.up_sql)]
