"""Executes statements with and without one index, in turns, in transactions that are rolled back.

"Without" drops the index inside the transaction: the planner, writes and HOT updates then do without it, its file and
its pages in the cache stay, and the rollback brings it back. The table is locked exclusively meanwhile, so this is for
databases that nobody else needs at that moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from dbperf.errors import StatementError
from dbperf.plans.read_json import read_json
from dbperf.plans.tree import walk
from dbperf.postgres.cold_cache import ColdCache
from dbperf.postgres.explain import explain_options, explain_values, server_errors
from dbperf.postgres.shadow_ddl import literal
from dbperf.records.plans import Plan

_FAST_MS = 20.0
_SLOW_MS = 1000.0
_REPEATS = 3
"""A fast statement is executed so often in each turn, and its fastest execution counts."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A statement with values for its parameters."""

    text: str
    parameters: tuple[str | None, ...] = ()
    writes: bool = False


class Trial:
    """One built index, and a connection that may drop it."""

    def __init__(self, conn: asyncpg.Connection[Any], schema: str, name: str, *, timeout_s: float = 30.0) -> None:
        self.conn = conn
        self.timeout_s = timeout_s
        self.name = name
        self._drop = "DROP INDEX " + ".".join('"' + n.replace('"', '""') + '"' for n in (schema, name))

    @property
    def limit_ms(self) -> float:
        """Of one execution."""
        return self.timeout_s * 1000

    @asynccontextmanager
    async def turn(self, *, with_index: bool) -> AsyncIterator[None]:
        """A transaction with or without the index, rolled back at its end.

        Raises:
            asyncpg.LockNotAvailableError: somebody uses the table.
        """
        transaction = self.conn.transaction()
        await transaction.start()
        try:
            await self.conn.execute(f"SET LOCAL statement_timeout = {int(self.timeout_s * 1000)}")
            if not with_index:
                await self.conn.execute(self._drop)
            yield
        finally:
            if not self.conn.is_closed():
                await transaction.rollback()

    async def plans(self, cases: Sequence[Case], *, with_index: bool) -> list[Plan | StatementError]:
        """The plans of all cases in one turn, nothing executed; an error where the server refuses a statement."""
        options = explain_options(self.conn.get_server_version())
        found: list[Plan | StatementError] = []
        async with self.turn(with_index=with_index):
            for case in cases:
                try:
                    found.append(await self._explain(case, options))
                except StatementError as e:
                    found.append(e)
        return found

    async def analyzed(self, case: Case, *, with_index: bool) -> Plan:
        """The plan with what happened, from its second execution, so that the cache is warm.

        Raises:
            StatementError: the server refuses the statement, or it takes too long.
        """
        options = explain_options(self.conn.get_server_version(), analyze=True)
        async with self.turn(with_index=with_index):
            await self._explain(case, options)
            return await self._explain(case, options)

    async def time_ms(self, case: Case, *, with_index: bool) -> float:
        """One turn: an execution that only warms the cache, then one that counts (the fastest of three, if fast).

        Where one takes seconds it counts itself: the turns before have warmed what the cache can hold. One that is cut
        off by the time limit counts as long as the limit (`limit_ms`): a lower bound.
        """
        options = "ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON"
        try:
            async with self.turn(with_index=with_index):
                first = _total_ms(await self._explain(case, options))
                if first >= _SLOW_MS:
                    return first
                repeats = _REPEATS if first < _FAST_MS else 1
                return min([_total_ms(await self._explain(case, options)) for _ in range(repeats)])
        except StatementError as e:
            if isinstance(e.__cause__, asyncpg.QueryCanceledError):
                return self.limit_ms
            raise

    async def cold_ms(self, case: Case, cache: ColdCache, *, with_index: bool) -> float:
        """One turn: a single execution after the caches were emptied.

        Raises:
            StatementError: the server refuses the statement, or it takes too long.
        """
        async with self.turn(with_index=with_index):
            await cache.evict(self.conn)
            return _total_ms(await self._explain(case, "ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON"))

    async def rows(self, case: Case, *, with_index: bool, most: int = 1000) -> list[str]:
        """The first rows of the answer as text.

        Raises:
            StatementError: the server refuses the statement, or it takes too long.
        """
        async with self.turn(with_index=with_index):
            with server_errors(case.text):
                await self.conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                await self.conn.fetch(f"PREPARE dbperf_rows AS {case.text}")
                try:
                    arguments = ", ".join("NULL" if v is None else literal(v) for v in case.parameters)
                    call = f"EXECUTE dbperf_rows({arguments})" if case.parameters else "EXECUTE dbperf_rows"
                    async with self.conn.transaction():
                        return [str(tuple(r.values())) for r in (await self.conn.fetch(call))[:most]]
                finally:
                    await self.conn.execute("DEALLOCATE dbperf_rows")

    def uses(self, plan: Plan) -> bool:
        """Whether a plan reads the index (of a partitioned one: has to be asked of the partitions' indexes)."""
        return any(n.index_name == self.name for n in walk(plan.root))

    async def _explain(self, case: Case, options: str) -> Plan:
        with server_errors(case.text):
            # A savepoint: what a write did is undone, so that the next execution finds the same rows.
            async with self.conn.transaction() if not case.writes else _Undone(self.conn):
                if case.parameters:
                    found = await explain_values(self.conn, case.text, options, case.parameters)
                else:
                    found = await self.conn.fetchval(f"EXPLAIN ({options}) {case.text}")
        return read_json(str(found))[0]


class _Undone:
    """A savepoint that is always rolled back."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        self._conn = conn
        self._transaction = conn.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, *_: object) -> None:
        if not self._conn.is_closed():
            await self._transaction.rollback()


def _total_ms(plan: Plan) -> float:
    if plan.execution_ms is None:
        raise StatementError("EXPLAIN ANALYZE gave no execution time")
    return plan.execution_ms + (plan.planning_ms or 0.0)
