"""The SQL that is handed over: linted, applied and reverted on real servers, as SQL and by Alembic."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbperf.errors import OutputError
from dbperf.indexes.migration import plan_changes
from dbperf.indexes.migration_files import write_migration
from dbperf.indexes.review import review
from dbperf.postgres.connect import connected
from dbperf.records.advice import Advice, IndexKey, IndexSpec, Recommendation, Rejected
from dbperf.records.index_health import IndexFinding
from dbperf.records.proof import IndexChange
from tests.conftest import Database
from tests.support.index_changes import DROPPABLE, SHOP, catalog, run_file, squawk

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SPECS = {
    "idx_orders_placed_total": IndexSpec(
        schema="public", table="orders", keys=(IndexKey(column="placed", descending=True), IndexKey(column="total")),
        include=("Odd: col",),
    ),
    "idx_orders_lower": IndexSpec(
        schema="public", table="orders",
        keys=(IndexKey(expression="lower(note)", operator_class="text_pattern_ops"), IndexKey(column="Odd: col")),
        predicate="\"Odd: col\" <> 'a:b WHERE' AND note::varchar(5) > '2026'", options=(("fillfactor", "80"),),
    ),
    "Idx Größe": IndexSpec(schema="Weird schema", table="Ta ble", keys=(IndexKey(column="B"), IndexKey(column="a"))),
    "idx_customer_profile": IndexSpec(
        schema="public", table="customer", method="gin", keys=(IndexKey(column="profile"),)
    ),
    "idx_event_customer_id": IndexSpec(schema="public", table="event", keys=(IndexKey(column="customer_id"),)),
    "idx_orders_placed_brin": IndexSpec(
        schema="public", table="orders", method="brin", keys=(IndexKey(column="placed"),),
        options=(("pages_per_range", "32"),),
    ),
}  # fmt: skip


def advice(*names: str, redundant: dict[str, list[str]] | None = None) -> Advice:
    return Advice(
        planner="shadow", source="postgresql://x", server_version="18", what_if_calls=1, elapsed_s=0, budget_bytes=None,
        cost_before=100, cost_after=50, size_bytes=1, statements=[], skipped=[],
        recommendations=[
            Recommendation(
                name=n, schema=SPECS[n].schema, table=SPECS[n].table, method=SPECS[n].method,
                create_sql=SPECS[n].create_sql(n, concurrently=True) + ";", drop_sql="", size_bytes=8192, gain=0.25,
                gain_cost=25, statements=["s1"], reason="it serves\na statement; -- /* oddly */ $dbperf$",
                makes_redundant=(redundant or {}).get(n, []),
            )
            for n in names
        ],
        rejected=[Rejected(sql="CREATE INDEX … ON t (x)", reason="no use")],
    )  # fmt: skip


def drop(name: str) -> IndexFinding:
    return IndexFinding(
        kind="unused", schema="public", table="orders", index=name, size_bytes=1, evidence="never read", up_sql=["x"]
    )


def plan(db: Database, given: Advice, dropped: list[str]) -> tuple[list[IndexChange], list[str]]:
    async def planned() -> tuple[list[IndexChange], list[str]]:
        async with connected(db.dsn) as conn:
            return await plan_changes(conn, given, findings=[drop(n) for n in dropped])

    return asyncio.run(planned())


def write(folder: Path, changes: list[IndexChange], given: Advice | None = None) -> None:
    write_migration(
        folder, changes, source="postgresql://me:***@db/app", server_version="18", now=NOW,
        review_text=review(changes, advice=given),
    )  # fmt: skip


def test_applying_up_then_down_restores_the_catalog_exactly(db: Database, tmp_path: Path) -> None:
    db.psql(SHOP)
    before = catalog(db)
    number = iter(range(10_000))

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        created=st.lists(st.sampled_from(sorted(SPECS)), unique=True, max_size=4),
        dropped=st.lists(st.sampled_from(DROPPABLE), unique=True, max_size=4),
        twice=st.booleans(),
    )
    def restores(created: list[str], dropped: list[str], twice: bool) -> None:
        changes, notes = plan(db, advice(*created), dropped)
        assert not notes
        assert len(changes) == len(created) + len(dropped)
        folder = tmp_path / str(next(number))
        write(folder, changes)
        run_file(db, folder / "up.sql")
        after = catalog(db)
        assert (after == before) == (not changes)
        if twice:
            run_file(db, folder / "up.sql")
            assert catalog(db) == after
        run_file(db, folder / "down.sql")
        assert catalog(db) == before

    restores()


def test_squawk_has_nothing_to_say(db_18: Database, tmp_path: Path) -> None:
    db_18.psql(SHOP)
    given = advice(*SPECS)
    changes, _ = plan(db_18, given, list(DROPPABLE))
    changes.append(
        IndexChange(
            action="set", schema="public", table="orders", name="orders", reason="few HOT updates",
            up_sql=["ALTER TABLE public.orders SET (fillfactor = 90)"],
            down_sql=["ALTER TABLE public.orders RESET (fillfactor)"],
        )
    )  # fmt: skip
    write(tmp_path / "m", changes, given)
    squawk(tmp_path / "m" / "up.sql", tmp_path / "m" / "down.sql")
    text = (tmp_path / "m" / "review.md").read_text()
    assert "| 1 | drop" in text
    assert all(f"`{c.name}`" in text or c.name in text for c in changes)


def test_what_frees_space_comes_first_and_what_is_replaced_last(db_18: Database) -> None:
    db_18.psql(SHOP)
    changes, notes = plan(
        db_18, advice("idx_orders_placed_total", redundant={"idx_orders_placed_total": ["public.covering"]}), ["twin"]
    )
    assert [(c.action, c.name) for c in changes] == [
        ("drop", "twin"), ("create", "idx_orders_placed_total"), ("drop", "covering"),
    ]  # fmt: skip
    assert not notes
    assert all(len(c.name.encode()) <= 63 for c in changes)


def test_what_changed_since_the_advice_is_noted_not_failed(db_18: Database) -> None:
    db_18.psql(SHOP + "DROP TABLE customer; CREATE TABLE idx_orders_lower (a int);")
    changes, notes = plan(db_18, advice("idx_customer_profile", "idx_orders_lower"), ["documents", "orders_pkey"])
    assert [c.name for c in changes] == ["idx_orders_lower_2"]
    assert any("the table public.customer is gone" in n for n in notes)
    assert any("documents is gone already" in n for n in notes)
    assert any("orders_pkey is kept" in n for n in notes)
    assert any("idx_orders_lower is taken" in n for n in notes)


def test_an_invalid_index_of_the_name_stops_the_script(db: Database, tmp_path: Path) -> None:
    db.psql(SHOP)
    changes, _ = plan(db, advice("idx_orders_placed_brin"), [])
    write(tmp_path / "m", changes)
    with pytest.raises(RuntimeError):
        db.psql("CREATE UNIQUE INDEX CONCURRENTLY idx_orders_placed_brin ON orders (placed)")
    with pytest.raises(AssertionError, match="left over from a build that failed"):
        run_file(db, tmp_path / "m" / "up.sql")
    db.psql("DROP INDEX CONCURRENTLY idx_orders_placed_brin")
    run_file(db, tmp_path / "m" / "up.sql")


def test_a_folder_that_holds_something_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="exists and is kept"):
        write(tmp_path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_alembic_applies_and_reverts_it(db: Database, tmp_path: Path) -> None:
    db.psql(SHOP)
    before = catalog(db)
    changes, _ = plan(db, advice(*SPECS), list(DROPPABLE))
    write(tmp_path / "m", changes)
    run_file(db, tmp_path / "m" / "up.sql")
    by_sql = catalog(db)
    run_file(db, tmp_path / "m" / "down.sql")
    alembic(db, tmp_path, "upgrade", "head")
    by_alembic = catalog(db)
    assert [r for r in by_alembic if "alembic_version" not in r] == by_sql
    alembic(db, tmp_path, "downgrade", "base")
    db.psql("DROP TABLE alembic_version")
    assert catalog(db) == before


ENV = """
import asyncio
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()

asyncio.run(main())
"""


def alembic(db: Database, folder: Path, command: str, revision: str) -> None:
    from alembic import command as commands
    from alembic.config import Config

    scripts = folder / "alembic"
    (scripts / "versions").mkdir(parents=True, exist_ok=True)
    (scripts / "env.py").write_text(ENV)
    for file in (folder / "m").glob("*_indexes.py"):
        (scripts / "versions" / file.name).write_text(file.read_text())
    config: Any = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"postgresql+asyncpg://postgres@/{db.name}?host={db.server.host}")
    getattr(commands, command)(config, revision)
