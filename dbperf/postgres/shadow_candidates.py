"""Candidates in a shadow: real, empty indexes whose rows are kept out of pg_index until a question wants them there.

An index that has no row in pg_index costs the planner nothing, however many there are: hidden by indisvalid, each would
be opened and locked whenever its table is planned. Each planning session has indexes of its own (copies of the first
session's rows under other oids, over the same files), so that sessions never wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from dbperf.postgres import shadow_files
from dbperf.postgres.shadow_database import INTERNAL, ShadowDatabase, forget_pages, pivot_bytes
from dbperf.postgres.shadow_ddl import quote
from dbperf.postgres.shadow_expressions import derive
from dbperf.postgres.shadow_stats import restore_expression
from dbperf.postgres.whatif import Candidate
from dbperf.records.shadow import ColumnStatistics, Index, Relation

TABLE = f"{INTERNAL}.candidate"
"""Rows of pg_index that are not there."""
_COPY = "dbperf_copy_"
_COPIED: Sequence[tuple[str, str, Mapping[str, str]]] = (
    ("pg_catalog.pg_class", "oid", {"oid": "v.new::oid", "relname": f"'{_COPY}' || v.new"}),
    ("pg_catalog.pg_attribute", "attrelid", {"attrelid": "v.new::oid"}),
    ("pg_catalog.pg_statistic", "starelid", {"starelid": "v.new::oid"}),
    (TABLE, "indexrelid", {"indexrelid": "v.new::oid"}),
)
"""Catalogs with what the planner asks about an index."""
_NEW_OIDS = (
    "SELECT pg_nextoid('pg_catalog.pg_class', 'oid', 'pg_catalog.pg_class_oid_index')::int8 AS oid "
    "FROM generate_series(1, cardinality($1::int8[])) ORDER BY 1"
)
SETUP = f"""
DO $$ BEGIN
  IF to_regclass('{TABLE}') IS NULL THEN
    CREATE TABLE {TABLE} AS SELECT * FROM pg_catalog.pg_index WITH NO DATA;
    CREATE UNIQUE INDEX ON {TABLE} (indexrelid);
  END IF;
END $$
"""


class _File(NamedTuple):
    schema: str
    table: str
    path: str
    oid: int


class Made(NamedTuple):
    """What `Maker.create` made."""

    rejected: dict[str, str]
    """Names of candidates that PostgreSQL refuses, with its message."""
    oids: list[dict[str, list[int]]]
    """For each session the oids of each candidate's indexes, those on partitions included."""
    names: dict[str, str]
    """Names of indexes in plans to candidates' names."""


