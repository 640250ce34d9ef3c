"""What-if planning in a shadow: candidates are real, empty indexes that a question switches on.

A configuration is one UPDATE of pg_index.indisvalid in a subtransaction that is rolled back. Everything happens inside
the server, in one round trip for any number of questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from dbperf.errors import ServerError
from dbperf.postgres import shadow_files
from dbperf.postgres.shadow_database import INTERNAL, READER, ShadowDatabase, forget_pages, pivot_bytes
from dbperf.postgres.shadow_ddl import qualified, quote
from dbperf.postgres.shadow_expressions import derive
from dbperf.postgres.shadow_stats import restore_expression
from dbperf.postgres.sql_text import parameters_of
from dbperf.postgres.whatif import Answer, Candidate, Question, read_answer
from dbperf.records.shadow import ColumnStatistics, Index, Relation

_BATCH = 256
# Rolling back is done by an exception: variables keep their values, the catalog does not.
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {INTERNAL}.what_if(batch jsonb, reader name)
RETURNS TABLE (n int, plan text, message text) LANGUAGE plpgsql AS $$
DECLARE
  configuration jsonb;
  statement jsonb;
  numbers int[];
  plans text[];
  messages text[];
BEGIN
  FOR configuration IN SELECT * FROM jsonb_array_elements(batch) LOOP
    numbers := '{{}}'; plans := '{{}}'; messages := '{{}}';
    BEGIN
      UPDATE pg_catalog.pg_index SET indisvalid = true
      WHERE indexrelid IN (SELECT o::oid FROM jsonb_array_elements_text(configuration -> 'on') o);
      UPDATE pg_catalog.pg_index SET indisvalid = false
      WHERE indexrelid IN (SELECT o::oid FROM jsonb_array_elements_text(configuration -> 'off') o);
      IF reader IS NOT NULL THEN
        PERFORM set_config('role', reader, true);
      END IF;
      FOR statement IN SELECT * FROM jsonb_array_elements(configuration -> 'statements') LOOP
        numbers := numbers || (statement ->> 0)::int;
        BEGIN
          EXECUTE statement ->> 1 INTO plan;
          plans := plans || plan;
          messages := messages || NULL::text;
        EXCEPTION WHEN OTHERS THEN
          plans := plans || NULL::text;
          messages := messages || SQLERRM;
        END;
      END LOOP;
      RAISE EXCEPTION 'done' USING ERRCODE = 'DBP01';
    EXCEPTION WHEN SQLSTATE 'DBP01' THEN
      NULL;
    END;
    RETURN QUERY SELECT * FROM unnest(numbers, plans, messages);
  END LOOP;
END $$
"""


class _File(NamedTuple):
    schema: str
    table: str
    path: str
    oid: int


