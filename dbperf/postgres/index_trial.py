"""Executes statements with and without one index, in turns, in transactions that are rolled back.

"Without" drops the index inside the transaction: the planner, writes and HOT updates then do without it, its file and
its pages in the cache stay, and the rollback brings it back. The table is locked exclusively meanwhile, so this is for
databases that nobody else needs at that moment.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
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

_PREPARED = "dbperf_trial"
_TIMED = "ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON"
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
        async with self._executing(case, options, with_index=with_index) as explain:
            await explain()
            return read_json(await explain())[0]

    async def time_ms(self, case: Case, *, with_index: bool) -> float:
        """One turn: an execution that only warms the cache, then one that counts (the fastest of three, if fast).

        Where one takes seconds it counts itself: the turns before have warmed what the cache can hold. One that is cut
        off by the time limit counts as long as the limit (`limit_ms`): a lower bound.
        """
        try:
            async with self._executing(case, _TIMED, with_index=with_index) as explain:
                first = _total_ms(await explain())
                if first >= _SLOW_MS:
                    return first
                repeats = _REPEATS if first < _FAST_MS else 1
                return min([_total_ms(await explain()) for _ in range(repeats)])
        except StatementError as e:
            if isinstance(e.__cause__, asyncpg.QueryCanceledError):
                return self.limit_ms
            raise

    async def cold_ms(self, case: Case, cache: ColdCache, *, with_index: bool, first: bool) -> float:
        """One turn: a single execution after the caches were emptied.

        Args:
            first: whether anything but such turns came since they were emptied.

        Raises:
            StatementError: the server refuses the statement, or it takes too long.
        """
        async with self._executing(case, _TIMED, with_index=with_index) as explain:
            await cache.evict(self.conn, only_read=not first)
            return _total_ms(await explain())

    async def rows(self, case: Case, *, with_index: bool, most: int = 1000) -> list[str]:
        """The first rows of the answer as text.

        Raises:
            StatementError: the server refuses the statement, or it takes too long.
        """
        async with self.turn(with_index=with_index):
            with server_errors(case.text):
                await self.conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                await self.conn.fetch(f"PREPARE {_PREPARED} AS {case.text}")
                try:
                    async with self.conn.transaction():
                        return [str(tuple(r.values())) for r in (await self.conn.fetch(_call(case)))[:most]]
                finally:
                    await self.conn.execute(f"DEALLOCATE {_PREPARED}")

    def uses(self, plan: Plan) -> bool:
        """Whether a plan reads the index (of a partitioned one: has to be asked of the partitions' indexes)."""
        return any(n.index_name == self.name for n in walk(plan.root))

    @asynccontextmanager
    async def _executing(
        self, case: Case, options: str, *, with_index: bool
    ) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """A turn of one statement: each call of what is given is an execution under EXPLAIN, and its JSON.

        The statement is prepared once for the turn. For each execution it was ten messages to the server and back,
        which for fast statements was most of a turn.

        Raises:
            StatementError: the server refuses the statement, or (the call) it takes too long.
        """
        prepared = False
        try:
            async with self.turn(with_index=with_index):
                with server_errors(case.text):
                    if case.parameters:
                        await self.conn.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                        # fetch() uses the extended protocol, in which the server accepts one statement only.
                        await self.conn.fetch(f"PREPARE {_PREPARED} AS {case.text}")
                        prepared = True
                call = _call(case) if case.parameters else case.text

                async def explain() -> str:
                    with server_errors(case.text):
                        # What a write did is undone, so that the next execution finds the same rows.
                        async with _Undone(self.conn) if case.writes else nullcontext():
                            return str(await self.conn.fetchval(f"EXPLAIN ({options}) {call}"))

                yield explain
        finally:
            if prepared and not self.conn.is_closed():  # the rollback leaves it
                await self.conn.execute(f"DEALLOCATE {_PREPARED}")

    async def _explain(self, case: Case, options: str) -> Plan:
        with server_errors(case.text):
            # A savepoint: one that is refused does not end the turn.
            async with self.conn.transaction():
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


def _call(case: Case) -> str:
    arguments = ", ".join("NULL" if v is None else literal(v) for v in case.parameters)
    return f"EXECUTE {_PREPARED}({arguments})" if case.parameters else f"EXECUTE {_PREPARED}"


def _total_ms(explained: str) -> float:
    """Execution and planning, from EXPLAIN's JSON: reading the whole plan takes longer than many statements do."""
    plan = json.loads(explained)[0]
    if "Execution Time" not in plan:
        raise StatementError("EXPLAIN ANALYZE gave no execution time")
    return float(plan["Execution Time"] + plan.get("Planning Time", 0.0))
