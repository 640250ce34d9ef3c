"""`dbperf.explain`: a statement, or a plan, in; a plan with findings out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from dbperf.errors import CapabilityError, PlanError, StatementError, UsageError
from dbperf.plans.derive import nodes_ms
from dbperf.plans.logged import logged_parameters
from dbperf.plans.read import read_plans
from dbperf.plans.rules import find
from dbperf.postgres.analyze import explain_analyze
from dbperf.postgres.connect import connected
from dbperf.postgres.explain import explain as explain_planned
from dbperf.postgres.explain import findings_of, rolled_back, server_errors
from dbperf.postgres.representative import Values, representative_values
from dbperf.postgres.sql_text import parameters_of, plannable, repair_normalised
from dbperf.records.plans import ExplainedCase, Explanation, Plan

Parameters = Mapping[int, str | None] | Sequence[str | None]


def explain(
    sql: str | None = None,
    *,
    plan: str | None = None,
    dsn: str = "",
    analyze: bool = False,
    parameters: Parameters | None = None,
    timeout_s: float = 30,
) -> Explanation:
    """The plan of a statement on a server, or of EXPLAIN's output, with what is wrong in it.

    It can be called with and without a running event loop; `explain_async` is the coroutine.

    Args:
        sql: a statement. One with parameters and no values gets its generic plan, or, with `analyze`, is executed with
            a typical, a common and a rare value of each column.
        plan: EXPLAIN's output in text or JSON format instead; no server is needed.
        dsn: where; an empty string: the PG* variables decide.
        analyze: execute it, if it is proven to only read, in a read-only transaction that is rolled back.
        parameters: texts for $1, $2, ... (None: NULL), in order or by number.
        timeout_s: of the execution.

    Raises:
        PlanError: the output can't be read.
        StatementError: the statement can't be planned, or is not proven to read, or fails.
        ConnectError, ServerError: no connection.
    """
    if plan is not None:
        return explain_plan(plan, statement=sql)
    if sql is None:
        raise UsageError("a statement or a plan is needed")
    call = explain_async(sql, dsn=dsn, analyze=analyze, parameters=parameters, timeout_s=timeout_s)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call)
    found: list[Explanation] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(call))
        except BaseException as e:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(e)

    thread = threading.Thread(target=work, name="dbperf-explain")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def explain_plan(text: str, *, statement: str | None = None, nth: int | None = None) -> Explanation:
    """Findings of EXPLAIN's output, without a server.

    Args:
        nth: which of several plans, from 1; the one that took longest otherwise.

    Raises:
        PlanError: there is no plan, or not so many.
    """
    plans = read_plans(text)
    if nth is not None and not 1 <= nth <= len(plans):
        raise PlanError(f"there is no plan {nth}: the text holds {len(plans)}")
    plan = plans[nth - 1] if nth is not None else max(plans, key=_weight)
    notes = []
    if len(plans) > 1:
        which = plans.index(plan) + 1
        notes.append(f"the text holds {len(plans)} plans; this is number {which}" + ("" if nth else ", the slowest"))
    asked = statement or plan.extra.get("Query Text")
    logged = plan.extra.get("Query Parameters")
    return Explanation(
        statement=asked if isinstance(asked, str) else None,
        how="logged" if "Query Text" in plan.extra else "given",
        parameters=logged_parameters(f"Query Parameters: {logged}") if isinstance(logged, str) else [],
        plan=plan,
        findings=find(plan, statement=statement),
        notes=notes,
    )


def _weight(plan: Plan) -> tuple[float, float]:
    return (nodes_ms(plan) or 0.0, plan.root.total_cost or 0.0)


async def explain_async(
    sql: str,
    *,
    dsn: str = "",
    analyze: bool = False,
    parameters: Parameters | None = None,
    timeout_s: float = 30,
) -> Explanation:
    """The coroutine behind `explain`."""
    # The statement has a limit of its own; planning and the catalog must not hang either.
    async with connected(dsn, statement_timeout_s=max(60, timeout_s)) as conn:
        return await explain_on(conn, sql, analyze=analyze, parameters=parameters, timeout_s=timeout_s)


async def explain_on(
    conn: asyncpg.Connection[Any],
    sql: str,
    *,
    analyze: bool = False,
    parameters: Parameters | None = None,
    timeout_s: float = 30,
) -> Explanation:
    """The same over a connection of the caller's."""
    text = plannable(repair_normalised(sql))
    count = parameters_of(text)
    if parameters is not None or not count:
        values = _in_order(parameters or (), count)
        if analyze:
            plan = await explain_analyze(conn, text, parameters=values, statement_timeout_s=timeout_s)
        else:
            plan = await explain_planned(conn, text, parameters=values)
        return Explanation(
            statement=text,
            how="analyze" if analyze else "values" if count else "given",
            parameters=values,
            plan=plan,
            findings=await findings_of(conn, plan, text),
        )
    if not analyze:
        plan = await explain_planned(conn, text)
        return Explanation(statement=text, how="generic", plan=plan, findings=await findings_of(conn, plan, text))
    return await _representative(conn, text, timeout_s)