class ShadowPlanner:
    """A `WhatIf` on a shadow. Make one with `open`."""

    name = "shadow"
    can_hide = True

    def __init__(self, shadow: ShadowDatabase, conn: asyncpg.Connection) -> None:
        self.shadow = shadow
        self.calls = 0
        self.notes = shadow.notes
        self._conn = conn
        self._what_if: asyncpg.prepared_stmt.PreparedStatement[Any] | None = None
        self._oids: dict[str, list[int]] = {}
        self._names: dict[str, str] = {}
        self._existing: dict[tuple[str, str], list[int]] = {}

    @classmethod
    async def open(cls, shadow: ShadowDatabase) -> ShadowPlanner:
        conn = await shadow.connect()
        await conn.execute(_FUNCTION)
        planner = cls(shadow, conn)
        planner._what_if = await conn.prepare(f"SELECT * FROM {INTERNAL}.what_if($1::jsonb, $2)")
        rows = await conn.fetch(
            "SELECT n.nspname, c.relname, ARRAY(SELECT relid::oid::int8 FROM pg_partition_tree(c.oid)) AS tree, "
            "c.oid::int8 AS oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('i', 'I') AND n.nspname NOT IN ('pg_catalog', 'pg_toast')"
        )
        planner._existing = {(r["nspname"], r["relname"]): list(r["tree"]) or [r["oid"]] for r in rows}
        return planner

    async def close(self) -> None:
        await self._conn.close()

    async def add(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        if not candidates:
            return {}
        # A connection of its own: one that has planned remembers how many segments a table's file has.
        conn = await asyncpg.connect(self.shadow.server.dsn(self.shadow.name), statement_cache_size=0)
        try:
            return await self._add(conn, candidates)
        finally:
            await conn.close()

    async def _add(self, conn: asyncpg.Connection, candidates: Sequence[Candidate]) -> dict[str, str]:
        await conn.execute("SET client_min_messages = 'error'")
        await conn.execute("SET maintenance_work_mem = '64MB'")
        await conn.execute(f"SET search_path = {self.shadow.catalog.search_path or quote('')}")
        tables = sorted({(c.spec.schema, c.spec.table) for c in candidates})
        members = await self._members(conn, tables)
        paths = await self.shadow.file_paths(conn)
        short = [m for table in tables for m in members[table] if m in paths]
        rejected: dict[str, str] = {}
        try:
            for m in short:  # CREATE INDEX would scan the hole
                shadow_files.resize(paths[m], 0)
            sql = [c.spec.create_sql(c.name) for c in candidates]
            rows = await conn.fetch(f"SELECT * FROM {INTERNAL}.try_all($1)", sql)
            rejected = {candidates[r["n"] - 1].name: r["message"] for r in rows}
            made = [c for c in candidates if c.name not in rejected]
            found = await self._created(conn, made)
            await conn.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = ANY ($1::int8[]::oid[])",
                [oid for c in made for oid in self._oids[c.name]],
            )
            await self._expression_statistics(conn, made)
            await forget_pages(conn)
            await self._sizes(conn, made, found)
        finally:
            for m in short:
                relation = self.shadow.relation_of[m]
                shadow_files.resize(paths[m], relation.pages)
        return rejected

    async def _members(
        self, conn: asyncpg.Connection, tables: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Each table with its partitions."""
        rows = await conn.fetch(
            "SELECT t.s, t.t, n.nspname, c.relname FROM unnest($1::text[], $2::text[]) t(s, t) "
            "JOIN pg_namespace tn ON tn.nspname = t.s "
            "JOIN pg_class tc ON tc.relname = t.t AND tc.relnamespace = tn.oid "
            "CROSS JOIN LATERAL (SELECT tc.oid AS relid UNION SELECT relid FROM pg_partition_tree(tc.oid)) p "
            "JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace",
            [s for s, _ in tables],
            [t for _, t in tables],
        )
        members: dict[tuple[str, str], list[tuple[str, str]]] = {t: [] for t in tables}
        for r in rows:
            members[r["s"], r["t"]].append((r["nspname"], r["relname"]))
        return members

    async def _created(self, conn: asyncpg.Connection, made: Sequence[Candidate]) -> dict[str, list[_File]]:
        """Enters the candidates' oids, those on partitions included; the files of each."""
        rows = await conn.fetch(
            "SELECT t.name, c.oid::int8 AS oid, c.relname, pn.nspname, pc.relname AS table, "
            "CASE WHEN c.relkind = 'i' THEN pg_relation_filepath(c.oid) END AS path "
            "FROM unnest($1::text[], $2::text[]) t(schema, name) "
            "JOIN pg_namespace n ON n.nspname = t.schema "
            "JOIN pg_class r ON r.relname = t.name AND r.relnamespace = n.oid "
            "CROSS JOIN LATERAL (SELECT r.oid AS relid UNION SELECT relid FROM pg_partition_tree(r.oid)) p "
            "JOIN pg_class c ON c.oid = p.relid JOIN pg_index x ON x.indexrelid = c.oid "
            "JOIN pg_class pc ON pc.oid = x.indrelid JOIN pg_namespace pn ON pn.oid = pc.relnamespace",
            [c.spec.schema for c in made],
            [c.name for c in made],
        )
        found: dict[str, list[_File]] = {}
        for r in rows:
            self._oids.setdefault(r["name"], []).append(r["oid"])
            self._names[r["relname"]] = r["name"]
            found.setdefault(r["name"], [])
            if r["path"]:
                found[r["name"]].append(_File(r["nspname"], r["table"], r["path"], r["oid"]))
        return found

    async def _expression_statistics(self, conn: asyncpg.Connection, made: Sequence[Candidate]) -> None:
        known: dict[tuple[str, str, str], ColumnStatistics | None] = {}
        for c in made:
            for position, key in enumerate(c.spec.keys, 1):
                if key.expression is None or c.spec.method != "btree":
                    continue
                of = (c.spec.schema, c.spec.table, key.expression)
                if of not in known:
                    known[of] = await derive(conn, self.shadow.relation_of[of[:2]], key.expression)
                if s := known[of]:
                    await restore_expression(conn, c.spec.schema, c.name, position, s)

    async def _sizes(self, conn: asyncpg.Connection, made: Sequence[Candidate], found: dict[str, list[_File]]) -> None:
        """File sizes and pg_class of candidates; a partition's part is its share of the rows."""
        oids, pages, tuples = [], [], []
        for c in made:
            files = found[c.name]
            relations = [self.shadow.relation_of[f.schema, f.table] for f in files]
            total = sum(max(r.tuples, 0) for r in relations) or 1.0
            for relation, file in zip(relations, files, strict=True):
                share = max(relation.tuples, 0) / total if len(files) > 1 else 1.0
                index = _as_index(c, relation, share)
                self.shadow.set_index_size(self.shadow.server.data_dir / file.path, relation, index)
                oids.append(file.oid)
                pages.append(index.pages)
                tuples.append(index.tuples)
        await conn.execute(
            "UPDATE pg_class SET relpages = v.pages, reltuples = v.tuples "
            "FROM unnest($1::int8[], $2::int[], $3::real[]) v(oid, pages, tuples) WHERE pg_class.oid = v.oid::oid",
            oids,
            pages,
            tuples,
        )

    async def remove(self, names: Sequence[str]) -> None:
        if not names:
            return
        oids = [oid for n in names for oid in self._oids.pop(n, [])]
        gone = set(names)
        self._names = {plan: c for plan, c in self._names.items() if c not in gone}
        rows = await self._conn.fetch(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = ANY ($1::int8[]::oid[]) AND NOT c.relispartition",
            oids,
        )
        for start in range(0, len(rows), _BATCH):
            targets = ", ".join(qualified(r["nspname"], r["relname"]) for r in rows[start : start + _BATCH])
            await self._conn.execute(f"DROP INDEX {targets}")

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(questions)
        reader = READER if self.shadow.row_security else None
        for start in range(0, len(questions), _BATCH):
            part = range(start, min(start + _BATCH, len(questions)))
            groups: dict[tuple[frozenset[str], frozenset[tuple[str, str]]], list[int]] = {}
            for i in part:
                groups.setdefault((questions[i].on, questions[i].off), []).append(i)
            batch = [
                {
                    "on": [oid for name in sorted(on) for oid in self._oids[name]],
                    "off": [oid for name in sorted(off) for oid in self._existing.get(name, ())],
                    "statements": [[i, _explain(questions[i].statement)] for i in members],
                }
                for (on, off), members in groups.items()
            ]
            try:
                assert self._what_if is not None
                rows = await self._what_if.fetch(msgspec.json.encode(batch).decode(), reader)
            except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as e:
                raise ServerError(f"the shadow's server is gone: {e}") from e
            for r in rows:
                if r["plan"] is None:
                    answers[r["n"]] = Answer(cost=None, error=r["message"])
                else:
                    answers[r["n"]] = read_answer(msgspec.json.decode(r["plan"]), self._names)
            self.calls += len(part)
        return [a for a in answers if a is not None]


def _explain(statement: str) -> str:
    generic = "GENERIC_PLAN, " if parameters_of(statement) else ""
    return f"EXPLAIN ({generic}FORMAT JSON) {statement}"


def _as_index(c: Candidate, relation: Relation, share: float) -> Index:
    index = Index(
        name=c.name,
        schema=c.spec.schema,
        definition="",
        method=c.spec.method,
        unique=False,
        primary=False,
        valid=True,
        keys=[k.column or k.expression or "" for k in c.spec.keys],
        pages=max(2, round(c.pages * share)),
        tuples=c.tuples * share,
    )
    height = c.height
    if height is None and c.spec.method == "btree":
        height = shadow_files.btree_height(index.pages, pivot_bytes(relation, index))
    return Index(**{f: getattr(index, f) for f in index.__struct_fields__} | {"height": height})
