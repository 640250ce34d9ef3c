"""EXPLAIN ANALYZE of a statement that is proven to only read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from dbperf.errors import StatementError
from dbperf.plans.read_json import read_json
from dbperf.postgres.explain import explain_options, explain_values, rolled_back, server_errors
from dbperf.postgres.readonly import prove_read_only
from dbperf.postgres.sql_text import parameters_of, plannable, repair_normalised
from dbperf.records.plans import Plan


async def explain_analyze(
    conn: asyncpg.Connection[Any],
    sql: str,
    *,
    parameters: Sequence[str | None] = (),
    statement_timeout_s: float = 30,
    lock_timeout_s: float = 2,
) -> Plan:
    """The plan of a statement with what happened when it was executed.

    It is executed only if it is proven to read (dbperf.postgres.readonly), in a read-only transaction that is rolled
    back, under both time limits.

    Raises:
        StatementError: it may write, lock or call something that may; it fails; or it takes too long. Says why.
        ServerError: the connection is gone.
    """
    text = plannable(repair_normalised(sql))
    count = parameters_of(text)
    if len(parameters) != count:
        raise StatementError(
            f"the statement has {count} parameters, {len(parameters)} values were given",
            hint="give them with --params 1=value, or leave them out to have some drawn from the statistics",
        )
    options = explain_options(conn.get_server_version(), analyze=True)
    with server_errors(text):
        async with rolled_back(conn):
            await conn.execute("SET LOCAL transaction_read_only = on")
            # SET LOCAL takes no parameters; both are numbers.
            await conn.execute(f"SET LOCAL lock_timeout = {int(lock_timeout_s * 1000)}")
            await prove_read_only(conn, text)
            await conn.execute(f"SET LOCAL statement_timeout = {max(1, int(statement_timeout_s * 1000))}")
            if count:
                found = await explain_values(conn, text, options, parameters)
            else:
                found = await conn.fetchval(f"EXPLAIN ({options}) {text}")
    return read_json(str(found))[0]
