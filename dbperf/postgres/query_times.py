"""How long a query takes as a client sees it, execution by execution, and which index its plan uses."""

from __future__ import annotations

import time
from typing import Any

import asyncpg

from dbperf.errors import StatementError
from dbperf.plans.read_json import read_json
from dbperf.plans.tree import walk
from dbperf.postgres.connect import connected
from dbperf.postgres.explain import rolled_back, server_errors
from dbperf.postgres.readonly import prove_read_only
from dbperf.postgres.shadow_ddl import literal
from dbperf.postgres.sql_text import parameters_of, plannable
from dbperf.postgres.trial_cases import cases_of
from dbperf.records.plans import Plan

_NAME = "dbperf_times"


async def query_times(
    dsn: str,
    sql: str,
    *,
    executions: int,
    least: int | None = None,
    seconds: float = 60.0,
    draw: str | None = None,
    timeout_s: float = 30.0,
) -> tuple[list[float], Plan]:
    """Times in ms of executions with all their rows, over different parameters in turns, and the first one's plan.

    One execution, which fills the caches, comes before and is not counted.

    Args:
        dsn: where.
        sql: one query.
        executions: how many, at most.
        least: at least so many, also where they take longer than `seconds`; by default all.
        seconds: after which those that are more than the least are left out.
        draw: a query for values of its one parameter, $1 of them; by default they come from the statistics.
        timeout_s: of one execution.

    Raises:
        StatementError: it can't be executed, may do more than read, or takes too long.
        ConnectError: no connection.
    """
    text = plannable(sql)
    async with connected(dsn, statement_timeout_s=timeout_s) as conn:
        values = await _values(conn, text, draw, executions)
        async with rolled_back(conn):
            with server_errors(text):
                await prove_read_only(conn, text)
                await conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                await conn.fetch(f"PREPARE {_NAME} AS {text}")
                calls = [_call(v) for v in values]
                plan = read_json(str(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {calls[0]}")))[0]
                await conn.fetch(calls[0])
                times: list[float] = []
                deadline = time.monotonic() + seconds
                for n in range(executions):
                    if n >= (executions if least is None else least) and time.monotonic() > deadline:
                        break
                    begin = time.perf_counter()
                    await conn.fetch(calls[n % len(calls)])
                    times.append((time.perf_counter() - begin) * 1e3)
                await conn.execute(f"DEALLOCATE {_NAME}")
    return times, plan


async def _values(
    conn: asyncpg.Connection[Any], text: str, draw: str | None, executions: int
) -> list[tuple[str | None, ...]]:
    if not parameters_of(text):
        return [()]
    if draw is None:
        return [c.parameters for c in await cases_of(conn, text)]
    with server_errors(draw):
        # The query is the caller's own.
        rows = await conn.fetch(f"SELECT d.v::text FROM ({draw}) AS d (v)", executions)  # noqa: S608
    if not rows:
        raise StatementError("there are no values for its parameter: the table is empty")
    return [(r[0],) for r in rows]


def _call(values: tuple[str | None, ...]) -> str:
    arguments = ", ".join("NULL" if v is None else literal(v) for v in values)
    return f"EXECUTE {_NAME}({arguments})" if values else f"EXECUTE {_NAME}"


def index_of(plan: Plan) -> str | None:
    """The first index that a plan reads."""
    return next((n.index_name for n in walk(plan.root) if n.index_name), None)
