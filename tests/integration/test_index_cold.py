"""Cold executions: caches that are empty for sure, and a database copied for the load after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.errors import ServerError
from dbperf.indexes.verify import VerifyOptions
from dbperf.postgres import embedded
from dbperf.postgres.cold_cache import ColdCache
from dbperf.postgres.connect import connected
from dbperf.postgres.create import copy_database, create_database
from dbperf.postgres.embedded import Embedded
from tests.conftest import Database
from tests.integration.test_index_verify import EVENTS, advice, run
from tests.support.cli import warm_cache
from tests.support.index_changes import catalog
from tests.support.module_database import copies

db_18 = copies(EVENTS, 18)


async def test_evicted_blocks_are_read_again(db_18: Database) -> None:
    db_18.psql("ALTER TABLE event SET (autovacuum_enabled = off)")
    cache = ColdCache(db_18.server.data)
    query = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON, TIMING OFF) SELECT sum(length(note)) FROM event"
    async with connected(db_18.dsn, read_only=False) as conn:
        await cache.prepare(conn)

        async def reads() -> int:
            return int(await conn.fetchval(f"SELECT ({'$1'}::json -> 0 -> 'Plan' ->> 'Shared Read Blocks')::int",
                                           await conn.fetchval(query)))  # fmt: skip

        await conn.fetchval(query)
        pages = await conn.fetchval("SELECT relpages FROM pg_class WHERE relname = 'event'")
        assert await reads() == 0
        for only_read in (False, True, True):
            async with conn.transaction():
                await cache.evict(conn, only_read=only_read)
                cold = await reads()
            # A worker that looked at the table just before the setting may bring some pages back.
            assert pages / 4 < cold <= pages
    assert cache.words.startswith("shared buffers")


async def test_an_older_server_says_why_not(db_15: Database) -> None:
    async with connected(db_15.dsn, read_only=False) as conn:
        with pytest.raises(ServerError, match="needs PostgreSQL 18"):
            await ColdCache(db_15.server.data).prepare(conn)


async def test_what_is_kept_is_measured_cold_as_well(db_18: Database, tmp_path: Path) -> None:
    db_18.psql("CREATE EXTENSION pg_buffercache")
    before = catalog(db_18)
    given = advice(idx_customer="CREATE INDEX idx_customer ON public.event (customer)")
    options = VerifyOptions(statement_s=0.2, keep=False, data_dir=db_18.server.data)
    proof = await run(db_18, tmp_path, given, "by-customer", "move", options=options)
    assert proof.cold is not None
    (index,) = proof.indexes
    assert index.verdict == "keep", index.reason
    (statement,) = index.statements
    assert statement.cold is not None
    assert statement.cold.pairs >= 1
    assert statement.cold.before_ms > 0
    assert catalog(db_18) == before
    warm = await run(db_18, tmp_path, given, "by-customer", options=VerifyOptions(statement_s=0.2, keep=False))
    assert warm.cold is None
    assert warm.indexes[0].statements[0].cold is None
    assert any("all times are warm" in n for n in warm.notes)


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with embedded.start(Path(warm_cache()["XDG_CACHE_HOME"]) / "dbperf", private=True) as one:
        yield one


async def test_a_copy_has_the_same_rows_statistics_and_oids(server: Embedded) -> None:
    dsn = await create_database(server, "first one")
    facts = """SELECT json_build_array((SELECT json_agg(t) FROM t), 't'::regclass::oid,
                      (SELECT json_agg(s) FROM pg_stats s WHERE tablename = 't'))::text"""
    async with connected(dsn, read_only=False) as conn:
        await conn.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
        await conn.execute("VACUUM ANALYZE t")
        expected = await conn.fetchval(facts)
        with pytest.raises(ServerError, match="first one can't be copied"):
            await copy_database(server, "first one", "second")
    copy = await copy_database(server, "first one", "second")
    async with connected(copy) as conn:
        assert await conn.fetchval(facts) == expected
    with pytest.raises(ServerError, match="exists"):
        await copy_database(server, "first one", "second")
