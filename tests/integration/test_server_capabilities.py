"""What is missing is found on real servers, and the fix that is named does fix it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbperf.errors import CapabilityError
from dbperf.postgres.capabilities import FEATURES, check, demand
from dbperf.postgres.connect import connected
from dbperf.records.capabilities import Capability
from tests.conftest import Database
from tests.support.pgserver import PgServer, bindir_15, bindir_18


async def capabilities(dsn: str) -> dict[str, Capability]:
    async with connected(dsn) as connection:
        return {c.feature: c for c in await check(connection)}


@pytest.fixture(params=[bindir_15, bindir_18], ids=["15", "18"])
def bare(request: pytest.FixtureRequest) -> Iterator[PgServer]:
    """A server where nothing is set up, not even the preload."""
    off = {
        "shared_preload_libraries": "auto_explain",
        "track_io_timing": "off",
        "compute_query_id": "off",
    }
    server = PgServer(request.param(), settings={})
    # ALTER SYSTEM must be able to win, so these can't be on the command line.
    for name, value in off.items():
        server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop()
    server.settings = {k: v for k, v in server.settings.items() if k not in off}
    server.start()
    yield server
    server.close()


async def test_each_fix_is_sql_that_fixes(bare: PgServer) -> None:
    before = await capabilities(bare.dsn())
    assert {f: c.status for f, c in before.items()} == {
        "server version": "ok",
        "pg_stat_statements preload": "missing",
        "pg_stat_statements": "missing",
        "statement privilege": "ok",
        "pg_stat_statements.track": "missing",
        "compute_query_id": "missing",
        "track_io_timing": "degraded",
        "table privileges": "ok",
        "generic plans": "degraded" if bare.bindir == bindir_15() else "ok",
        "auto_explain": "ok",
        "pgvector": "missing",
        "hypopg": "missing",
        "pgstattuple": "missing",
    }
    with pytest.raises(CapabilityError, match="pg_stat_statements preload: shared_preload_libraries") as e:
        demand(before.values())
    assert "ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_stat_statements'" in str(e.value.hint)
    for name in ("pg_stat_statements preload", "compute_query_id", "track_io_timing", "pgstattuple"):
        fix = before[name].fix
        assert fix is not None
        for statement in fix.partition("--")[0].split(";"):  # as typed into psql, one at a time
            bare.psql(statement)
    bare.stop()
    bare.start()
    after = await capabilities(bare.dsn())
    assert after["pg_stat_statements"].fix == "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;"
    bare.psql(after["pg_stat_statements"].fix)
    after = await capabilities(bare.dsn())
    assert {c.feature for c in after.values() if c.status != "ok"} <= {"pgvector", "hypopg", "generic plans"}
    assert "auto_explain" in bare.psql("SHOW shared_preload_libraries")
    demand(after.values())


async def test_a_plain_role_is_told_what_it_does_not_see(db: Database) -> None:
    db.psql("CREATE SCHEMA ext; CREATE EXTENSION pg_stat_statements SCHEMA ext; CREATE TABLE orders (id int)")
    role = f'plain "{db.name}'
    quoted = '"' + role.replace('"', '""') + '"'
    db.psql(f"CREATE ROLE {quoted} LOGIN")
    try:
        async with connected(
            db.dsn.replace("postgres@", "", 1).replace("?", f"?user={role.replace(' ', '%20')}&")
        ) as c:
            found = {x.feature: x for x in await check(c)}
            assert found["pg_stat_statements preload"].status == "ok"
            assert found["pg_stat_statements"].found.endswith("in schema ext")
            assert found["statement privilege"].status == "missing"  # no USAGE on the schema
            assert found["table privileges"].status == "degraded"
            for name in ("statement privilege", "table privileges"):
                fix = found[name].fix
                assert fix is not None
                db.psql(fix)
            found = {x.feature: x for x in await check(c)}
            assert found["statement privilege"].status == "degraded"
            assert "its own statements only" in found["statement privilege"].found
            assert found["table privileges"].status == "ok"
            fix = found["statement privilege"].fix
            assert fix is not None
            db.psql(fix)
            assert {x.feature: x for x in await check(c)}["statement privilege"].status == "ok"
    finally:
        db.psql(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


async def test_an_old_extension_version_is_told(db_18: Database) -> None:
    db_18.psql("CREATE EXTENSION pg_stat_statements VERSION '1.9'")
    found = (await capabilities(db_18.dsn))["pg_stat_statements"]
    assert (found.status, found.fix) == ("degraded", "ALTER EXTENSION pg_stat_statements UPDATE;")
    assert found.found == "1.9 in schema public; 1.12 is there"
    db_18.psql(found.fix or "")
    assert (await capabilities(db_18.dsn))["pg_stat_statements"].status == "ok"


async def test_counting_switched_off_is_told(db: Database) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")
    db.psql(f"ALTER DATABASE {db.name} SET pg_stat_statements.track = 'none'")
    found = (await capabilities(db.dsn))["pg_stat_statements.track"]
    assert (found.status, found.found) == ("missing", "none")


def test_every_feature_says_what_and_why() -> None:
    assert len({f.name for f in FEATURES}) == len(FEATURES)
    assert all(f.needed and f.why and not f.why.endswith(".") for f in FEATURES)
