"""Every plan of the corpus, executed on real servers: self times add up, and both formats say the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from dbperf.plans.derive import HALF_DIGIT_MS, nodes_ms, processes_of
from dbperf.plans.read import read_plans
from dbperf.plans.rules import Thresholds, find
from dbperf.plans.tree import GATHERS, Tree, is_init_plan, label
from dbperf.postgres.explain import explain
from dbperf.postgres.facts import table_facts
from dbperf.records.plans import Plan, PlanNode
from tests.conftest import Database
from tests.support.module_database import module_database
from tests.support.plan_corpus import CORPUS, HEALTHY, SCHEMA, Case, generated

AUTO_EXPLAIN = """
SET auto_explain.log_analyze = on; SET auto_explain.log_buffers = on; SET auto_explain.log_wal = on;
SET auto_explain.log_timing = on; SET auto_explain.log_settings = on;
SET auto_explain.log_level = notice; SET auto_explain.log_min_duration = 0; SET statement_timeout = '20s';
"""


class Both(NamedTuple):
    """The same execution in both formats."""

    json: str
    text: str


class Runner:
    """Executes under EXPLAIN ANALYZE while auto_explain logs the very same execution in text format."""

    def __init__(self, conn: asyncpg.Connection[Any]) -> None:
        self.conn = conn
        self.logged: list[str] = []
        conn.add_log_listener(lambda _, message: self.logged.append(message.message))

    async def run(self, case: Case, *, verbose: bool = False) -> Both:
        async with self.conn.transaction():
            for name, value in case.settings.items():
                await self.conn.execute(f"SET LOCAL {name} = '{value}'")
            await self.conn.execute(f"SET LOCAL auto_explain.log_verbose = {verbose}")
            self.logged.clear()
            more = "VERBOSE, " if verbose else ""
            found = await self.conn.fetchval(f"EXPLAIN (ANALYZE, {more}BUFFERS, WAL, SETTINGS, FORMAT JSON) {case.sql}")
            await asyncio.sleep(0)  # asyncpg calls listeners from the event loop
        texts = [t for t in self.logged if "plan:" in t]
        assert len(texts) == 1
        return Both(found, texts[0])


@pytest.fixture(scope="module", params=[15, 18])
def corpus(request: pytest.FixtureRequest) -> Iterator[Database]:
    """The corpus' tables, loaded once per server; the tests here only read."""
    yield from module_database(request, SCHEMA + "VACUUM ANALYZE;")


@pytest.fixture
async def runner(corpus: Database) -> AsyncIterator[Runner]:
    conn = await asyncpg.connect(corpus.dsn)
    await conn.execute(AUTO_EXPLAIN)
    yield Runner(conn)
    await conn.close()


def one(text: str) -> Plan:
    (plan,) = read_plans(text)
    return plan


def assert_times_add_up(plan: Plan, name: str) -> None:
    """Self times are not negative, sum to the root's time, and no node was moved further than times are rounded."""
    tree = Tree(plan)
    processes = processes_of(tree)
    assert plan.root.total_ms is not None
    selfs = [n.self_ms for n in tree.nodes]
    assert all(s is not None and s >= 0 for s in selfs), name
    assert sum(s or 0 for s in selfs) == pytest.approx(plan.root.total_ms, abs=1e-6), name
    assert nodes_ms(plan) == pytest.approx(plan.root.total_ms, abs=1e-6)
    # Each node under a node can push it by its own rounding; the printed figures of one plan carry no more than that.
    around = sum(HALF_DIGIT_MS * (n.loops or 0) / processes[n.node_id] for n in tree.nodes) + 0.002
    for node in tree.nodes:
        printed = (node.actual_total_ms or 0) * (node.loops or 0) / processes[node.node_id]
        least = printed * overlap(tree, node, processes)
        assert node.total_ms is not None
        assert least - around <= node.total_ms <= printed + around, f"{name}: {label(node)}"


def overlap(tree: Tree, node: PlanNode, processes: dict[int, float]) -> float:
    """Workers run on while the leader is busy above the Gather: the share of their time that the Gather waited for."""
    path = [node, *tree.ancestors(node)]
    for below, up in itertools.pairwise(path):
        if up.node_type in GATHERS and not is_init_plan(below):
            whole = (below.actual_total_ms or 0) * (below.loops or 0) / processes[below.node_id]
            return min(1.0, (up.total_ms or 0) / whole) if whole else 1.0
    return 1.0