class Maker:
    """Makes candidates for a number of sessions."""

    def __init__(self, shadow: ShadowDatabase, sessions: int) -> None:
        self.shadow = shadow
        self.sessions = sessions

    async def create(self, candidates: Sequence[Candidate]) -> Made:
        made = Made({}, [{}], {})
        for part in await asyncio.gather(*(self._create(p) for p in self._portions(candidates))):
            made.rejected.update(part.rejected)
            made.oids[0].update(part.oids[0])
            made.names.update(part.names)
        conn = await self._connect()
        try:
            await self._take_out(conn, made)
        finally:
            await conn.close()
        return made

    def _portions(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """As many as there are sessions, of about the same number.

        Candidates on a table with all its partitions stay together, in their order.
        """
        by_root: dict[tuple[str, str], list[Candidate]] = {}
        for c in candidates:
            by_root.setdefault(self._root((c.spec.schema, c.spec.table)), []).append(c)
        portions: list[list[Candidate]] = [[] for _ in range(self.sessions)]
        for its in sorted(by_root.values(), key=len, reverse=True):
            min(portions, key=len).extend(its)
        return [p for p in portions if p]

    def _root(self, table: tuple[str, str]) -> tuple[str, str]:
        relation = self.shadow.relation_of.get(table)
        return self._root(relation.parents[0]) if relation is not None and relation.parents else table

    async def _connect(self) -> asyncpg.Connection[Any]:
        """A connection of its own: one that has planned remembers how many segments a table's file has."""
        conn = await asyncpg.connect(self.shadow.server.dsn(self.shadow.name), statement_cache_size=0)
        await conn.execute("SET client_min_messages = 'error'")
        return conn

    async def _create(self, candidates: Sequence[Candidate]) -> Made:
        conn = await self._connect()
        try:
            await conn.execute("SET maintenance_work_mem = '64MB'")
            await conn.execute(f"SET search_path = {self.shadow.catalog.search_path or quote('')}")
            tables = sorted({(c.spec.schema, c.spec.table) for c in candidates})
            members = await self._members(conn, tables)
            among = [m for table in tables for m in members[table]]
            paths = await self.shadow.file_paths(conn, among)
            short = [m for m in among if m in paths]
            try:
                for m in short:  # CREATE INDEX would scan the hole
                    shadow_files.resize(paths[m], 0)
                sql = [c.spec.create_sql(c.name) for c in candidates]
                rows = await conn.fetch(f"SELECT * FROM {INTERNAL}.try_all($1)", sql)
                made = Made({candidates[r["n"] - 1].name: r["message"] for r in rows}, [{}], {})
                kept = [c for c in candidates if c.name not in made.rejected]
                found = await self._created(conn, kept, made)
                await self._expression_statistics(conn, kept)
                await forget_pages(conn)
                await self._sizes(conn, kept, found)
            finally:
                for m in short:
                    relation = self.shadow.relation_of[m]
                    shadow_files.resize(paths[m], relation.pages)
        finally:
            await conn.close()
        return made

    async def _members(
        self, conn: asyncpg.Connection[Any], tables: Sequence[tuple[str, str]]
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

    async def _created(
        self, conn: asyncpg.Connection[Any], kept: Sequence[Candidate], made: Made
    ) -> dict[str, list[_File]]:
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
            [c.spec.schema for c in kept],
            [c.name for c in kept],
        )
        found: dict[str, list[_File]] = {}
        for r in rows:
            made.oids[0].setdefault(r["name"], []).append(r["oid"])
            made.names[r["relname"]] = r["name"]
            found.setdefault(r["name"], [])
            if r["path"]:
                found[r["name"]].append(_File(r["nspname"], r["table"], r["path"], r["oid"]))
        return found

    async def _expression_statistics(self, conn: asyncpg.Connection[Any], kept: Sequence[Candidate]) -> None:
        known: dict[tuple[str, str, str], ColumnStatistics | None] = {}
        for c in kept:
            for position, key in enumerate(c.spec.keys, 1):
                if key.expression is None or c.spec.method != "btree":
                    continue
                of = (c.spec.schema, c.spec.table, key.expression)
                if of not in known:
                    known[of] = await derive(conn, self.shadow.relation_of[of[:2]], key.expression)
                if s := known[of]:
                    await restore_expression(conn, c.spec.schema, c.name, position, s)

    async def _sizes(
        self, conn: asyncpg.Connection[Any], kept: Sequence[Candidate], found: dict[str, list[_File]]
    ) -> None:
        """File sizes and pg_class of candidates; a partition's part is its share of the rows."""
        oids, pages, tuples = [], [], []
        for c in kept:
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

    async def _take_out(self, conn: asyncpg.Connection[Any], made: Made) -> None:
        """Moves the candidates' rows of pg_index out of it, and copies what catalogs have for the other sessions."""
        name_of = {oid: name for name, oids in made.oids[0].items() for oid in oids}
        oids = sorted(name_of)
        async with conn.transaction():
            await conn.execute(
                "WITH gone AS (DELETE FROM pg_catalog.pg_index WHERE indexrelid = ANY ($1::int8[]::oid[]) RETURNING *) "
                f"INSERT INTO {TABLE} SELECT * FROM gone",
                oids,
            )
            for _ in range(1, self.sessions):
                # The planner takes indexes in the order of their oids: it is the same in each session.
                rows = await conn.fetch(_NEW_OIDS, oids)
                new = [r["oid"] for r in rows]
                for catalog, key, replaced in _COPIED:
                    await conn.execute(await _copy(conn, catalog, key, replaced), oids, new)
                of: dict[str, list[int]] = {}
                for old, oid in zip(oids, new, strict=True):
                    of.setdefault(name_of[old], []).append(oid)
                    made.names[f"{_COPY}{oid}"] = name_of[old]
                made.oids.append(of)


async def _copy(conn: asyncpg.Connection[Any], catalog: str, key: str, replaced: Mapping[str, str]) -> str:
    """Copies a catalog's rows about the indexes $1 as rows about $2."""
    found = await conn.fetch(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 "
        "AND NOT attisdropped AND attname <> 'attmissingval' ORDER BY attnum",  # of a pseudo-type; indexes have none
        catalog,
    )
    columns = [r["attname"] for r in found]
    values = [replaced.get(c, f"x.{c}") for c in columns]
    return (
        f"INSERT INTO {catalog} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM unnest($1::int8[], $2::int8[]) v(old, new) JOIN {catalog} x ON x.{key} = v.old::oid ORDER BY v.new"
    )


def _as_index(c: Candidate, relation: Relation, share: float) -> Index:
    """What a candidate would be on one table or partition, which has this share of its rows."""
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
