"""`dbperf verify` on real servers: what helps is kept, what only looks good is rejected, and nothing else stays."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from dbperf.errors import StatementError
from dbperf.indexes.turns import take_turns
from dbperf.indexes.verify import COMMENT, VerifyOptions, challengers, verify
from dbperf.indexes.workload_files import read_workload
from dbperf.postgres.index_trial import Case, Trial
from dbperf.records.advice import Advice, Recommendation, Rejected
from dbperf.records.proof import Proof
from dbperf.stats.paired import PAIRS_LEAST
from tests.conftest import Database
from tests.support.cli import dbperf, environment, started
from tests.support.index_changes import catalog, run_file, squawk
from tests.support.module_database import copies

# The planner takes kinds to be spread evenly over time. Kind 9 is rare and old: reading the newest first to find ten of
# them reads nearly everything.
EVENTS = """
CREATE TABLE event (id int PRIMARY KEY, kind int NOT NULL, created timestamptz NOT NULL, customer int, note text);
INSERT INTO event SELECT i, CASE WHEN i <= 400 THEN 9 ELSE i % 8 END, timestamptz '2026-01-01' + i * interval '1 min',
                         (i * 7919) % 4000, repeat(md5(i::text), 4)
FROM generate_series(1, 40000) i ORDER BY hashint4(i);
CREATE TABLE child (id bigserial PRIMARY KEY, event int NOT NULL REFERENCES event, tag text NOT NULL);
INSERT INTO child (event, tag) SELECT 1 + i % 40000, 'x' FROM generate_series(1, 1000) i;
VACUUM ANALYZE;
"""
STATEMENTS = {
    "by-customer": "SELECT * FROM event WHERE customer = $1",
    "oldest-of-kind": "SELECT * FROM event WHERE kind = 9 ORDER BY created DESC LIMIT 10",
    "newest-of-kind": "SELECT id FROM event WHERE kind = 3 ORDER BY created DESC LIMIT 10",
    "count": "SELECT count(*) FROM event",
    "move": "UPDATE event SET customer = customer + 1 WHERE id = $1",
    "insert-event": "INSERT INTO event (id, kind, created, customer, note) VALUES ($1, $2, $3, $4, $5)",
    "insert-child": "INSERT INTO child (event, tag) VALUES ($1, $2)",
}
QUICK = VerifyOptions(statement_s=0.5, keep=False)


events = copies(EVENTS, 15, 18)
events_18 = copies(EVENTS, 18)


def workload_folder(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "w"
    folder.mkdir(exist_ok=True)
    for name in names or STATEMENTS:
        (folder / f"{name}.sql").write_text(f"-- calls: 10\n{STATEMENTS[name]};\n")
    return folder


def advice(**indexes: str) -> Advice:
    return Advice(
        planner="shadow", source="postgresql://x", server_version="18", what_if_calls=1, elapsed_s=0, budget_bytes=None,
        cost_before=100, cost_after=50, size_bytes=1, statements=[], skipped=[],
        rejected=[Rejected(sql='CREATE INDEX "…" ON public.event (note)', table="public.event", reason="too wide")],
        recommendations=[
            Recommendation(
                name=n, schema="public", table=sql.split("ON public.")[1].split()[0], method="btree", create_sql=sql,
                drop_sql="", size_bytes=900_000, gain=0.25, gain_cost=25, statements=[], reason="planted",
            )
            for n, sql in indexes.items()
        ],
    )  # fmt: skip


async def run(db: Database, tmp_path: Path, given: Advice, *names: str, options: VerifyOptions = QUICK) -> Proof:
    return await verify(db.dsn, read_workload(workload_folder(tmp_path, *names)), given, options=options)


async def test_what_helps_is_kept_with_figures(events: Database, tmp_path: Path) -> None:
    before = catalog(events)
    given = advice(idx_customer="CREATE INDEX idx_customer ON public.event (customer)")
    proof = await run(events, tmp_path, given)
    (index,) = proof.indexes
    assert index.verdict == "keep", index.reason
    by_id = {s.id: s for s in index.statements}
    # Where the rows' commit reached the disk before VACUUM came, their pages are all-visible: then count(*) may scan
    # the index only.
    assert {"by-customer"} <= by_id.keys() <= {"by-customer", "count"}
    statement = by_id["by-customer"]
    assert statement.values == "drawn"
    assert statement.uses_index
    assert statement.verdict == "better"
    assert statement.ratio is not None
    assert statement.ratio_low is not None
    assert statement.ratio_high is not None
    assert statement.ratio_low <= statement.ratio <= statement.ratio_high < 0.5
    assert statement.buffers_before is not None
    assert statement.buffers_after is not None
    assert statement.buffers_after < statement.buffers_before / 10
    assert statement.plan_before is not None
    assert statement.plan_before.root.node_type == "Seq Scan"
    assert {w.id for w in index.writes} == {"move", "insert-event"}
    assert all(w.error is None and w.pairs >= 6 for w in index.writes)
    assert index.write_cost_ratio is not None
    assert index.build_s is not None
    assert index.build_s > 0
    assert index.size_bytes is not None
    assert index.size_bytes > 100_000
    assert catalog(events) == before
    assert events.psql("SELECT count(*), max(id), sum(customer) FROM event") == "40000|40000|79980000"
    assert events.psql("SELECT count(*) FROM child") == "1000"
    (tmp_path / "again").mkdir()
    kept = await run(events, tmp_path / "again", given, "by-customer", options=changed(QUICK, keep=True))
    assert kept.kept
    assert (
        events.psql(
            "SELECT indisvalid, obj_description(indexrelid) FROM pg_index WHERE indexrelid = 'idx_customer'::regclass"
        )
        == "t|"
    )


def changed(options: VerifyOptions, **changes: bool) -> VerifyOptions:
    return dataclasses.replace(options, **changes)


async def test_what_the_planner_likes_and_the_clock_does_not_is_rejected(events: Database, tmp_path: Path) -> None:
    """The estimated cost falls, the measured time rises."""
    before = catalog(events)
    proof = await run(
        events, tmp_path, advice(idx_created="CREATE INDEX idx_created ON public.event (created)"), "oldest-of-kind"
    )
    (index,) = proof.indexes
    (statement,) = index.statements
    assert statement.uses_index
    assert statement.cost_before is not None
    assert statement.cost_after is not None
    assert statement.cost_after < statement.cost_before
    assert statement.ratio_low is not None
    assert statement.ratio_low > 1.2
    assert index.verdict == "reject"
    assert "oldest-of-kind got slower" in index.reason
    assert "though its estimated cost fell" in index.reason
    assert catalog(events) == before


async def test_what_nobody_uses_is_rejected(events: Database, tmp_path: Path) -> None:
    before = catalog(events)
    proof = await run(
        events, tmp_path, advice(idx_note="CREATE INDEX idx_note ON public.event (note)"), "by-customer", "move"
    )
    (index,) = proof.indexes
    assert index.verdict == "reject"
    assert index.reason.startswith("no statement's plan uses it")
    assert index.write_cost_ratio is not None
    assert catalog(events) == before


async def test_an_index_is_judged_for_what_it_adds_to_those_kept(events_18: Database, tmp_path: Path) -> None:
    given = advice(
        idx_first="CREATE INDEX idx_first ON public.event (customer)",
        idx_second="CREATE INDEX idx_second ON public.event (customer, id)",
    )
    proof = await run(events_18, tmp_path, given, "by-customer")
    assert next(i.verdict for i in proof.indexes) == "keep"
    assert proof.indexes[1].verdict in ("reject", "cant_tell")


async def test_what_a_wider_one_makes_superfluous_goes_again(events_18: Database, tmp_path: Path) -> None:
    given = advice(
        idx_kind="CREATE INDEX idx_kind ON public.event (kind)",
        idx_kind_created="CREATE INDEX idx_kind_created ON public.event (kind, created)",
    )
    proof = await run(events_18, tmp_path, given, "newest-of-kind", options=changed(QUICK, keep=True))
    narrow, wide = proof.indexes
    assert wide.verdict == "keep", wide.reason
    assert narrow.verdict == "reject"
    assert "idx_kind_created does its work" in narrow.reason
    assert events_18.psql("SELECT to_regclass('idx_kind'), to_regclass('idx_kind_created')") == "|idx_kind_created"


async def test_an_approximate_index_is_asked_for_its_recall(db_18: Database, tmp_path: Path) -> None:
    db_18.psql(
        """
        CREATE EXTENSION vector; SELECT setseed(0.3);
        CREATE TABLE v (id int PRIMARY KEY, e vector(24));
        INSERT INTO v SELECT i, array_agg(random())::vector
        FROM generate_series(1, 4000) i, generate_series(1, 24) GROUP BY i; VACUUM ANALYZE;
        """
    )
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "near.sql").write_text("SELECT id FROM v ORDER BY e <-> $1 LIMIT 10")
    given = advice(idx_v="CREATE INDEX idx_v ON public.v USING hnsw (e vector_l2_ops)")
    proof = await verify(db_18.dsn, read_workload(folder), given, options=QUICK)
    (index,) = proof.indexes
    recall = index.statements[0].recall
    assert recall is not None
    assert 0.3 < recall <= 1
    assert (index.verdict == "keep") == (recall >= 0.8)
    assert "recall" in index.reason or "of the rows" in index.reason


# Each pair of rows is compared, in which order soever; and each row looks for its like, for which an index helps.
ENDLESS = "SELECT a.customer FROM event a, event b WHERE a.id + b.id = $1 ORDER BY a.customer LIMIT 5"
RESCUED = "SELECT sum((SELECT count(*) FROM event b WHERE b.customer = a.customer)) FROM event a WHERE a.id <= 4000"


async def test_what_runs_into_the_time_limit_counts_as_long_as_that(events_18: Database, tmp_path: Path) -> None:
    for name, sql in {"endless": ENDLESS, "rescued": RESCUED}.items():
        (workload_folder(tmp_path, "count") / f"{name}.sql").write_text(sql)
    given = advice(idx_customer="CREATE INDEX idx_customer ON public.event (customer)")
    proof = await run(events_18, tmp_path, given, "count", options=dataclasses.replace(QUICK, timeout_s=0.5))
    (index,) = proof.indexes
    found = {s.id: s for s in index.statements}
    assert found["endless"].verdict == "cant_tell"
    assert "takes longer than 0.5 s" in (found["endless"].error or "")
    assert found["rescued"].before_ms == 500.0
    assert found["rescued"].verdict == "better"
    assert found["rescued"].plan_before is None
    assert found["rescued"].plan_after is not None
    assert index.verdict == "keep", index.reason


class Counting(Trial):
    def __init__(self, conn: asyncpg.Connection) -> None:
        super().__init__(conn, "public", "idx_customer", timeout_s=0.5)
        self.executed: Counter[tuple[str, bool]] = Counter()

    async def time_ms(self, case: Case, *, with_index: bool) -> float:
        self.executed[case.text, with_index] += 1
        return await super().time_ms(case, with_index=with_index)


async def test_of_several_cases_those_that_never_end_are_left_out_and_not_waited_for_again(events_18: Database) -> None:
    events_18.psql("CREATE INDEX idx_customer ON event (customer);")
    endless, quick = Case(text=ENDLESS.replace("$1", "1")), Case(text=STATEMENTS["by-customer"].replace("$1", "7"))
    conn = await asyncpg.connect(events_18.dsn)
    try:
        cut_off: set[Case] = set()
        trial = Counting(conn)
        turns = await take_turns(trial, [endless, quick], 0.1, cut_off)
        assert turns.cases == [quick]
        assert len(turns.without) == len(turns.within) >= PAIRS_LEAST
        assert max(turns.without) < trial.limit_ms
        assert cut_off == {endless}
        assert trial.executed[endless.text, False] == trial.executed[endless.text, True] == 1
        again = Counting(conn)
        with pytest.raises(StatementError, match="takes longer than"):
            await take_turns(again, [endless], 0.1, cut_off)
        assert again.executed == {(endless.text, True): 1}
    finally:
        await conn.close()


async def test_what_can_not_be_built_is_told_and_the_rest_goes_on(events: Database, tmp_path: Path) -> None:
    events.psql("CREATE INDEX taken ON event (note)")
    given = advice(
        gone="CREATE INDEX gone ON public.nothing (a)",
        taken="CREATE INDEX taken ON public.event (customer)",
        column="CREATE INDEX column_gone ON public.event (nope)",
        idx_customer="CREATE INDEX idx_customer ON public.event (customer)",
    )
    proof = await run(events, tmp_path, given, "by-customer")
    assert [i.verdict for i in proof.indexes] == ["cant_tell", "cant_tell", "cant_tell", "keep"]
    reasons = " / ".join(i.reason for i in proof.indexes)
    assert "the table public.nothing is gone" in reasons
    assert "public.taken exists already" in reasons
    assert 'column "nope" does not exist' in reasons


async def test_partitioned_tables_and_writes_that_fail(db_18: Database, tmp_path: Path) -> None:
    db_18.psql(
        """
        CREATE TABLE m (id int, at date, v int, CHECK (v < 100000)) PARTITION BY RANGE (at);
        CREATE TABLE m_26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE TABLE m_27 PARTITION OF m FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
        INSERT INTO m SELECT i, date '2026-01-01' + i % 700, i FROM generate_series(1, 50000) i; VACUUM ANALYZE;
        """
    )
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "read.sql").write_text("SELECT * FROM m WHERE v = $1")
    (folder / "fails.sql").write_text("UPDATE m SET v = 200000 WHERE id = 5")
    before = catalog(db_18)
    given = advice(idx_m_v="CREATE INDEX idx_m_v ON public.m (v)")
    proof = await verify(db_18.dsn, read_workload(folder), given, options=QUICK)
    (index,) = proof.indexes
    assert index.verdict == "keep", index.reason
    assert "violates check constraint" in (index.writes[0].error or "")
    assert catalog(db_18) == before


def test_challengers_are_what_the_advice_rejected() -> None:
    (one,) = challengers(advice(), 3)
    assert one.name == "idx_event_note_btree"
    assert one.create_sql.startswith("CREATE INDEX CONCURRENTLY idx_event_note_btree ON public.event")


def test_the_command_and_its_files(events_18: Database, tmp_path: Path) -> None:
    before = catalog(events_18)
    given = advice(
        idx_customer="CREATE INDEX idx_customer ON public.event (customer)",
        idx_created="CREATE INDEX idx_created ON public.event (created)",
    )
    (tmp_path / "advice.json").write_bytes(given.to_json())
    workload = workload_folder(tmp_path, "by-customer", "oldest-of-kind")
    env = environment(tmp_path)
    common = (
        "verify", "--dsn", events_18.dsn, "--workload", workload, "--advice", "advice.json", "--per-statement", "500ms",
    )  # fmt: skip
    refused = dbperf(*common, env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "add --apply" in refused.stderr
    done = dbperf(*common, "--apply", "--sql", "m", "--format", "json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {i["name"]: i["verdict"] for i in document["indexes"]} == {"idx_customer": "keep", "idx_created": "reject"}
    assert catalog(events_18) == before
    squawk(tmp_path / "m" / "up.sql", tmp_path / "m" / "down.sql")
    assert "idx_created" not in (tmp_path / "m" / "up.sql").read_text()
    review = (tmp_path / "m" / "review.md").read_text()
    assert "got slower" in review
    assert "Index Scan using idx_customer" in review or "Bitmap" in review
    run_file(events_18, tmp_path / "m" / "up.sql")
    run_file(events_18, tmp_path / "m" / "down.sql")
    assert catalog(events_18) == before
    text = dbperf(*common, "--apply", env=env, cwd=tmp_path)
    assert "keep: public.idx_customer on event" in text.stdout
    again = dbperf(*common, "--apply", "--sql", "m", env=env, cwd=tmp_path)
    assert again.returncode == 2
    (tmp_path / "dbperf.toml").write_text(f'[safety]\nproduction = ["{events_18.server.host}"]\n')
    marked = dbperf(*common, "--apply", env=env, cwd=tmp_path)
    assert marked.returncode == 2
    assert "marked as production" in marked.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_nothing_stays(events_18: Database, tmp_path: Path, how: signal.Signals) -> None:
    before = catalog(events_18)
    given = advice(idx_customer="CREATE INDEX idx_customer ON public.event (customer)")
    (tmp_path / "advice.json").write_bytes(given.to_json())
    workload = workload_folder(tmp_path, "by-customer", "move")
    env = environment(tmp_path)
    command = ("verify", "--dsn", events_18.dsn, "--workload", workload, "--advice", "advice.json", "--apply")
    trial = f"SELECT count(*) FROM pg_description WHERE description = '{COMMENT}'"
    with started(*command, "--per-statement", "20s", env=env, cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while events_18.psql(trial) != "1":
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(how)
        _, err = process.communicate(timeout=300)
    if how == signal.SIGINT:
        assert process.returncode == 130, err
        assert catalog(events_18) == before
        return
    assert catalog(events_18) != before
    again = dbperf(*command, "--per-statement", "200ms", "--format", "json", env=env, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert any("left by an interrupted verification" in n for n in json.loads(again.stdout)["notes"])
    assert catalog(events_18) == before


async def test_others_who_use_the_table_are_waited_for_not_waited_out(events_18: Database, tmp_path: Path) -> None:
    """The build waits for who reads the table. Measuring without the index needs the table for itself; who reads it for
    long makes that impossible."""
    before = catalog(events_18)
    given = advice(idx_customer="CREATE INDEX idx_customer ON public.event (customer)")
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dbperf verify' AND wait_event_type = 'Lock' AND "
    older, reader, watch = [await asyncpg.connect(events_18.dsn) for _ in range(3)]
    await older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM event")
    await reader.execute("BEGIN; SELECT count(*) FROM event")  # keeps its lock, but no snapshot

    async def end_when_waited_for(conn: asyncpg.Connection, what: str) -> None:
        async with asyncio.timeout(120):
            while not await watch.fetchval(f"{waits} query LIKE '{what}%'"):
                await asyncio.sleep(0.02)
        await conn.execute("ROLLBACK")

    async def end() -> None:
        await end_when_waited_for(older, "CREATE INDEX")
        # Measuring is given up, and then the index has to go.
        await end_when_waited_for(reader, "DROP INDEX IF EXISTS")

    ending = asyncio.create_task(end())
    try:
        proof = await run(events_18, tmp_path, given, "by-customer")
        await ending
    finally:
        ending.cancel()
        for conn in (older, reader, watch):
            await conn.close()
    (index,) = proof.indexes
    assert index.verdict == "cant_tell"
    assert "others use the table" in index.reason
    assert catalog(events_18) == before
