"""`dbperf apply` on real servers, with what goes wrong there: locks, kills, a full disk, taken names, edited files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.errors import ServerError, StatementError, UsageError
from dbperf.indexes.apply import ApplyOptions, apply
from dbperf.postgres.connect import connected
from dbperf.records.proof import Applied
from tests.conftest import Database
from tests.integration.test_index_migration import advice, plan, write
from tests.support.index_changes import SHOP, catalog
from tests.support.module_database import copied_database, copies
from tests.support.pgserver import PgServer, bindir_18

ONE = """SET lock_timeout = '300ms';
SET statement_timeout = 0;
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_orders_note ON public.orders USING btree (note);
"""
UNDO = "DROP INDEX CONCURRENTLY IF EXISTS public.idx_orders_note;\n"


db = copies(SHOP, 15, 18)
db_18 = copies(SHOP, 18)


@pytest.fixture(scope="module")
def untouched(request: pytest.FixtureRequest) -> Iterator[Database]:
    """For what must change nothing."""
    yield from copied_database(request, 18, SHOP)


def folder(tmp_path: Path, up: str = ONE, down: str = UNDO) -> Path:
    made = tmp_path / "m"
    made.mkdir(exist_ok=True)
    (made / "up.sql").write_text(up)
    (made / "down.sql").write_text(down)
    return made


def outcomes(done: Applied) -> list[str]:
    return [s.outcome for s in done.statements]


def valid(db: Database, name: str) -> str:
    return db.psql(f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')")


async def test_a_whole_migration_up_again_and_down(db: Database, tmp_path: Path) -> None:
    before = catalog(db)
    names = ["idx_orders_placed_total", "idx_orders_lower", "Idx Größe", "idx_event_customer_id"]
    changes, _ = await asyncio.to_thread(plan, db, advice(*names), ["twin", "expressed", "event_customer"])
    write(tmp_path / "m", changes)
    looked = await apply(tmp_path / "m", db.dsn, options=ApplyOptions(dry_run=True))
    assert set(outcomes(looked)) == {"planned"}
    assert catalog(db) == before
    up = await apply(tmp_path / "m", db.dsn)
    assert up.complete, up.error
    assert set(outcomes(up)) == {"done"}
    assert any("ANALYZE" in n for n in up.notes)
    built = next(s for s in up.statements if s.name == "public.idx_orders_placed_total")
    assert built.size_bytes == int(db.psql("SELECT pg_relation_size('idx_orders_placed_total')"))
    assert built.estimated_bytes == 8192
    after = catalog(db)
    again = await apply(tmp_path / "m", db.dsn)
    assert again.complete
    assert catalog(db) == after
    down = await apply(tmp_path / "m", db.dsn, down=True)
    assert down.complete, down.error
    assert catalog(db) == before


async def test_a_held_table_is_waited_for_in_short_tries(db: Database, tmp_path: Path) -> None:
    events: list[str] = []
    async with connected(db.dsn, read_only=False, application_name="migration") as holder:
        await holder.execute("BEGIN; LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE")
        task = asyncio.create_task(apply(folder(tmp_path), db.dsn, on_event=events.append))
        while not any("next try" in e for e in events):
            await asyncio.sleep(0.05)
            assert not task.done()
        assert valid(db, "idx_orders_note") == ""
        await holder.execute("ROLLBACK")
        done = await task
    assert done.complete
    assert done.statements[0].tries >= 2
    assert any("public.orders is held by migration (pid " in e for e in events)
    assert valid(db, "idx_orders_note") == "t"


async def test_it_gives_up_in_time_and_says_who_is_in_the_way(db: Database, tmp_path: Path) -> None:
    async with connected(db.dsn, read_only=False, application_name="migration") as holder:
        await holder.execute("BEGIN; LOCK TABLE orders IN SHARE MODE")
        done = await apply(folder(tmp_path), db.dsn, options=ApplyOptions(wait_s=1))
    assert not done.complete
    assert "held by migration (pid " in (done.error or "")
    assert "run the same command again" in (done.error or "")
    assert outcomes(done) == ["failed"]
    assert valid(db, "idx_orders_note") == ""
    assert (await apply(folder(tmp_path), db.dsn)).complete


async def test_an_old_transaction_is_noted_and_waited_for(db: Database, tmp_path: Path) -> None:
    """A build waits for transactions that are older than it: not lock_timeout long, but as long as --wait allows."""
    async with connected(db.dsn, read_only=False, application_name="report") as holder:
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE orders SET note = note WHERE id = 1")
        gave_up = await apply(folder(tmp_path), db.dsn, options=ApplyOptions(wait_s=1))
        assert not gave_up.complete
        assert "is left invalid, and the next run removes it" in str(gave_up.error)
        task = asyncio.create_task(apply(folder(tmp_path), db.dsn))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event IN ('virtualxid', 'transactionid')"
        while not await asyncio.to_thread(db.psql, waits):
            await asyncio.sleep(0.02)
            assert not task.done()
        await asyncio.sleep(0.6)  # twice the lock_timeout
        assert not task.done()
        await holder.execute("ROLLBACK")
        done = await task
    assert done.complete, done.error
    assert valid(db, "idx_orders_note") == "t"


async def test_a_vacuum_holding_the_table_is_waited_for(db_18: Database, tmp_path: Path) -> None:
    """A VACUUM by hand takes autovacuum's lock, and like autovacuum against wraparound it does not give way."""
    db_18.psql("UPDATE orders SET note = note || 'x'")
    events: list[str] = []
    slowly = "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; VACUUM orders"
    vacuum = asyncio.create_task(asyncio.to_thread(db_18.psql, slowly))
    while not (pid := await asyncio.to_thread(db_18.psql, "SELECT pid FROM pg_stat_progress_vacuum")):
        await asyncio.sleep(0.02)
    task = asyncio.create_task(apply(folder(tmp_path), db_18.dsn, on_event=events.append))
    while not any("next try" in e for e in events):
        await asyncio.sleep(0.02)
        assert not task.done()
    # It would take half a minute.
    db_18.psql(f"SELECT pg_cancel_backend({pid})")
    with pytest.raises(RuntimeError, match="canceling statement due to user request"):
        await vacuum
    done = await task
    assert done.complete
    assert any("held by" in e and "ShareUpdateExclusiveLock" in e for e in events)
    assert valid(db_18, "idx_orders_note") == "t"


