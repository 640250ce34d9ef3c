"""Every rule is produced by a real plan on PostgreSQL 15 and 18 (docs/rules.md), healthy plans by none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import asyncpg
import msgspec
import pytest

from dbperf.plans.read import read_plans
from dbperf.plans.rules import RULES, Thresholds, find
from dbperf.postgres.facts import table_facts
from dbperf.records.plans import Finding, Plan
from tests.conftest import Database
from tests.support.module_database import module_database
from tests.support.rule_docs import Example, examples

EXAMPLES = examples()
_SET = re.compile(r"\bSET \w+ = [^;]+;")


async def hold(dsn: str, example: Example, holds: asyncio.Event) -> None:
    """Another session that changes a row and commits a while later."""
    conn = await asyncpg.connect(dsn)
    try:
        async with conn.transaction():
            await conn.execute(example.held)
            holds.set()
            await asyncio.sleep(example.held_ms / 1000)
    finally:
        await conn.close()


async def executed(db: Database, example: Example) -> tuple[Plan, list[Finding]]:
    db.psql(example.prepare)
    conn = await asyncpg.connect(db.dsn)
    try:
        for setting in _SET.findall(example.prepare):  # psql had a session of its own
            await conn.execute(setting)
        if example.held:
            holds = asyncio.Event()
            holder = asyncio.create_task(hold(db.dsn, example, holds))
            await holds.wait()
        data = await conn.fetchval(
            f"EXPLAIN (ANALYZE, VERBOSE, BUFFERS, SETTINGS, FORMAT JSON) {example.statement}", timeout=300
        )
        if example.held:
            await holder
        (plan,) = read_plans(data)
        facts = await table_facts(conn, plan)
    finally:
        await conn.close()
    thresholds = msgspec.convert(example.thresholds, Thresholds)
    return plan, find(plan, statement=example.statement, facts=facts, thresholds=thresholds)


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from module_database(request, "SELECT 1;")


@pytest.fixture
def db(server: Database) -> Database:
    """Emptied for each example."""
    server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public;")
    return server


@pytest.mark.parametrize("rule_id", RULES)
async def test_every_rule_is_produced_by_its_documented_example(db: Database, rule_id: str) -> None:
    if rule_id == "jit-costs-more" and db.psql("SELECT pg_jit_available()") == "f":
        # The embedded server is built without LLVM, so that no plan of it can have this finding.
        plan, found = await executed(db, EXAMPLES[rule_id])
        assert plan.jit is None
        assert rule_id not in {f.rule_id for f in found}
        return
    plan, found = await executed(db, EXAMPLES[rule_id])
    (finding, *_) = [f for f in found if f.rule_id == rule_id] or [None]
    assert finding is not None, f"found {[f.rule_id for f in found]} in {plan}"
    assert finding.advice
    assert finding.evidence
    assert finding.share is None or 0 < finding.share <= 1
    if finding.sql and finding.sql.startswith("CREATE INDEX CONCURRENTLY"):
        db.psql(finding.sql)  # it is valid SQL
