"""What-if planning in a shadow: candidates are empty indexes (`shadow_candidates`) that a question switches on.

A configuration is some rows in pg_index, in a transaction that is never committed. From one question to the next only
the rows that differ are inserted or deleted, and questions are sorted so that few do: PostgreSQL forgets what it knows
of an index, and of its table, whenever a row changes, and reading all that anew costs more than planning. Everything
happens inside the server, in one round trip for many questions, and several sessions plan at once: answers do not
depend on which.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from dbperf.errors import ServerError
from dbperf.postgres.shadow_candidates import SETUP, TABLE, Maker
from dbperf.postgres.shadow_database import INTERNAL, READER, ShadowDatabase
from dbperf.postgres.sql_text import parameters_of
from dbperf.postgres.whatif import Answer, Candidate, Question, read_answer
from dbperf.processes import usable_cpus

_BATCH = 256
_SESSIONS_MOST = 4
"""One process asks, and reads the answers: more sessions would wait for it."""
_PORTIONS = 3
"""Of a session's share of the questions: who is done first takes another."""
_ROLLED_BACK_AFTER = 3000
"""Rows switched on or off: a transaction's own dead rows are looked at again and again."""
# A row of pg_index makes sessions forget what they know of the index, not of its table, and a lock on the table's row
# would keep others out: the additional system attribute, which nobody looks for, makes them forget the table.
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {INTERNAL}.what_if(batch jsonb, reader name)
RETURNS TABLE (n int, plan text, message text) LANGUAGE plpgsql AS $$
DECLARE
  step jsonb;
  statement jsonb;
  gone oid[];
  come oid[];
  hidden oid[];
BEGIN
  FOR step IN SELECT * FROM jsonb_array_elements(batch) LOOP
    gone := translate(step ->> 'gone', '[]', '{{}}')::oid[];
    come := translate(step ->> 'come', '[]', '{{}}')::oid[];
    IF reader IS NOT NULL THEN
      PERFORM set_config('role', 'none', true);
    END IF;
    IF cardinality(gone) > 0 THEN
      DELETE FROM pg_catalog.pg_index WHERE indexrelid = ANY (gone);
    END IF;
    IF cardinality(come) > 0 THEN
      INSERT INTO pg_catalog.pg_index SELECT * FROM {TABLE} WHERE indexrelid = ANY (come);
    END IF;
    IF cardinality(gone) + cardinality(come) > 0 THEN
      INSERT INTO pg_catalog.pg_attribute (attrelid, attname, atttypid, attlen, attnum, atttypmod, attndims, attbyval,
        attalign, attstorage, attcompression, attnotnull, atthasdef, atthasmissing, attidentity, attgenerated,
        attisdropped, attislocal, attinhcount, attcollation)
      SELECT DISTINCT indrelid, 'dbperf ' || (step ->> 'mark'), 26::oid, 4::int2, (step ->> 'mark')::int2, -1, 0::int2,
        true, 'i'::"char", 'p'::"char", ''::"char", true, false, false, ''::"char", ''::"char",
        false, true, 0::int2, 0::oid
      FROM {TABLE} WHERE indexrelid = ANY (gone || come);
    END IF;
    IF step -> 'off' <> '[]' THEN
      WITH changed AS (
        UPDATE pg_catalog.pg_index SET indisvalid = false
        WHERE indisvalid AND indexrelid IN (SELECT o::oid FROM jsonb_array_elements_text(step -> 'off') o)
        RETURNING indexrelid
      ) SELECT array_agg(indexrelid) INTO hidden FROM changed;
    END IF;
    IF reader IS NOT NULL THEN
      PERFORM set_config('role', reader, true);
    END IF;
    FOR statement IN SELECT * FROM jsonb_array_elements(step -> 'statements') LOOP
      n := (statement ->> 0)::int;
      BEGIN
        EXECUTE statement ->> 1 INTO plan;
        message := NULL;
      EXCEPTION WHEN OTHERS THEN
        plan := NULL;
        message := SQLERRM;
      END;
      RETURN NEXT;
    END LOOP;
    IF hidden IS NOT NULL THEN
      PERFORM set_config('role', 'none', true);
      UPDATE pg_catalog.pg_index SET indisvalid = true WHERE indexrelid = ANY (hidden);
      hidden := NULL;
    END IF;
  END LOOP;