async def test_an_invalid_index_is_removed_and_built(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE INDEX CONCURRENTLY idx_orders_note ON orders (note)")
    db.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_orders_note'::regclass")
    done = await apply(folder(tmp_path), db.dsn)
    assert outcomes(done) == ["repaired"]
    assert valid(db, "idx_orders_note") == "t"


async def test_a_name_that_is_taken_stops_before_anything_changes(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE INDEX second ON orders (total)")
    before = catalog(db)
    up = ONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS second ON public.orders USING btree (placed);"
    with pytest.raises(ServerError, match=r"line 4: public\.second exists with another definition: .*\(total\)"):
        await apply(folder(tmp_path, up), db.dsn)
    up = ONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS customer ON public.orders USING btree (placed);"
    with pytest.raises(ServerError, match="is a table or view already"):
        await apply(folder(tmp_path, up), db.dsn)
    up = ONE + "CREATE INDEX CONCURRENTLY IF NOT EXISTS documents ON public.orders USING btree (placed);"
    with pytest.raises(ServerError, match=r"is an index of public\.customer already"):
        await apply(folder(tmp_path, up), db.dsn)
    assert catalog(db) == before


async def test_the_same_index_under_another_name_is_enough(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE INDEX other_name ON orders (note ASC)")
    done = await apply(folder(tmp_path), db.dsn)
    assert outcomes(done) == ["already"]
    assert "other_name" in (done.statements[0].note or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE orders CASCADE", "the table public.orders is gone"),
        ("ALTER TABLE orders DROP COLUMN note CASCADE", 'column "note" does not exist'),
        ("ALTER DATABASE {db} SET default_transaction_read_only = on", "read-only"),
        ("CREATE ROLE app_{db}; ALTER TABLE orders OWNER TO app_{db}; CREATE ROLE me_{db} LOGIN", "belongs to app_"),
    ],
)
async def test_what_can_not_be_done_changes_nothing(db_18: Database, tmp_path: Path, change: str, message: str) -> None:
    db_18.psql(change.format(db=db_18.name))
    dsn = db_18.dsn
    if "LOGIN" in change:
        dsn = db_18.server.dsn(db_18.name, f"me_{db_18.name}")
    with pytest.raises(ServerError, match=message):
        await apply(folder(tmp_path), dsn)


@pytest.mark.parametrize(
    ("up", "message"),
    [
        (ONE + "DROP TABLE orders;", r"line 4: DROP … is no change of an index"),
        (ONE + "\n-- why not\nUPDATE orders SET note = NULL;", "line 6: UPDATE … is no change"),
        (ONE + "DO $dbperf$ BEGIN DELETE FROM orders; END $dbperf$;", "a DO block that dbperf did not write"),
        (ONE + "CREATE INDEX i ON public.orders (id);", "without CONCURRENTLY"),
        (ONE + "DROP INDEX public.plain CASCADE;", "without CASCADE"),
        (ONE + "ALTER TABLE public.orders DROP COLUMN note;", "does more than"),
        (ONE + "CREATE INDEX CONCURRENTLY ON public.orders (id);", "must name the index"),
        (ONE + "CREATE INDEX CONCURRENTLY i ON orders (id);", "with the schema"),
        (ONE + "CREATE INDEX CONCURRENTLY i ON public.orders id);", "does not parse"),
        (ONE + "SET ROLE postgres;", "is no change"),
    ],
)
async def test_an_edited_file_that_does_more_is_refused(
    untouched: Database, tmp_path: Path, up: str, message: str
) -> None:
    before = catalog(untouched)
    with pytest.raises(StatementError, match=message):
        await apply(folder(tmp_path, up), untouched.dsn)
    assert catalog(untouched) == before


async def test_an_edited_file_that_is_safe_is_applied_with_a_note(db_18: Database, tmp_path: Path) -> None:
    changes, _ = await asyncio.to_thread(plan, db_18, advice("idx_orders_placed_brin"), [])
    write(tmp_path / "m", changes)
    up = tmp_path / "m" / "up.sql"
    up.write_text(up.read_text().replace("lock_timeout = '5s'", "lock_timeout = '1s'"))
    done = await apply(tmp_path / "m", db_18.dsn)
    assert done.complete
    assert any("was edited" in n for n in done.notes)


async def test_down_keeps_what_somebody_replaced(db_18: Database, tmp_path: Path) -> None:
    made = folder(tmp_path)
    assert (await apply(made, db_18.dsn)).complete
    db_18.psql("DROP INDEX idx_orders_note; CREATE INDEX idx_orders_note ON orders (total)")
    with pytest.raises(ServerError, match=r"is not what up\.sql built"):
        await apply(made, db_18.dsn, down=True)
    assert valid(db_18, "idx_orders_note") == "t"


async def test_a_folder_without_sql(tmp_path: Path, untouched: Database) -> None:
    with pytest.raises(UsageError, match=r"holds no up\.sql"):
        await apply(tmp_path, untouched.dsn)


async def test_a_failure_in_the_middle_says_how_far_it_came(db: Database, tmp_path: Path) -> None:
    up = ONE + (
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS once ON public.orders USING btree (customer_id);\n"
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS never ON public.orders USING btree (placed, id);\n"
    )
    done = await apply(folder(tmp_path, up), db.dsn)
    assert outcomes(done) == ["done", "failed", "not_reached"]
    assert "could not create unique index" in (done.error or "")
    assert valid(db, "once") == ""
    assert valid(db, "idx_orders_note") == "t"


async def test_a_deadlock_with_a_migration_is_tried_again(db: Database, tmp_path: Path) -> None:
    """The build holds its lock and waits for the migration's transaction, which then wants that table exclusively."""
    events: list[str] = []
    up = ONE.replace("300ms", "60s")
    # A session looks for a deadlock once in each wait, so the circle must have closed before the build's look.
    db.psql(f"ALTER DATABASE {db.name} SET deadlock_timeout = '2s'")
    async with (
        connected(db.dsn) as watch,
        connected(db.dsn, read_only=False, lock_timeout_s=None, statement_timeout_s=None) as migration,
    ):
        await migration.execute("SET deadlock_timeout = '60s'; BEGIN; UPDATE orders SET note = note WHERE id = 1")
        task = asyncio.create_task(apply(folder(tmp_path, up), db.dsn, on_event=events.append))
        while not await watch.fetchval("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('idx_orders_note')"):
            await asyncio.sleep(0.01)
        await migration.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await migration.execute("COMMIT")
        done = await task
    assert done.complete, done.error
    assert valid(db, "idx_orders_note") == "t"
    assert any("deadlock" in e for e in events)


class Replica(PgServer):
    def start(self) -> None:
        (self.data / "standby.signal").touch()
        if self.user:
            shutil.chown(self.data / "standby.signal", self.user)
        super().start()


def test_a_replica_is_refused(tmp_path: Path) -> None:
    server = Replica(bindir_18(), {"max_connections": "100"})  # as initdb's server had: a replica needs as many
    try:
        with pytest.raises(ServerError, match="is a replica"):
            asyncio.run(apply(folder(tmp_path), server.dsn()))
    finally:
        server.close()