def _in_order(given: Parameters, count: int) -> list[str | None]:
    if not isinstance(given, Mapping):
        return list(given)
    has = f"the statement has {count or 'no'} parameter{'' if count == 1 else 's'}"
    if missing := sorted(set(range(1, count + 1)) - set(given)):
        hint = f"with values for some, all need one: --params {missing[0]}=…"
        raise StatementError(f"{has}, and there is no value for ${missing[0]}", hint=hint)
    if extra := sorted(set(given) - set(range(1, count + 1))):
        hint = f"they are $1 to ${count}" if count > 1 else "it is $1" if count else "leave --params out"
        raise StatementError(f"{has}, and there is a value for ${extra[0]}", hint=hint)
    return [given[n] for n in range(1, count + 1)]


async def _representative(conn: asyncpg.Connection[Any], text: str, timeout_s: float) -> Explanation:
    """Executed with drawn values, the slowest first; a case that fails is noted."""
    drawn: list[Values] = []
    with server_errors(text):
        async with rolled_back(conn):
            drawn = await representative_values(conn, text)
    cases: list[ExplainedCase] = []
    notes: list[str] = []
    failure: StatementError | None = None
    for one in drawn:
        try:
            plan = await explain_analyze(conn, text, parameters=one.values, statement_timeout_s=timeout_s)
        except StatementError as e:
            failure = e
            notes.append(f"{one.case} values: {e.message}")
            continue
        cases.append(
            ExplainedCase(
                case=one.case,
                parameters=list(one.values),
                origins=list(one.origins),
                plan=plan,
                findings=await findings_of(conn, plan, text),
            )
        )
    if not cases:
        raise failure or StatementError("no values could be drawn for the parameters")
    worst = max(cases, key=lambda c: _weight(c.plan))
    return Explanation(
        statement=text,
        how="analyze",
        parameters=worst.parameters,
        plan=worst.plan,
        findings=worst.findings,
        cases=cases,
        notes=notes,
    )


async def statement_of(conn: asyncpg.Connection[Any], queryid: int) -> str:
    """The text of a statement that pg_stat_statements knows.

    Raises:
        CapabilityError: the extension is not there, or may not be read.
        StatementError: it knows no such statement.
    """
    schema = await conn.fetchval(
        "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'pg_stat_statements'"
    )
    if schema is None:
        raise CapabilityError(
            "pg_stat_statements is not installed in this database", hint="CREATE EXTENSION pg_stat_statements;"
        )
    try:
        # The schema's name comes quoted from the catalog.
        text = await conn.fetchval(
            f"SELECT query FROM {schema}.pg_stat_statements WHERE queryid = $1 ORDER BY calls DESC LIMIT 1",  # noqa: S608
            queryid,
        )
    except asyncpg.PostgresError as e:
        raise CapabilityError(
            f"pg_stat_statements can't be read: {e}", hint="dbperf doctor says what is missing"
        ) from e
    if text is None:
        raise StatementError(f"pg_stat_statements has no statement with queryid {queryid}")
    if text == "<insufficient privilege>":
        raise CapabilityError(
            f"this role may not see the text of statement {queryid}",
            hint="GRANT pg_read_all_stats TO your_role; dbperf doctor prints it with the name",
        )
    return str(text)
