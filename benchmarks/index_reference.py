"""The reference target as a workload for the advisor: DB-001 to DB-006 and what the naive API asks.

Spec scale is seeded, and the statements are pg_stat_statements' own. Large scale is the catalog of spec scale with
counts raised: seeding its 10 million log rows would take minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import msgspec

from dbperf.indexes.workload import Workload, checked, workload_of_server
from dbperf.phase3.app import create_app
from dbperf.phase3.scales import scale_named
from dbperf.phase3.seed import seed
from dbperf.phase3.settings import Settings
from dbperf.postgres import embedded
from dbperf.postgres.shadow_catalog import read_catalog
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Relation, WorkloadStatement

QUERIES = Path(__file__).resolve().parents[1] / "sql" / "phase3"
ENDPOINTS = (
    ("POST", "/reflection/analyze", {"case_id": "case-000100"}, 20),
    ("POST", "/reflection/batch", {"min_logs": 10}, 2),
    ("POST", "/reflection/suggestions", {"case_id": "case-000100"}, 5),
    ("POST", "/consolidation/dry-run", {}, 1),
    ("GET", "/consolidation/summary", None, 5),
    ("POST", "/search", {"query": "the confirmation never arrives in seoul"}, 20),
    ("POST", "/classify", {"text": "refund of a cancelled order"}, 5),
    ("GET", "/taxonomy/v2/tree", None, 5),
)
"""Method, path, body, how often."""
_FEW = 1000
"""Columns with fewer distinct values than this have as many at any scale."""


async def reference() -> tuple[Catalog, Workload]:
    """The naive target at spec scale."""
    with embedded.start(private=True) as server:
        await seed(server.dsn(), "spec")
        conn = await asyncpg.connect(server.dsn())
        try:
            await conn.execute("VACUUM ANALYZE")
            await conn.execute("SELECT pg_stat_statements_reset()")
            await _ask_endpoints(server.dsn())
            catalog = await read_catalog(conn, source="reference, spec scale")
            asked = await workload_of_server(conn)
        finally:
            await conn.close()
    levels = [
        WorkloadStatement(id=f"DB-00{n}", text=(QUERIES / f"db-00{n}.sql").read_text(), calls=20) for n in range(1, 7)
    ]
    return catalog, checked([*levels, *asked.statements])


async def _ask_endpoints(dsn: str) -> None:
    app = create_app(Settings(dsn=dsn, implementation="naive", api_key="k", now=datetime.now(UTC)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        for method, path, body, times in ENDPOINTS:
            for _ in range(times):
                answer = await client.request(method, path, json=body, headers={"X-API-Key": "k"}, timeout=120)
                assert answer.status_code < 500, (path, answer.text)
    await app.state.phase3.engine.dispose()


def enlarged(source: Catalog) -> Catalog:
    """Large scale from the catalog of spec scale: rows and pages by the scales' own ratios, so many more cases."""
    spec, large = scale_named("spec"), scale_named("large")
    cases = large.cases / spec.cases
    by_table = {"case_bank": cases, "execution_log": large.logs / spec.logs}  # the rest is small, or the same
    relations = [_enlarged(r, by_table[r.name], cases) if r.name in by_table else r for r in source.relations]
    return msgspec.structs.replace(source, relations=relations, source="reference, large scale (derived)")


def _enlarged(r: Relation, factor: float, cases: float) -> Relation:
    counts = {f: round(getattr(r, f) * factor) for f in ("pages", "stored_pages", "all_visible_pages")}
    indexes = [
        msgspec.structs.replace(i, pages=max(2, round(i.pages * factor)), tuples=i.tuples * factor, height=None)
        for i in r.indexes
    ]
    columns = [_more_distinct(c, r.tuples, cases) for c in r.columns]
    return msgspec.structs.replace(r, tuples=r.tuples * factor, indexes=indexes, columns=columns, **counts)


def _more_distinct(column: Column, rows: float, cases: float) -> Column:
    """Unique columns stay unique; of others there are as many more as there are cases."""

    def of(s: ColumnStatistics) -> float:
        distinct = s.n_distinct if s.n_distinct > 0 else -s.n_distinct * rows
        return distinct * cases if s.n_distinct > -0.99 and distinct >= _FEW else s.n_distinct

    found = [msgspec.structs.replace(s, n_distinct=of(s)) for s in column.statistics]
    return msgspec.structs.replace(column, statistics=found)