async def test_self_buffers_add_up_on_every_serial_plan_of_the_corpus(runner: Runner) -> None:
    for name, case in CORPUS.items():
        if "parallel" in name or name == "gather_in_loop":  # workers' blocks may arrive after the Gather has ended
            continue
        plan = one((await runner.run(case)).json)
        assert plan.root.buffers is not None
        nodes = Tree(plan).nodes
        for field in ("shared_hit", "shared_read", "temp_read", "temp_written"):
            own = [getattr(n.self_buffers, field) for n in nodes]
            assert min(own) >= 0
            assert sum(own) == getattr(plan.root.buffers, field), f"{name}: {field}"


def comparable(plan: Plan, *, verbose: bool = True) -> Any:
    """Without what only one format prints: zeros and false, and figures that auto_explain's entry does not have.

    Without VERBOSE the text format does not say whether a join's inner side is unique, and an error in its rows, which
    it then may have, can't be told from an early stop.
    """
    hidden = {"Async Capable", "Inner Unique", "Planning"} | (set() if verbose else {"row_error"})

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            shown = {k: bare(v) for k, v in value.items() if k not in hidden}
            return {k: v for k, v in shown.items() if v not in (None, 0, False, {}, [], "")}
        return [bare(v) for v in value] if isinstance(value, list) else value

    data = bare(msgspec.to_builtins(plan))
    for key in ("planning_ms", "execution_ms", "planning_buffers", "query_id", "extra"):
        data.pop(key, None)
    return data


async def test_self_times_add_up_and_both_formats_agree_on_every_plan_of_the_corpus(runner: Runner) -> None:
    for name, case in CORPUS.items():
        for verbose in (False, True):
            both = await runner.run(case, verbose=verbose)
            plan = one(both.json)
            assert_times_add_up(plan, name)
            assert comparable(one(both.text), verbose=verbose) == comparable(plan, verbose=verbose), name


async def test_text_and_json_give_the_same_tree_on_100_generated_statements(runner: Runner) -> None:
    cases = generated(100, seed=4)
    for i, case in enumerate(cases):
        verbose = i % 2 == 0
        try:
            both = await runner.run(case, verbose=verbose)
        except asyncpg.FeatureNotSupportedError:  # a FULL JOIN that PostgreSQL can't do
            both = await runner.run(case._replace(sql=case.sql.replace("FULL JOIN", "LEFT JOIN")), verbose=verbose)
        plan = one(both.json)
        assert comparable(one(both.text), verbose=verbose) == comparable(plan, verbose=verbose), case.sql
        assert_times_add_up(plan, case.sql)
    assert len({case.sql for case in cases}) > 90


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-P", "border=2"],
        ["-P", "border=0"],
        ["-P", "border=2", "-P", "linestyle=unicode"],
        ["-P", "format=wrapped", "-P", "columns=70"],
        ["-P", "format=wrapped", "-P", "columns=60", "-P", "border=2", "-P", "linestyle=unicode"],
        ["-At"],
        ["-P", "format=unaligned", "--csv"],
    ],
    ids=" ".join,
)
def test_what_psql_prints(corpus: Database, options: list[str]) -> None:
    case = CORPUS["cte_chain"]
    # COSTS and row counts are the same each time; times are not asked for.
    for form in ("TEXT", "JSON"):
        sql = f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF, FORMAT {form}) {case.sql}"
        expected = one(corpus.psql(sql))
        shown = corpus.server.run_psql(["-X", *options], sql, corpus.name)
        assert comparable(one(shown)) == comparable(expected)


# Rules that ask for so many milliseconds ask how busy the machine is.
UNHURRIED = Thresholds(big_scan_ms=1e9, wait_ms=1e9, slow_block_ms=1e9)


async def test_healthy_plans_have_no_finding(runner: Runner) -> None:
    noisy = []
    for name, case in HEALTHY.items():
        await runner.run(case)  # the first execution may read from disk
        for verbose in (False, True):
            both = await runner.run(case, verbose=verbose)
            for text in both:
                plan = one(text)
                facts = await table_facts(runner.conn, plan)
                noisy += [
                    (name, f.rule_id, f.evidence)
                    for f in find(plan, statement=case.sql, facts=facts, thresholds=UNHURRIED)
                ]
        planned = await explain(runner.conn, case.sql)
        facts = await table_facts(runner.conn, planned)
        noisy += [
            (name, "planned", f.rule_id) for f in find(planned, statement=case.sql, facts=facts, thresholds=UNHURRIED)
        ]
    assert not noisy
