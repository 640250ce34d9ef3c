"""What-if planning on the target itself, where it has the extension hypopg (https://hypopg.readthedocs.io).

Candidates are hypothetical indexes of one session: nothing is written, and no other session sees them. hypopg knows
B-tree, BRIN, hash and bloom indexes, no trees' heights and (in 1.3) no way to hide an index that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from dbperf.errors import CapabilityError, ServerError, StatementError
from dbperf.postgres.explain import explain_values
from dbperf.postgres.sql_text import parameters_of
from dbperf.postgres.whatif import Answer, Candidate, Question, read_answer
from dbperf.records.shadow import CatalogNote


class HypopgPlanner:
    """A `WhatIf` in a session of the target. Make one with `open`."""

    name = "hypopg"
    can_hide = False

    def __init__(self, conn: asyncpg.Connection[Any], schema: str) -> None:
        self.calls = 0
        self.notes: list[CatalogNote] = []
        self._conn = conn
        self._schema = schema
        self._candidates: dict[str, Candidate] = {}
        self._on: dict[str, tuple[int, str]] = {}

    @classmethod
    async def open(cls, conn: asyncpg.Connection[Any]) -> HypopgPlanner:
        """A planner in the connection's session.

        Raises:
            CapabilityError: the database has no hypopg.
        """
        schema = await conn.fetchval(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'hypopg'"
        )
        if schema is None:
            raise CapabilityError(
                "the target has no extension hypopg",
                hint="CREATE EXTENSION hypopg, or leave --planner out: the shadow planner needs no extension",
            )
        return cls(conn, str(schema))

    async def add(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        refused = {}
        for c in candidates:
            try:
                await self._create(c)
            except asyncpg.PostgresError as e:
                refused[c.name] = str(e)
                continue
            await self._drop(c.name)
            self._candidates[c.name] = c
        return refused

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._on:
                await self._drop(name)
            self._candidates.pop(name, None)

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(questions)
        # Neighbours differ little, so that few indexes come and go.
        for i in sorted(range(len(questions)), key=lambda i: sorted(questions[i].on)):
            await self._switch(questions[i].on)
            answers[i] = await self._plan(questions[i].statement)
            self.calls += 1
        return [a for a in answers if a is not None]

    async def _switch(self, wanted: frozenset[str]) -> None:
        for name in sorted(set(self._on) - wanted):
            await self._drop(name)
        for name in sorted(wanted - set(self._on)):
            await self._create(self._candidates[name])

    async def _create(self, c: Candidate) -> None:
        row = await self._conn.fetchrow(
            f"SELECT indexrelid::int8 AS oid, indexname FROM {self._schema}.hypopg_create_index($1)",  # noqa: S608 - quoted by the server
            c.spec.create_sql(c.name),
        )
        assert row is not None
        self._on[c.name] = (row["oid"], row["indexname"])

    async def _drop(self, name: str) -> None:
        oid, _ = self._on.pop(name)
        await self._conn.execute(f"SELECT {self._schema}.hypopg_drop_index({int(oid)}::oid)")

    async def _plan(self, statement: str) -> Answer:
        names = {index: name for name, (_, index) in self._on.items()}
        try:
            async with self._conn.transaction(readonly=True):
                if count := parameters_of(statement):
                    found = await explain_values(
                        self._conn, statement, "FORMAT JSON", [None] * count, mode="force_generic_plan"
                    )
                else:
                    found = await self._conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}")
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as e:
            raise ServerError(f"the connection to the target was lost: {e}") from e
        except (asyncpg.PostgresError, StatementError) as e:
            return Answer(cost=None, error=str(e))
        return read_answer(msgspec.json.decode(found), names)