END $$
"""


class _Session:
    """A connection that plans. Each has its own oids of the candidates."""

    def __init__(self, number: int, conn: asyncpg.Connection[Any], ask: asyncpg.prepared_stmt.PreparedStatement[Any]):
        self.number = number
        self.conn = conn
        self.ask = ask
        self.oids: dict[str, list[int]] = {}
        self._on: set[int] | None = None
        """What is switched on; None outside a transaction, or where it is not known."""
        self._marks = 0
        self._switched = 0

    @classmethod
    async def open(cls, shadow: ShadowDatabase, number: int) -> _Session:
        conn = await shadow.connect()
        ask = await conn.prepare(f"SELECT * FROM {INTERNAL}.what_if($1::jsonb, $2)")
        return cls(number, conn, ask)

    async def plans(self, batch: Sequence[_Group], reader: str | None) -> list[asyncpg.Record]:
        """Rows (n, plan, message)."""
        if self._on is None or self._switched > _ROLLED_BACK_AFTER:
            await self.roll_back()
            await self.conn.execute("BEGIN")
            self._on = set()
        steps = []
        now = self._on
        for group in batch:
            wanted = {oid for name in group.on for oid in self.oids[name]}
            gone, come = sorted(now - wanted), sorted(wanted - now)
            self._switched += len(gone) + len(come)
            self._marks += 1
            # Numbers that no other session uses: it would wait for this one to end.
            mark = -100 - (self._marks * _SESSIONS_MOST + self.number)
            steps.append({"gone": gone, "come": come, "mark": mark, "off": group.off, "statements": group.statements})
            now = wanted
        self._on = None  # until it is known to have gone well
        rows = await self.ask.fetch(msgspec.json.encode(steps).decode(), reader)
        self._on = now
        if any(group.off for group in batch):
            await self.roll_back()  # who hides the same index would wait
        return rows

    async def roll_back(self) -> None:
        """Ends the transaction: locks are gone, and candidates switched off."""
        self._on, self._marks = None, 0
        await self.conn.execute("ROLLBACK")
        if self._switched > _ROLLED_BACK_AFTER:
            self._switched = 0
            # There is no autovacuum here.
            await self.conn.execute(
                "VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE FALSE) pg_catalog.pg_index, pg_catalog.pg_attribute"
            )


class _Group(NamedTuple):
    """Questions under one configuration."""

    on: list[str]
    off: list[int]
    statements: list[tuple[int, str]]


class ShadowPlanner:
    """A `WhatIf` on a shadow. Make one with `open`."""

    name = "shadow"
    can_hide = True

    def __init__(self, shadow: ShadowDatabase, sessions: Sequence[_Session]) -> None:
        self.shadow = shadow
        self.calls = 0
        self.notes = shadow.notes
        self.sessions = sessions
        self._maker = Maker(shadow, len(sessions))
        self._names: dict[str, str] = {}
        self._existing: dict[tuple[str, str], list[int]] = {}
        self._explained: dict[str, str] = {}

    @classmethod
    async def open(cls, shadow: ShadowDatabase, *, sessions: int | None = None) -> ShadowPlanner:
        """
        Args:
            sessions: how many plan at once; None: as many as there are processors, at most 4.
        """
        count = min(_SESSIONS_MOST, usable_cpus()) if sessions is None else sessions
        conn = await shadow.connect()
        try:
            await conn.execute(_FUNCTION)
            await conn.execute(SETUP)
            rows = await conn.fetch(
                "SELECT n.nspname, c.relname, ARRAY(SELECT relid::oid::int8 FROM pg_partition_tree(c.oid)) AS tree, "
                "c.oid::int8 AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('i', 'I') AND n.nspname NOT IN ('pg_catalog', 'pg_toast')"
            )
        finally:
            await conn.close()
        planner = cls(shadow, [await _Session.open(shadow, n) for n in range(count)])
        planner._existing = {(r["nspname"], r["relname"]): list(r["tree"]) or [r["oid"]] for r in rows}
        return planner

    async def close(self) -> None:
        for session in self.sessions:
            await session.conn.close()

    async def add(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        if not candidates:
            return {}
        for session in self.sessions:
            await session.roll_back()  # CREATE INDEX would wait for its locks
        made = await self._maker.create(candidates)
        self._names.update(made.names)
        for session, oids in zip(self.sessions, made.oids, strict=True):
            session.oids.update(oids)
        return made.rejected

    async def remove(self, names: Sequence[str]) -> None:
        gone = set(names)
        self._names = {plan: c for plan, c in self._names.items() if c not in gone}
        for session in self.sessions:
            for name in names:
                session.oids.pop(name, None)

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(questions)
        reader = READER if self.shadow.row_security else None
        batches = deque(self._batches(questions))
        # Hiding locks the index's row: sessions that hide the same one would wait for each other.
        sessions = self.sessions[:1] if any(q.off for q in questions) else self.sessions

        async def work(session: _Session) -> None:
            while batches:
                for r in await session.plans(batches.popleft(), reader):
                    if r["plan"] is None:
                        answers[r["n"]] = Answer(cost=None, error=r["message"])
                    else:
                        answers[r["n"]] = read_answer(msgspec.json.decode(r["plan"]), self._names)

        tasks = [asyncio.ensure_future(work(s)) for s in sessions[: len(batches)]]
        try:
            await asyncio.gather(*tasks)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as e:
            raise ServerError(f"the shadow's server is gone: {e}") from e
        finally:
            # A session that is asked while it still answers would refuse.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.calls += len(questions)
        return [a for a in answers if a is not None]

    def _batches(self, questions: Sequence[Question]) -> Iterator[list[_Group]]:
        """Questions in portions, those under one configuration together."""
        groups: dict[tuple[frozenset[str], frozenset[tuple[str, str]]], list[int]] = {}
        for i, q in enumerate(questions):
            groups.setdefault((q.on, q.off), []).append(i)
        size = min(_BATCH, -(-len(questions) // (_PORTIONS * len(self.sessions))))
        batch: list[_Group] = []
        room = size
        # Next to each other what has the most in common.
        for (on, off), members in sorted(groups.items(), key=lambda g: sorted(g[0][0])):
            hidden = [oid for name in sorted(off) for oid in self._existing.get(name, ())]
            for start in range(0, len(members), size):
                part = members[start : start + size]
                batch.append(_Group(sorted(on), hidden, [(i, self._explain(questions[i].statement)) for i in part]))
                room -= len(part)
                if room <= 0:
                    yield batch
                    batch, room = [], size
        if batch:
            yield batch

    def _explain(self, statement: str) -> str:
        """EXPLAIN for a statement; the same ones are asked about over and over."""
        if (found := self._explained.get(statement)) is None:
            generic = "GENERIC_PLAN, " if parameters_of(statement) else ""
            found = self._explained[statement] = f"EXPLAIN ({generic}FORMAT JSON) {statement}"
        return found
