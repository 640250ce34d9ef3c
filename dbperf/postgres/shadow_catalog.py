"""Reads what the planner knows of a database: catalog and statistics, no row of any table.

Needs a role that may connect; statistics come from `pg_stats`, which shows a role the columns that it may SELECT.
Nothing is created and no table is locked beyond the instant in which `pg_relation_size` opens it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from dbperf.errors import ServerError
from dbperf.postgres.collect import collector
from dbperf.postgres.shadow_ddl import literal, quote
from dbperf.records.shadow import (
    Catalog,
    CatalogExtension,
    CatalogNote,
    CatalogObject,
    Column,
    ColumnStatistics,
    ExtendedStatistics,
    ForeignKey,
    Index,
    Relation,
    RelationKind,
)

Row = Mapping[str, Any]

KINDS: dict[str, RelationKind] = {"r": "table", "p": "partitioned", "m": "matview", "f": "foreign"}


async def read_catalog(conn: asyncpg.Connection, *, source: str, heights: bool = True) -> Catalog:
    """The catalog, statistics and planner settings of the connection's database.

    Args:
        source: names the database in documents and messages; the password must be masked.
        heights: read the real heights of B-trees where the role may call pageinspect's `bt_metap`.

    Relations that someone holds in ACCESS EXCLUSIVE mode are left out, with a note: even printing a definition opens
    the relation, and whoever waits holds up others.

    Raises:
        ServerError: the server is older than PostgreSQL 14, or a lock was taken while reading (lock_timeout).
    """
    try:
        return await _read(conn, source, heights=heights)
    except asyncpg.LockNotAvailableError as e:
        raise ServerError(f"{source}: a table was locked while its definition was read", hint="try again") from e


async def _read(conn: asyncpg.Connection, source: str, *, heights: bool) -> Catalog:
    started = time.perf_counter()
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        info = dict((await _fetch(conn, "catalog_database"))[0])
        # With an empty path every name that PostgreSQL prints is qualified; only pg_catalog's stay bare.
        # pg_stats prints values in the session's styles; the shadow reads them in these.
        await conn.execute(
            "SET LOCAL search_path = ''; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; "
            "SET LOCAL timezone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'"
        )
        if info["version_num"] < 140000:
            raise ServerError(f"{source} runs PostgreSQL {info['version']}", hint="dbperf supports PostgreSQL 14 to 18")
        reader = _Reader(conn, info)
        relations = await reader.relations(heights=heights)
        objects = await reader.objects()
        foreign_keys = [
            ForeignKey(schema=s, table=t, name=r["name"], definition=r["definition"])
            for r in reader.constraints
            if r["kind"] == "f"
            for s, t in [reader.name_of.get(r["table_oid"], ("", ""))]
            if t
        ]
        extended = [ExtendedStatistics(**{**r, "keys": list(r["keys"])}) for r in await reader.rows("extended_data")]
    if info["tablespaces_with_costs"]:
        reader.note("tablespaces", "page costs set on a tablespace are not carried over")
    return Catalog(
        source=source,
        database=info["database"],
        server_version=info["version"],
        server_version_num=info["version_num"],
        read_at=datetime.now(UTC),
        read_s=time.perf_counter() - started,
        block_size_bytes=info["block_size_bytes"],
        encoding=info["encoding"],
        collate=info["collate"] or "",
        ctype=info["ctype"] or "",
        locale_provider=info["locale_provider"],
        settings=json.loads(info["settings"]),
        search_path=info["search_path"],
        extensions=[CatalogExtension(**e) for e in json.loads(info["extensions"])],
        objects=objects,
        relations=relations,
        foreign_keys=foreign_keys,
        extended_statistics=extended,
        notes=reader.notes,
    )


async def _fetch(conn: asyncpg.Connection, name: str, locked: Sequence[int] = ()) -> list[Any]:
    sql = collector(name, (conn.get_server_version().major,))
    rows: list[Any] = await conn.fetch(sql, *([list(locked)] if "$1" in sql else []))
    return rows


class _Reader:
    """One reading: rows of the catalog queries, joined by oid into records."""

    def __init__(self, conn: asyncpg.Connection, info: Mapping[str, Any]) -> None:
        self.conn = conn
        self.info = info
        self.notes: list[CatalogNote] = []
        self.locked: list[int] = []
        self.name_of: dict[int, tuple[str, str]] = {}
        self.constraints: list[dict[str, Any]] = []
        self.checks: dict[int, list[dict[str, Any]]] = {}

    def note(self, what: str, reason: str) -> None:
        self.notes.append(CatalogNote(object=what, reason=reason))

    async def rows(self, name: str) -> list[dict[str, Any]]:
        return [dict(r) for r in await _fetch(self.conn, f"catalog_{name}", self.locked)]

    async def relations(self, *, heights: bool) -> list[Relation]:
        for r in await self.rows("locked"):
            self.locked.append(r["oid"])
            self.note(f"{r['schema']}.{r['name']}", "left out: someone holds it locked (ACCESS EXCLUSIVE)")
        tables = await self.rows("relations")
        self.name_of = {r["oid"]: (r["schema"], r["name"]) for r in tables}
        self.constraints = await self.rows("constraints")
        self.checks = _grouped((k for k in self.constraints if k["kind"] == "c"), "table_oid")
        columns = _grouped(await self.rows("columns"), "oid")
        index_rows = await self.rows("indexes")
        statistics: dict[tuple[str, str], dict[str, list[ColumnStatistics]]] = defaultdict(lambda: defaultdict(list))
        for r in await self.rows("statistics"):
            key, name = (r.pop("schema"), r.pop("relation")), r.pop("name")
            statistics[key][name].append(ColumnStatistics(**r))
        sizes = {r["oid"]: r["size_bytes"] for r in await self.rows("sizes")}
        height_of = await self._heights([r for r in index_rows if r["oid"] in sizes]) if heights else {}
        index_names = {r["oid"]: (r["schema"], r["name"]) for r in index_rows}
        indexes: dict[int, list[Index]] = defaultdict(list)
        for r in index_rows:
            keys = _keys(r)
            indexes[r["table_oid"]].append(
                Index(
                    name=r["name"],
                    schema=r["schema"],
                    definition=r["definition"],
                    method=r["method"],
                    unique=r["unique"],
                    primary=r["primary"],
                    immediate=r["immediate"],
                    valid=r["valid"],
                    keys=keys,
                    descending=list(r["descending"]),
                    nulls_first=list(r["nulls_first"]),
                    include=list(r["include"]),
                    predicate=r["predicate"],
                    operator_classes=list(r["operator_classes"]),
                    constraint=r["constraint"],
                    constraint_definition=r["constraint_definition"],
                    pages=self._pages(sizes, r["oid"], r["pages"], ".".join(index_names[r["oid"]])),
                    tuples=r["tuples"],
                    height=height_of.get(r["oid"]),
                    parent=index_names.get(r["parent"]) if r["parent"] else None,
                    statistics=_expression_statistics(r, statistics.get((r["schema"], r["name"]), {})),
                    scans=r["scans"],
                )
            )
        return [self._relation(r, columns, indexes, statistics, sizes) for r in tables]

    def _pages(self, sizes: Mapping[int, int], oid: int, stored: int, name: str) -> int:
        if oid in sizes and sizes[oid] is not None:
            return int(sizes[oid]) // int(self.info["block_size_bytes"])
        if stored > 0:
            self.note(name, "its size could not be read; the last VACUUM's is used")
        return max(stored, 0)

    def _relation(
        self,
        r: dict[str, Any],
        columns: Mapping[int, list[dict[str, Any]]],
        indexes: Mapping[int, list[Index]],
        statistics: Mapping[tuple[str, str], Mapping[str, list[ColumnStatistics]]],
        sizes: Mapping[int, int],
    ) -> Relation:
        name = f"{r['schema']}.{r['name']}"
        seen = statistics.get((r["schema"], r["name"]), {})
        if r["kind"] in "rm":
            if r["tuples"] < 0:
                self.note(name, "never analysed: the planner guesses; run ANALYZE")
            elif r["tuples"] > 0 and not seen:
                why = "the role may not SELECT it" if not r["readable"] else "row security hides them"
                if r["readable"] and not r["row_security"]:
                    why = "none were collected; run ANALYZE"
                self.note(name, f"no column statistics: {why}")
            elif hidden := [c["name"] for c in columns.get(r["oid"], []) if not c["readable"]]:
                self.note(name, f"no statistics of {', '.join(hidden)}: the role may not SELECT these columns")
        return Relation(
            schema=r["schema"],
            name=r["name"],
            kind=KINDS[r["kind"]],
            pages=self._pages(sizes, r["oid"], r["stored_pages"], name) if r["kind"] in "rm" else 0,
            stored_pages=r["stored_pages"],
            tuples=r["tuples"],
            all_visible_pages=r["all_visible_pages"],
            columns=[_column(c, seen) for c in columns.get(r["oid"], [])],
            indexes=indexes.get(r["oid"], []),
            constraints=[f"{quote(k['name'])} {k['definition']}" for k in self.checks.get(r["oid"], [])],
            options=list(r["options"]),
            partition_key=r["partition_key"],
            partition_bound=r["partition_bound"],
            parents=[self.name_of[p] for p in r["parents"] if p in self.name_of],
            server=r["server"],
            row_security=r["row_security"],
            updates=r["updates"],
            inserts=r["inserts"],
            deletes=r["deletes"],
            hot_updates=r["hot_updates"],
        )

    async def _heights(self, index_rows: Iterable[Row]) -> dict[int, int]:
        """Root levels of B-trees, where pageinspect is installed and the role may call it (superusers only)."""
        schema = await self.conn.fetchval(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'pageinspect' AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        )
        btrees = [r["oid"] for r in index_rows if r["method"] == "btree" and r["pages"] > 0]
        if schema is None or not btrees:
            return {}
        found = await self.conn.fetch(
            f"SELECT o::int8 AS oid, ({schema}.bt_metap(o::oid::regclass::text)).level::int4 AS level "
            "FROM unnest($1::int8[]) o",
            btrees,
        )
        return {r["oid"]: r["level"] for r in found}

    async def objects(self) -> list[CatalogObject]:
        """Types, functions, views and the rest as SQL, in an order that mostly works; the builder tries again."""
        found: list[CatalogObject] = []
        for r in await self.rows("types"):
            if (sql := _type_sql(r)) is None:
                self.note(r["name"], "a base type that no extension brings can't be carried over")
            else:
                found.append(CatalogObject(kind="type", name=r["name"], sql=sql))
        for r in await self.rows("functions"):
            if r["definition"] and r["language"] in ("sql", "plpgsql", "internal"):
                found.append(CatalogObject(kind="function", name=r["name"], sql=r["definition"]))
            elif r["definition"]:
                self.note(r["name"], f"a function in {r['language']} is not carried over")
        try:
            async with self.conn.transaction():
                for r in await self.rows("views"):
                    options = f" WITH ({', '.join(r['options'])})" if r["options"] else ""
                    sql = f"CREATE VIEW {r['name']}{options} AS {r['definition']}"
                    found.append(CatalogObject(kind="view", name=r["name"], sql=sql))
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            self.note("views", "someone holds a lock on a table below a view; views are left out")
        for r in await self.rows("objects"):
            if r["kind"] == "aggregate":
                self.note(r["name"], "an aggregate of the database's own is not carried over")
            else:
                found.append(CatalogObject(kind=r["kind"], name=r["name"], sql=r["sql"]))
        return found


def _grouped(rows: Iterable[dict[str, Any]], key: str) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        groups[r[key]].append(r)
    return groups


def _column(r: dict[str, Any], statistics: Mapping[str, list[ColumnStatistics]]) -> Column:
    return Column(
        name=r["name"],
        number=r["number"],
        type=r["type"],
        not_null=r["not_null"],
        default=r["default"],
        generated={"s": "stored", "v": "virtual"}.get(r["generated"]),  # type: ignore[arg-type] # one of the literals
        identity={"a": "always", "d": "by default"}.get(r["identity"]),  # type: ignore[arg-type] # one of the literals
        collation=r["collation"],
        is_local=r["is_local"],
        statistics=statistics.get(r["name"], []),
    )


def _keys(r: dict[str, Any]) -> list[str]:
    """Key columns as plain names, expressions as text: pg_get_indexdef quotes both."""
    names = iter(r["key_columns"])
    return [text if expression else next(names) for text, expression in zip(r["keys"], r["is_expression"], strict=True)]


def _expression_statistics(
    r: dict[str, Any], statistics: Mapping[str, list[ColumnStatistics]]
) -> dict[int, list[ColumnStatistics]]:
    """By key position; pg_stats has an index's expressions under the names of the index's own columns."""
    return {i: statistics[name] for i, name in enumerate(r["key_names"], 1) if name in statistics}


def _type_sql(r: dict[str, Any]) -> str | None:
    name = r["name"]
    if r["kind"] == "e":
        return f"CREATE TYPE {name} AS ENUM ({', '.join(literal(x) for x in r['labels'])})"
    if r["kind"] == "d":
        parts = [f"CREATE DOMAIN {name} AS {r['base']}"]
        if r["collation"]:
            parts.append(f"COLLATE {r['collation']}")
        if r["not_null"]:
            parts.append("NOT NULL")
        return " ".join([*parts, *r["checks"]])
    if r["kind"] == "c":
        return f"CREATE TYPE {name} AS ({', '.join(r['fields'])})"
    if r["kind"] == "r":
        return f"CREATE TYPE {name} AS RANGE (subtype = {r['subtype']})"
    return None
