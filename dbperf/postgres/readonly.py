"""Proof that a statement only reads, before EXPLAIN ANALYZE executes it.

Three layers: the parse tree must hold nothing but what is known to read (`readonly_text`); every function it can reach,
through operators, types, views, row security policies and the bodies of functions, must be known not to change a thing;
and it is executed in a read-only transaction that is rolled back, under time limits (`analyze`).
"""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import postgast

from dbperf.postgres.readonly_text import HARMLESS_VOLATILE, Name, Uses, not_read_only, uses
from dbperf.resources import sql

_WRITES = re.compile(
    r"\b(insert\s+into|update\s+\S+\s+set|delete\s+from|merge\s+into|truncate|create|alter|drop|grant|revoke|copy|lock|"
    r"notify|listen|execute|call|set|reset|vacuum|analyze|refresh|reindex|cluster|import|commit|rollback)\b",
    re.IGNORECASE,
)
_CALL = re.compile(r"(?:\b([a-z_][\w$]*)\s*\.\s*)?\b([a-z_][\w$]*)\s*\(", re.IGNORECASE)
_MAX_TEXTS = 500


async def prove_read_only(conn: asyncpg.Connection[Any], text: str) -> None:
    """Raises unless everything that executing a statement can reach is known to only read.

    Raises:
        StatementError: it writes, locks, or calls something that may; the message says what, and through which object.
    """
    waiting: list[tuple[str, Uses]] = [("", uses(text))]
    functions: set[Name] = set()
    relations: set[Name] = set()
    steps = 0
    while waiting:
        steps += 1
        if steps > _MAX_TEXTS:
            raise not_read_only(f"it reaches more than {_MAX_TEXTS} views and functions")
        where, found = waiting.pop()
        calls = set(found.functions) | await _behind(conn, found, waiting, where)
        waiting += await _functions(conn, calls - functions, where)
        waiting += await _relations(conn, set(found.relations) - relations)
        functions |= calls
        relations |= found.relations


async def _behind(conn: asyncpg.Connection[Any], found: Uses, waiting: list[tuple[str, Uses]], where: str) -> set[Name]:
    """Functions that operators and types stand for."""
    names: set[Name] = set()
    if found.operators:
        rows = await conn.fetch(sql("collect/readonly_operators/14.sql"), [n for _, n in found.operators])
        names |= {(r["schema"], r["name"]) for r in rows}
    if found.types:
        for row in await conn.fetch(sql("collect/readonly_types/14.sql"), [n for _, n in found.types]):
            if row["checked"] is None:
                names.add((row["schema"], row["name"]))
            else:
                waiting.append((where or "a domain's check", uses(f"SELECT {row['checked']}")))
    return names


async def _functions(conn: asyncpg.Connection[Any], names: set[Name], where: str) -> list[tuple[str, Uses]]:
    """Checks functions; returns what the bodies of SQL and PL/pgSQL functions refer to."""
    if not names:
        return []
    ordered = sorted(names, key=lambda n: (n[0] or "", n[1]))
    rows = await conn.fetch(
        sql("collect/readonly_functions/14.sql"), [s or "" for s, _ in ordered], [n for _, n in ordered]
    )
    more: list[tuple[str, Uses]] = []
    through = f" (through {where})" if where else ""
    for row in rows:
        name = row["name"] if row["built_in"] else f"{row['schema']}.{row['name']}"
        if row["volatility"] == "v" and not (row["built_in"] and row["name"] in HARMLESS_VOLATILE):
            raise not_read_only(f"it calls {name}(){through}, which is volatile and may do anything")
        if row["built_in"] or row["of_extension"] or row["language"] in ("internal", "c"):
            continue
        if row["language"] not in ("sql", "plpgsql"):
            raise not_read_only(f"it calls {name}(){through}, written in {row['language']}, which can't be looked into")
        more.append((f"{name}()", _body(name, row["body"] or row["source"], row["language"])))
    return more


def _body(name: str, text: str, language: str) -> Uses:
    """What a function's body refers to: SQL by its parse tree, PL/pgSQL by the names it calls."""
    if language == "sql":
        body = re.sub(r"(?is)^\s*begin\s+atomic\b(.*)\bend\s*$", r"\1", text)
        body = re.sub(r"(?is)^\s*return\b", "SELECT", body.strip()).rstrip("; \n")
        try:
            count = len(postgast.parse(body).stmts)
        except postgast.PgQueryError:
            raise not_read_only(f"it calls {name}(), whose body can't be parsed") from None
        if count != 1:
            raise not_read_only(f"it calls {name}(), which has {count} statements")
        return uses(body)
    bare = re.sub(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", " ", text, flags=re.DOTALL)
    if (m := _WRITES.search(bare)) is not None:
        raise not_read_only(f"it calls {name}(), whose body has {m[1].upper()}")
    calls = frozenset((m[1].lower() if m[1] else None, m[2].lower()) for m in _CALL.finditer(bare))
    for _, called in calls:  # the same list of names that are never allowed
        uses(f'SELECT "{called}"()') if called.isidentifier() else None
    tables = frozenset(
        (m[1].lower() if m[1] else None, m[2].lower())
        for m in re.finditer(r"(?i)\b(?:from|join)\s+(?:([a-z_]\w*)\.)?([a-z_]\w*)", bare)
    )
    return Uses(calls, frozenset(), frozenset(), tables)


async def _relations(conn: asyncpg.Connection[Any], names: set[Name]) -> list[tuple[str, Uses]]:
    """Checks relations; returns what views and row security policies refer to."""
    if not names:
        return []
    ordered = sorted(names, key=lambda n: (n[0] or "", n[1]))
    rows = await conn.fetch(
        sql("collect/readonly_relations/14.sql"), [s or "" for s, _ in ordered], [n for _, n in ordered]
    )
    more: list[tuple[str, Uses]] = []
    for row in rows:
        name = f"{row['schema']}.{row['name']}"
        if row["kind"] == "f" or row["foreign_partitions"]:
            raise not_read_only(f"it reads {name}, a foreign table: what runs elsewhere can't be proven")
        # PostgreSQL's own views call functions that are known to it only; they change nothing.
        if row["definition"] and row["schema"] not in ("pg_catalog", "information_schema"):
            more.append((f"the view {name}", uses(row["definition"])))
        for policy in row["policies"] or []:
            more.append((f"a policy of {name}", uses(f"SELECT {policy}")))
    return more
