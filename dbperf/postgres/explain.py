"""EXPLAIN on a server: typed plans of statements with or without parameters. Nothing is executed here."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from dbperf.errors import ServerError, StatementError
from dbperf.plans.read_json import read_json
from dbperf.plans.rules import find
from dbperf.postgres.facts import table_facts
from dbperf.postgres.sql_text import parameters_of, plannable, repair_normalised
from dbperf.records.plans import Finding, Plan, StatementPlan

GENERIC_PLAN_VERSION = 160000
_PREPARED = "dbperf_statement"


async def explain(
    conn: asyncpg.Connection[Any],
    sql: str,
    *,
    parameters: Sequence[str | None] | None = None,
    verbose: bool = True,
) -> Plan:
    """The plan that the server makes for a statement, without executing it.

    Args:
        conn: a connection; the work is done in a read-only transaction (or a savepoint of the caller's) that is rolled
            back.
        sql: one SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES or TABLE, also as pg_stat_statements normalises it.
        parameters: texts of the values for $1, $2, ... (None: NULL). Left out, a statement with parameters gets its
            generic plan.
        verbose: also output lists and schema names.

    Raises:
        StatementError: the server refuses the statement, or it is a utility statement, or several; the message says
            why, with line and column where the server gave a position.
        ServerError: the connection is gone.
    """
    text = plannable(repair_normalised(sql))
    count = parameters_of(text)
    if parameters is not None and len(parameters) != count:
        raise StatementError(f"the statement has {count} parameters, {len(parameters)} values were given")
    options = explain_options(conn.get_server_version(), verbose=verbose)
    with server_errors(text):
        async with rolled_back(conn):
            if not count:
                found = await conn.fetchval(f"EXPLAIN ({options}) {text}")
            elif parameters is None:
                found = await _generic(conn, text, options, count)
            else:
                found = await explain_values(conn, text, options, parameters)
    return read_json(found)[0]


async def explain_statement(
    conn: asyncpg.Connection[Any], text: str, *, queryid: int | None = None, fingerprint: str | None = None
) -> StatementPlan:
    """The generic plan of a normalised statement and what is wrong in it; one that can't be planned gets `error`.

    Raises:
        ServerError: the connection is gone.
    """
    plan, error = None, None
    findings: list[Finding] = []
    try:
        plan = await explain(conn, text)
    except StatementError as e:
        error = e.message
    else:
        findings = await findings_of(conn, plan, text)
    return StatementPlan(
        queryid=queryid,
        fingerprint=fingerprint,
        text=text,
        how=None if plan is None else "generic" if parameters_of(text) else "given",
        plan=plan,
        findings=findings,
        error=error,
    )


async def findings_of(conn: asyncpg.Connection[Any], plan: Plan, text: str | None) -> list[Finding]:
    """What the rules say about a plan of this server, which knows the tables.

    Raises:
        ServerError: the connection is gone.
    """
    try:
        with server_errors(""):
            async with rolled_back(conn):
                facts = await table_facts(conn, plan)
    except StatementError:  # the catalog is out of reach: a lock, a timeout
        facts = {}
    return find(plan, statement=text, facts=facts)


def explain_options(version: Any, *, verbose: bool = True, analyze: bool = False) -> str:
    """The options in EXPLAIN's parentheses that the server knows, as much detail as it offers."""
    major = version.major
    options = ["FORMAT JSON"]
    if verbose:
        options.append("VERBOSE")
    if major >= 12:
        options.append("SETTINGS")
    if analyze:
        options += ["ANALYZE", "BUFFERS"]
        if major >= 13:
            options.append("WAL")
        if major >= 17:
            options += ["MEMORY", "SERIALIZE"]
    return ", ".join(options)


@contextlib.asynccontextmanager
async def rolled_back(conn: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """A read-only transaction that is always rolled back; a savepoint where the caller is in a transaction."""
    if conn.is_closed():
        raise ServerError("the connection to PostgreSQL is closed")
    # asyncpg's transaction() refuses other properties than the outer transaction's.
    transaction = conn.transaction() if conn.is_in_transaction() else conn.transaction(readonly=True)
    await transaction.start()
    try:
        yield
    finally:
        if not conn.is_closed():
            await transaction.rollback()


@contextlib.contextmanager
def server_errors(text: str) -> Any:
    """Turns what the server says into StatementError with a position, and a lost connection into ServerError."""
    try:
        yield
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as e:
        raise ServerError(f"the connection to PostgreSQL was lost: {e}") from e
    except (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError) as e:
        raise ServerError(f"PostgreSQL ended the connection: {e}") from e
    except asyncpg.PostgresError as e:
        raise StatementError(_message(e, text), hint=getattr(e, "hint", None)) from e


def _message(error: asyncpg.PostgresError, text: str) -> str:
    message = str(getattr(error, "message", None) or error).splitlines()[0]
    query = getattr(error, "internal_query", None) or getattr(error, "query", None)
    position = getattr(error, "internal_position", None) or getattr(error, "position", None)
    if position and (query is None or text in query):
        # The server counts characters of what it was sent, which is EXPLAIN (...) or PREPARE ... before the statement.
        at = int(position) - 1 - (query.index(text) if query else 0)
        if 0 <= at <= len(text):
            line = text.count("\n", 0, at) + 1
            column = at - text.rfind("\n", 0, at)
            return f"line {line}, column {column}: {message}"
    return message


async def _generic(conn: asyncpg.Connection[Any], text: str, options: str, count: int) -> str:
    """The plan that serves any values."""
    version = conn.get_server_version()
    if version.major * 10000 >= GENERIC_PLAN_VERSION and await _has_plpgsql(conn):
        # asyncpg would bind values, and PostgreSQL would then plan for them in spite of GENERIC_PLAN; inside a DO block
        # nothing is bound. Unlike a forced generic plan this shows the partitions that values prune at run time.
        await conn.execute("SELECT set_config('dbperf.explain', $1, true)", f"EXPLAIN (GENERIC_PLAN, {options}) {text}")
        await conn.execute(
            "DO $$DECLARE plan text; BEGIN EXECUTE current_setting('dbperf.explain') INTO plan; "
            "PERFORM set_config('dbperf.explain', plan, true); END$$"
        )
        return str(await conn.fetchval("SELECT current_setting('dbperf.explain')"))
    return await explain_values(conn, text, options, [None] * count, mode="force_generic_plan")


async def explain_values(
    conn: asyncpg.Connection[Any],
    text: str,
    options: str,
    values: Sequence[str | None],
    *,
    mode: str = "force_custom_plan",
) -> str:
    """EXPLAIN EXECUTE of a prepared statement: values are texts that the server casts to the parameters' types."""
    await conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
    # fetch() uses the extended protocol, in which the server accepts one statement only.
    await conn.fetch(f"PREPARE {_PREPARED} AS {text}")
    try:
        arguments = ", ".join("NULL" if v is None else _literal(v) for v in values)
        call = f"EXECUTE {_PREPARED}({arguments})" if values else f"EXECUTE {_PREPARED}"
        async with conn.transaction():
            return str(await conn.fetchval(f"EXPLAIN ({options}) {call}"))
    finally:
        if not conn.is_closed():
            await conn.execute(f"DEALLOCATE {_PREPARED}")


def _literal(value: str) -> str:
    """A string literal that means the same under both settings of standard_conforming_strings."""
    quoted = value.replace("'", "''")
    return f" E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{quoted}'"


async def _has_plpgsql(conn: asyncpg.Connection[Any]) -> bool:
    return bool(
        await conn.fetchval("SELECT has_language_privilege(oid, 'USAGE') FROM pg_language WHERE lanname = 'plpgsql'")
    )
