"""`dbperf profile` as a user and a script meet it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dbperf.records.database import DatabaseActivity
from dbperf.records.profile import ProfileSummary
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.records.waits import Waits
from tests.conftest import Database
from tests.support import cli
from tests.support.pgserver import PgServer
from tests.support.waiting import eventually


def dbperf(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DBPERF"))}
    return cli.dbperf("profile", *args, env={**kept, **env}, timeout=300)


def psql(db: Database, sql: str) -> str:
    return f'{db.server.bindir}/psql -XqAt -h {db.server.host} -U postgres {db.name} -c "{sql}"'


@pytest.fixture
def ready(db_18: Database) -> Database:
    db_18.psql("CREATE EXTENSION pg_stat_statements")
    return db_18


def test_json_is_what_scripts_rely_on(db: Database, tmp_path: Path) -> None:
    db.psql("CREATE EXTENSION pg_stat_statements")
    out = tmp_path / "run"
    work = f"echo from the command; PGPASSWORD=hush {psql(db, 'SELECT pg_sleep(0.5)')}"
    done = dbperf("--dsn", db.dsn, "--while", work, "--format", "json", "--run", str(out))
    assert done.returncode == 0, done.stderr
    assert "from the command" in done.stderr
    assert "PGPASSWORD=*** " in done.stdout
    assert not [f.name for f in out.rglob("*") if f.is_file() and b"hush" in f.read_bytes()]
    assert "hush" not in done.stdout
    told = json.loads(done.stdout)
    assert {"window", "validity", "attributed_share", "statements", "waits", "blockers", "database", "findings"} <= set(
        told
    )
    (sleep,) = told["statements"]
    assert (sleep["text"], sleep["calls"], sleep["rows"], sleep["valid"]) == ("SELECT pg_sleep($1)", 1, 1, True)
    assert {"queryid", "fingerprint", "total_ms", "mean_ms", "share", "hit_ratio"} <= set(sleep)
    assert 500 <= sleep["total_ms"] < told["window"]["seconds"] * 1000
    assert told["waits"][0]["wait_event"] == "PgSleep"
    assert told["ended"] == "complete"
    assert told["database"]["counters"]["commits"] >= 1
    run = RunDirectory.open(out)
    assert run.manifest.status == "complete"
    assert run.manifest.server is not None
    assert run.read(Statements).statements[0].queryid == sleep["queryid"]
    assert run.read(Waits).events[0].wait_event == "PgSleep"
    assert run.read(DatabaseActivity).database == db.name
    assert run.read(ProfileSummary).command_exit_code == 0
    assert dbperf("--dsn", db.dsn, "--seconds", "0.1", "--run", str(out)).returncode == 3, "a run is kept"
    assert dbperf("--dsn", db.dsn, "--seconds", "0.1", "--run", str(out), "--force").returncode == 0


def test_text_and_markdown(ready: Database, tmp_path: Path) -> None:
    script = tmp_path / "nasty.sql"
    script.write_text('SELECT 1 AS "|`<script>\x1b[31m😀"; SELECT pg_sleep(0.1)')
    work = f"{ready.server.bindir}/psql -Xq -h {ready.server.host} -U postgres -f {script} {ready.name}"
    text = dbperf("--dsn", ready.dsn, "--while", work)
    assert text.returncode == 0, text.stderr
    assert "Profile of" in text.stdout
    assert "pg_sleep($1)" in text.stdout
    assert "\x1b" not in text.stdout
    assert "😀" in text.stdout
    file = tmp_path / "profile.md"
    done = dbperf("--dsn", ready.dsn, "--while", work, "--format", "markdown", "-o", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    markdown = file.read_text()
    row = next(line for line in markdown.splitlines() if "<script>" in line)
    assert row.count("|") - row.count("\\|") == 8
    assert '`SELECT $1 AS "\\|\'<script> [31m😀"`' in row


def test_a_command_that_fails(ready: Database) -> None:
    done = dbperf("--dsn", ready.dsn, "--while", f"{psql(ready, 'SELECT 4711')}; exit 7", "--format", "json")
    assert done.returncode == 3
    assert "exit code 7" in done.stderr
    told = json.loads(done.stdout)
    assert (told["ended"], told["command_exit_code"]) == ("command failed", 7)
    assert [s["calls"] for s in told["statements"]] == [1]


def test_a_command_that_hangs_is_stopped(ready: Database) -> None:
    done = dbperf("--dsn", ready.dsn, "--while", "trap '' TERM; sleep 600", "--seconds", "0.5", "--format", "json")
    assert done.returncode == 3
    assert "did not end in time" in done.stderr
    assert json.loads(done.stdout)["ended"] == "time limit"


def test_ctrl_c_before_anything_was_measured_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never answers
        dsn = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x"
        process = subprocess.Popen(
            [sys.executable, "-m", "dbperf", "profile", "--dsn", dsn], stderr=subprocess.PIPE, text=True
        )
        connection, _ = silent.accept()
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        connection.close()
    assert (process.returncode, err) == (130, "dbperf: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_measured(ready: Database, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "dbperf", "profile", "--dsn", ready.dsn, "--while", "sleep 50", "--format", "json",
         "--run", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # The command starts when the window has been opened.
    assert eventually(lambda: any("sleep" in p.name() for p in psutil.Process(process.pid).children(recursive=True)))
    ready.psql("SELECT 4711 AS kept")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    told = json.loads(stdout)
    assert told["ended"] == "interrupted"
    assert any("AS kept" in s["text"] for s in told["statements"])
    assert RunDirectory.open(out).manifest.status == "partial"
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbperf%'"
    assert eventually(lambda: ready.psql(left) == "0")


def test_bad_input_ends_in_one_clear_line(db_18: Database, tmp_path: Path) -> None:
    missing = dbperf("--dsn", db_18.dsn, "--seconds", "0.1", "--run", str(tmp_path / "run"))
    assert missing.returncode == 3
    assert missing.stderr.startswith("dbperf: the extension pg_stat_statements is not installed")
    assert "hint: CREATE EXTENSION" in missing.stderr
    assert RunDirectory.open(tmp_path / "run").manifest.status == "failed"
    nobody = dbperf("--dsn", "postgresql://x:secret@127.0.0.1:1/y", "--seconds", "0.1")
    assert nobody.returncode == 3
    assert "refused" in nobody.stderr
    assert "secret" not in nobody.stderr
    assert dbperf("--dsn", db_18.dsn, "--seconds", "soon").returncode == 2
    nothing = dbperf("--seconds", "1", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert nothing.returncode == 2
    assert "hint: give one with --dsn" in nothing.stderr
    for done in (missing, nobody, nothing):
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_order_and_top(ready: Database) -> None:
    ready.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 20000) AS g")
    firsts = {}
    for order in ("total", "mean", "temp", "wal", "rows"):
        work = "; ".join(
            psql(ready, statement)
            for statement in (
                "INSERT INTO t SELECT 1 FROM generate_series(1, 3000)",
                "SELECT a FROM t LIMIT 5000",
                f"SELECT pg_sleep({0.5 if order in ('total', 'mean') else 0.01})",
                "SET work_mem = 64; SELECT count(*) FROM (SELECT a FROM t ORDER BY a OFFSET 1) AS x",
            )
        )
        done = dbperf("--dsn", ready.dsn, "--while", work, "--order-by", order, "--top", "1", "--format", "json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert len(told["statements"]) == 1
        assert told["total_calls"] >= 4
        firsts[order] = told["statements"][0]["text"]
    assert "pg_sleep" in firsts["total"]
    assert "pg_sleep" in firsts["mean"]
    assert "ORDER BY a" in firsts["temp"]
    assert "INSERT" in firsts["wal"]
    assert "LIMIT" in firsts["rows"]


def test_text_that_is_no_utf8_does_not_stop_the_sampler(server_18: PgServer) -> None:
    name = f"ascii_{os.getpid()}"
    server_18.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        server_18.psql("CREATE EXTENSION pg_stat_statements", name)
        client = f"PGCLIENTENCODING=SQL_ASCII {server_18.bindir}/psql -XqAt -h {server_18.host} -U postgres {name}"
        done = dbperf(
            "--dsn", server_18.dsn(name), "--format", "json",
            "--while", f"printf 'SELECT pg_sleep(0.5) AS \"caf\\351\\377\";' | {client}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert [s["text"] for s in told["statements"]] == ['SELECT pg_sleep($1) AS "caf��"']
        assert told["activity"]["sampler"]["gaps"] == 0
        assert told["waits"][0]["wait_event"] == "PgSleep"
    finally:
        server_18.psql(
            "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset();"
            " DROP EXTENSION pg_stat_statements"
        )
        server_18.psql(f"DROP DATABASE {name} WITH (FORCE)")
