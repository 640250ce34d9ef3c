"""`dbperf explain` and `dbperf.explain` as users call them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import dbperf
from dbperf.cli.main import main
from dbperf.errors import StatementError
from dbperf.plans.compare import compare
from dbperf.postgres.explain_api import explain_on
from tests.conftest import Database
from tests.support import cli
from tests.support.module_database import module_database

SETUP = """
CREATE TABLE orders (id int PRIMARY KEY, customer int, status text);
INSERT INTO orders SELECT i, i % 5000, CASE WHEN i % 50 = 0 THEN 'open' ELSE 'done' END
  FROM generate_series(1, 100000) i;
CREATE EXTENSION pg_stat_statements;
ANALYZE orders;
"""
GOLDEN = Path(__file__).parents[1] / "golden" / "plans"


def run(*args: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = cli.dbperf("explain", *args, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module", params=[15, 18])
def shop(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from module_database(request, SETUP)


def test_the_contract(shop: Database) -> None:
    done = run("--dsn", shop.dsn, "--analyze", "--params", "1=42", "--format", "json",
               "SELECT * FROM orders WHERE customer = $1")  # fmt: skip
    data = json.loads(done.stdout)
    assert data["plan"]["root"]["node_type"] == "Seq Scan"
    assert data["plan"]["analyzed"]
    (finding,) = data["findings"]
    assert {"rule_id", "severity", "node", "evidence", "explains_ms", "share", "advice"} <= set(finding)
    assert finding["rule_id"] == "seq-scan-discards"
    assert finding["evidence"]["rows_read"] == 100000
    assert finding["sql"] == "CREATE INDEX CONCURRENTLY ON orders (customer);"


def test_fail_on_and_formats(shop: Database) -> None:
    sql = "SELECT * FROM orders WHERE customer = 42"
    assert "seq-scan-discards" in run("--dsn", shop.dsn, sql, "--fail-on", "warning", code=1).stdout
    run("--dsn", shop.dsn, sql, "--fail-on", "critical")
    assert "| warning |" in run("--dsn", shop.dsn, sql, "--format", "markdown").stdout
    shop.psql("CREATE INDEX by_customer ON orders (customer)")
    try:
        assert "No finding" in run("--dsn", shop.dsn, sql, "--fail-on", "warning").stdout
    finally:
        shop.psql("DROP INDEX by_customer")


def test_representative_values_show_every_case(shop: Database) -> None:
    data = json.loads(run("--dsn", shop.dsn, "--analyze", "--format", "json",
                          "SELECT * FROM orders WHERE status = $1 AND id > $2").stdout)  # fmt: skip
    assert {c["case"] for c in data["cases"]} == {"typical", "common", "rare"}
    assert data["parameters"] in [c["parameters"] for c in data["cases"]]
    text = run("--dsn", shop.dsn, "--analyze", "SELECT * FROM orders WHERE status = $1").stdout
    assert "common:" in text


def test_a_queryid_a_file_and_stdin(shop: Database, tmp_path: Path) -> None:
    shop.psql("SELECT count(*) FROM orders WHERE id = 7")
    queryid = shop.psql("SELECT queryid FROM pg_stat_statements WHERE query LIKE '%count(*) FROM orders WHERE id%'")
    assert "generic plan" in run("--dsn", shop.dsn, "--queryid", queryid.splitlines()[0]).stdout
    assert "no statement with queryid 5" in run("--dsn", shop.dsn, "--queryid", "5", code=3).stderr
    (tmp_path / "q.sql").write_text("SELECT * FROM orders WHERE id = 7;\n")
    assert "orders_pkey" in run("--dsn", shop.dsn, str(tmp_path / "q.sql")).stdout
    assert "orders_pkey" in run("--dsn", shop.dsn, "-f", str(tmp_path / "q.sql")).stdout
    assert "Hash Join" in run("--plan", "-", stdin=(GOLDEN / "text_9_6.txt").read_text()).stdout


def test_values_of_a_log(shop: Database, tmp_path: Path) -> None:
    log = tmp_path / "slow.log"
    log.write_text("LOG:  duration: 99 ms  execute x: SELECT ...\nDETAIL:  parameters: $1 = '42', $2 = NULL\n")
    data = json.loads(run("--dsn", shop.dsn, "--params-log", str(log), "--format", "json",
                          "SELECT * FROM orders WHERE customer = $1 OR status = $2").stdout)  # fmt: skip
    assert data["parameters"] == ["42", None]
    assert data["how"] == "values"


def test_plans_side_by_side(shop: Database, tmp_path: Path) -> None:
    sql = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM orders WHERE customer = 42"
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(shop.psql(sql))
    shop.psql("CREATE INDEX by_customer ON orders (customer)")
    after.write_text(shop.psql(sql))
    shop.psql("DROP INDEX by_customer")
    data = json.loads(run(str(before), "--against", str(after), "--format", "json").stdout)
    assert data["indexes_come"] == ["by_customer"]
    assert not data["same_shape"]
    scans = next(n for n in data["nodes"] if n["before"] and n["after"])
    assert (scans["before"], scans["after"]) == ("Seq Scan on orders", "Bitmap Heap Scan on orders")
    assert "index now used: by_customer" in run(str(before), "--against", str(after)).stdout
    same = json.loads(run(str(before), "--against", str(before), "--format", "json").stdout)
    assert same["same_shape"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "one statement or plan is needed"),
        (["SELECT 1", "--queryid", "5"], 2, "only one"),
        (["SELECT 1", "--params", "x"], 2, "'x' is no parameter"),
        (["SELECT $1::int", "--params", "1=abc"], 3, 'invalid input syntax for type integer: "abc"'),
        (["SELECT $1::int", "--params", "2=1"], 3, "the statement has 1 parameter, and there is no value for $1"),
        (["SELECT $1::int", "--params", "1=1", "--params", "2=1"], 3, "there is a value for $2"),
        (["DELETE FROM orders", "--analyze"], 3, "it deletes rows"),
        (["SELECT *\nFROM nowhere"], 3, "line 2, column 6"),
        (["SELECT pg_sleep(1)", "--analyze"], 3, "it calls pg_sleep()"),
        (["SELECT count(*) FROM orders a, orders b", "--analyze", "--timeout", "200ms"], 3, "statement timeout"),
        (["--plan", "/nowhere"], 3, "/nowhere can't be read"),
        (["--plan", "-"], 3, "the plan is empty"),
        (["--plan", str(GOLDEN / "text_9_6.txt"), "--nth", "9"], 3, "there is no plan 9"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_bad_input_ends_in_one_line(
    shop: Database,
    args: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In this process, for speed; the other tests start the real command.
    monkeypatch.setattr(sys, "argv", ["dbperf", "explain", *args, "--dsn", shop.dsn])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SystemExit) as e:
        main()
    shown = capsys.readouterr()
    assert e.value.code == code
    assert message in shown.err
    assert shown.out == ""
    assert len([line for line in shown.err.splitlines() if line.startswith("dbperf:")]) == 1


def test_the_library_without_a_running_loop(shop: Database) -> None:
    found = dbperf.explain("SELECT * FROM orders WHERE id = $1", dsn=shop.dsn)
    dbperf.assert_index_used(found, "orders_pkey")
    dbperf.assert_no_seq_scan(found)
    scan = dbperf.explain("SELECT * FROM orders WHERE customer = $1", dsn=shop.dsn, parameters=["5"], analyze=True)
    with pytest.raises(AssertionError, match="Seq Scan on orders reads 100,000 rows"):
        dbperf.assert_no_seq_scan(scan, relation="orders", min_rows=1000)
    with pytest.raises(AssertionError, match="does not use the index by_customer, and no other"):
        dbperf.assert_index_used(scan, "by_customer")
    offline = dbperf.explain(plan=(GOLDEN / "text_9_6.txt").read_text())
    dbperf.assert_index_used(offline, "tenk1_unique1")
    assert compare(scan.plan, scan.plan).same_shape


async def test_the_library_in_a_running_loop(shop: Database) -> None:
    assert dbperf.explain("SELECT 1", dsn=shop.dsn).plan.root.node_type == "Result"
    with pytest.raises(StatementError):
        dbperf.explain("SELECT nothing", dsn=shop.dsn)
    conn = await asyncpg.connect(shop.dsn)
    try:
        found: Any = await explain_on(conn, "SELECT * FROM orders WHERE id = $1", analyze=True)
    finally:
        await conn.close()
    assert found.plan.analyzed
