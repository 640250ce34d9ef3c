"""What the catalog knows about the tables of a plan, for the rules that ask."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from dbperf.plans.rules import Facts, Index, Table
from dbperf.plans.tree import walk
from dbperf.records.plans import Plan
from dbperf.resources import sql


async def table_facts(conn: asyncpg.Connection[Any], *plans: Plan) -> Facts:
    """Tables by (schema, name), and by (None, name) for plans that were made without VERBOSE."""
    wanted = sorted({(n.schema or "", n.relation) for p in plans for n in walk(p.root) if n.relation})
    if not wanted:
        return {}
    rows = await conn.fetch(sql("collect/table_facts/14.sql"), [s for s, _ in wanted], [n for _, n in wanted])
    found: Facts = {}
    for row in rows:
        table = Table(
            schema=row["schema"],
            name=row["name"],
            rows=row["rows"],
            types=json.loads(row["types"] or "{}"),
            indexes=tuple(_index(i) for i in json.loads(row["indexes"] or "[]")),
            statistics=row["has_statistics"],
            pages=row["pages"],
        )
        found[table.schema, table.name] = table
        found.setdefault((None, table.name), table)
    return found


def _index(data: dict[str, Any]) -> Index:
    return Index(
        name=data["name"],
        columns=tuple(data["columns"]),
        method=data["method"],
        pattern_ops=data["pattern_ops"],
        partial=data["partial"],
    )
