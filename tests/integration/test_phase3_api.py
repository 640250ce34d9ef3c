"""The reference target on a real PostgreSQL, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from dbperf.errors import CapabilityError, ConnectError, ServerError
from dbperf.phase3.app import create_app
from dbperf.phase3.levels import QUERY_LEVELS
from dbperf.phase3.seed import seed
from dbperf.phase3.service import IMPLEMENTATIONS, ImplementationName
from dbperf.phase3.settings import Settings
from dbperf.resources import sql
from tests.conftest import Database
from tests.support.pgserver import PgServer
from tests.support.smoke_data import copied, seeded

REFERENCE = datetime(2026, 3, 1, tzinfo=UTC)
KEY = "key-of-the-test"


@asynccontextmanager
async def api(dsn: str, implementation: ImplementationName, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(dsn=dsn, implementation=implementation, api_key=KEY, now=REFERENCE, **more))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://target", headers={"X-API-Key": KEY}
    ) as client:
        yield client
    await app.state.phase3.engine.dispose()


@pytest.fixture(scope="module")
def smoke(server_18: PgServer) -> Iterator[str]:
    with seeded(server_18, REFERENCE) as name:
        yield name


@pytest.fixture
def data(server_18: PgServer, smoke: str) -> Iterator[Database]:
    with copied(server_18, smoke) as database:
        yield database


@pytest.fixture(params=IMPLEMENTATIONS)
async def client(request: pytest.FixtureRequest, data: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with api(data.dsn, request.param) as client:
        yield client


async def test_seeding_is_deterministic_and_reused_only_while_untouched(db_18: Database) -> None:
    checksum = (
        "SELECT md5(string_agg(c::text, '|' ORDER BY case_id)) FROM case_bank c",
        "SELECT md5(string_agg(l::text, '|' ORDER BY log_id)) FROM execution_log l",
        "SELECT md5(string_agg(a::text, '|' ORDER BY archive_id)) FROM case_bank_archive a",
        "SELECT md5(string_agg(t::text, '|' ORDER BY version, path)) FROM taxonomy_node t",
    )
    progress: list[tuple[str, int, int]] = []
    first = await seed(db_18.dsn, "smoke", reference=REFERENCE, on_progress=lambda *x: progress.append(x))
    assert first.rows["case_bank"] == 500
    assert first.rows["execution_log"] == 10_000
    assert ("execution_log", 10_000, 10_000) in progress
    before = [db_18.psql(q) for q in checksum]
    assert (await seed(db_18.dsn, "smoke", reference=REFERENCE)).reused
    assert not (await seed(db_18.dsn, "smoke", reference=REFERENCE, reuse=False)).reused
    assert [db_18.psql(q) for q in checksum] == before
    db_18.psql("UPDATE case_bank SET usage_count = 1 WHERE case_id = 'case-000001'")
    assert db_18.psql("SELECT version, updated_at > created_at FROM case_bank WHERE case_id = 'case-000001'") == "2|t"
    assert not (await seed(db_18.dsn, "smoke", reference=REFERENCE)).reused
    assert [db_18.psql(q) for q in checksum] == before
    assert not (await seed(db_18.dsn, "smoke", reference=REFERENCE, seed=2)).reused
    assert [db_18.psql(q) for q in checksum][:3] != before[:3]


async def test_seeded_tables_have_statistics_keys_and_nothing_more(db_18: Database) -> None:
    await seed(db_18.dsn, "smoke", reference=REFERENCE)
    indexes = db_18.psql(
        "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE schemaname = 'public'"
    )
    assert indexes == "case_bank_archive_pkey case_bank_pkey execution_log_pkey taxonomy_node_pkey"
    assert db_18.psql("SELECT count(*) FROM pg_stats WHERE tablename = 'execution_log'") == "8"
    assert db_18.psql("SELECT convalidated FROM pg_constraint WHERE conname = 'execution_log_case_id_fkey'") == "t"
    # The sequences go on behind the data.
    db_18.psql("INSERT INTO execution_log (case_id, success) VALUES ('case-000001', true)")
    assert db_18.psql("SELECT max(log_id) FROM execution_log") == "10001"


async def test_a_users_own_table_is_left_alone(db_18: Database) -> None:
    db_18.psql("CREATE TABLE execution_log (id int); INSERT INTO execution_log VALUES (7)")
    with pytest.raises(ServerError, match="already has a table execution_log"):
        await seed(db_18.dsn, "smoke")
    assert db_18.psql("SELECT id FROM execution_log") == "7"
    assert db_18.psql("SELECT to_regclass('case_bank') IS NULL") == "t"


async def test_missing_pgvector_and_missing_privileges_are_told(db_15: Database, db_18: Database) -> None:
    if db_15.psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == "0":
        with pytest.raises(CapabilityError, match="needs pgvector") as e:
            await seed(db_15.dsn, "smoke")
        assert "postgresql-15-pgvector" in str(e.value.hint)
    db_18.psql("DROP ROLE IF EXISTS phase3_nobody; CREATE ROLE phase3_nobody LOGIN")
    with pytest.raises(CapabilityError, match="may not create it"):
        await seed(db_18.server.dsn(db_18.name, "phase3_nobody"), "smoke")
    db_18.psql("CREATE EXTENSION vector")
    with pytest.raises(CapabilityError, match="can't be created"):
        await seed(db_18.server.dsn(db_18.name, "phase3_nobody"), "smoke")
    with pytest.raises(ConnectError):
        await seed(db_18.server.dsn("no_such_database"), "smoke")


async def test_keys_unknown_cases_and_bad_input(client: httpx.AsyncClient) -> None:
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": "schlüssel".encode()}):
        for path in ("/reflection/health", "/consolidation/health", "/consolidation/summary"):
            assert (await client.get(path, headers=headers)).status_code == 403
    no_key = httpx.AsyncClient(transport=client._transport, base_url="http://target")
    assert (await no_key.post("/reflection/analyze", json={"case_id": "case-000001"})).status_code == 403
    assert (await client.post("/reflection/analyze", json={"case_id": "nobody"})).status_code == 404
    assert (await client.post("/reflection/suggestions", json={"case_id": "nobody"})).status_code == 404
    assert (await client.post("/consolidation/restore/nobody")).status_code == 404
    assert (await client.get("/taxonomy/v99/tree")).status_code == 404
    bad: list[tuple[str, Any]] = [
        ("/reflection/analyze", {"case_id": "case-000001", "limit": 0}),
        ("/reflection/analyze", {"case_id": "case-000001", "limit": 1001}),
        ("/reflection/analyze", {"case_id": "nul\0"}),
        ("/reflection/analyze", {}),
        ("/reflection/batch", {"min_logs": 0}),
        ("/consolidation/run", {"threshold": 101}),
        ("/consolidation/run", {"similarity_threshold": -0.1}),
        ("/consolidation/run", {"inactive_days": 0}),
        ("/consolidation/run", {"treshold": 10}),
        ("/search", {"query": "x", "limit": 101}),
        ("/classify", {"text": ""}),
    ]
    for path, body in bad:
        assert (await client.post(path, json=body)).status_code == 422, (path, body)
    for raw in (b"\xff", '{"text": "\\ud800"}', '{"text": NaN}', "{", '{"\\ud800": 1}'):
        answer = await client.post("/classify", content=raw, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, raw
        assert answer.json()["detail"]
    answer = await client.post(
        "/consolidation/dry-run", content='{"threshold": NaN}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert (await client.post("/consolidation/restore/%00")).status_code == 422
    # Enormous but valid.
    assert (await client.post("/reflection/batch", json={"min_logs": 10**30})).json()["analyzed_cases"] == 0
    assert (await client.post("/consolidation/dry-run", json={"inactive_days": 10**30})).status_code == 200


async def test_analyze_agrees_with_the_table(client: httpx.AsyncClient, data: Database) -> None:
    case_id = data.psql("SELECT case_id FROM execution_log GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1")
    found = (await client.post("/reflection/analyze", json={"case_id": case_id, "limit": 50})).json()
    newest = (
        f"(SELECT * FROM execution_log WHERE case_id = '{case_id}' ORDER BY created_at DESC, log_id DESC LIMIT 50) l"
    )
    total, successes, rate, average = data.psql(
        f"SELECT count(*), sum(success::int), round(100.0 * sum(success::int) / count(*), 2),"
        f" round(avg(execution_time_ms), 2) FROM {newest}"
    ).split("|")
    assert (found["total_executions"], found["successful_executions"]) == (int(total), int(successes))
    assert (found["success_rate"], found["avg_execution_time_ms"]) == (float(rate), float(average))
    assert sum(e["count"] for e in found["common_errors"]) == found["failed_executions"]
    assert sum(e["percentage"] for e in found["common_errors"]) == pytest.approx(100, abs=0.1)


async def test_batch_stores_what_it_finds(client: httpx.AsyncClient, data: Database) -> None:
    found = (await client.post("/reflection/batch")).json()
    assert found["analyzed_cases"] == 20
    assert found["low_performance_cases"] == len(found["suggestions"]) > 0
    for low in found["suggestions"]:
        stored = data.psql(f"SELECT success_rate FROM case_bank WHERE case_id = '{low['case_id']}'")
        assert float(stored) == low["performance"]["success_rate"] < 50
        assert low["suggestions"]


async def test_a_dry_run_changes_nothing_and_a_run_does_what_it_said(client: httpx.AsyncClient, data: Database) -> None:
    state = "SELECT md5(string_agg(c::text, '|' ORDER BY case_id)) FROM case_bank c"
    before = data.psql(state)
    summary = (await client.get("/consolidation/summary")).json()
    dry = (await client.post("/consolidation/dry-run", json={"dry_run": False})).json()
    also_dry = (await client.post("/consolidation/run", json={"dry_run": True})).json()
    assert dry["dry_run"] is True
    assert dry["details"] == also_dry["details"]
    assert data.psql(state) == before
    assert min(dry["removed_cases"], dry["merged_cases"], dry["archived_cases"]) > 0
    assert dry["removed_cases"] == summary["low_performance_candidates"]
    done = (await client.post("/consolidation/run")).json()
    assert done["dry_run"] is False
    assert done["details"] == dry["details"]
    gone = done["removed_cases"] + done["merged_cases"] + done["archived_cases"]
    assert int(data.psql("SELECT count(*) FROM case_bank WHERE status = 'active'")) == 60 - gone
    reasons = data.psql(
        "SELECT archived_reason, count(*) FROM case_bank_archive WHERE archive_id > 10 GROUP BY 1 ORDER BY 1"
    )
    assert reasons == (
        f"duplicate|{done['merged_cases']}\ninactive|{done['archived_cases']}\nlow_performance|{done['removed_cases']}"
    )
    merged = done["details"]["merged"][0]
    kept = data.psql(
        f"SELECT usage_count, round(success_rate::numeric, 2) FROM case_bank WHERE case_id = '{merged['kept']}'"
    )
    assert kept == f"{merged['usage_count']}|{merged['success_rate']:.2f}"
    again = (await client.post("/consolidation/run")).json()
    assert (again["removed_cases"], again["merged_cases"], again["archived_cases"]) == (0, 0, 0)


async def test_restore_undoes_an_archiving(client: httpx.AsyncClient, data: Database) -> None:
    columns = "query, response_text, category_path, query_vector, usage_count, success_rate, status"
    done = (await client.post("/consolidation/dry-run")).json()
    case_id = done["details"]["removed"][0]["case_id"]
    row = f"SELECT {columns} FROM case_bank WHERE case_id = '{case_id}'"
    before = data.psql(row)
    await client.post("/consolidation/run")
    assert data.psql(row) != before
    assert (await client.post(f"/consolidation/restore/{case_id}")).json() == {"restored": True, "case_id": case_id}
    assert data.psql(row) == before
    assert (await client.post(f"/consolidation/restore/{case_id}")).status_code == 404


async def test_search_and_classify_find_what_was_asked(client: httpx.AsyncClient, data: Database) -> None:
    case_id, query, path = data.psql(
        "SELECT case_id, query, array_to_string(category_path, '/') FROM case_bank"
        " WHERE status = 'active' AND query_vector IS NOT NULL ORDER BY usage_count DESC LIMIT 1"
    ).split("|")
    hits = (await client.post("/search", json={"query": query, "limit": 5})).json()["results"]
    assert hits[0]["case_id"] == case_id
    assert hits[0]["score"] == 1.0
    assert [h["score"] for h in hits] == sorted((h["score"] for h in hits), reverse=True)
    found = (await client.post("/classify", json={"text": query})).json()
    assert "/".join(found["category"]) == path
    assert (await client.post("/classify", json={"text": "?!"})).json()["category"] is None
    assert (await client.post("/search", json={"query": "?!"})).json()["results"] == []


async def test_the_tree_holds_every_node(client: httpx.AsyncClient, data: Database) -> None:
    def count(nodes: list[dict[str, Any]]) -> int:
        return sum(1 + count(n["children"]) for n in nodes)

    tree = (await client.get("/taxonomy/v1/tree")).json()
    assert count(tree["nodes"]) == int(data.psql("SELECT count(*) FROM taxonomy_node WHERE version = 'v1'"))


async def test_nothing_tells_which_implementation_runs(data: Database) -> None:
    seen = []
    for implementation in IMPLEMENTATIONS:
        async with api(data.dsn, implementation) as client:
            health = await client.get("/reflection/health")
            document = await client.get("/openapi.json")
            names = data.psql(
                f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = '{data.name}'"
                " AND application_name LIKE 'phase3%'"
            )
            assert names == "phase3-api"
            seen.append((health.json(), dict(health.headers), document.json()))
    assert seen[0] == seen[1]
    assert "naive" not in str(seen)
    assert "tuned" not in str(seen)


async def test_a_database_that_is_away_gives_503(db_18: Database) -> None:
    async with api(db_18.server.dsn("no_such_database"), "tuned") as client:
        assert (await client.get("/reflection/health")).status_code == 503


async def test_the_queries_with_limits_run(data: Database) -> None:
    connection = await asyncpg.connect(data.dsn)
    try:
        for level in QUERY_LEVELS:
            parameters = []
            if level.draw_parameters:
                parameters = [(await connection.fetch(level.draw_parameters, 3))[0][0]]
            assert await connection.fetch(sql(level.file), *parameters), level.id
    finally:
        await connection.close()
