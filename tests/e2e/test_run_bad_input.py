"""Bad input to `dbperf run`: one clear line, a hint, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from tests.conftest import Database
from tests.support.cli import dbperf, dbperf_here, environment
from tests.support.httpserver import FaultyServer
from tests.support.sample_run import sample_run

SHORT = ("--duration", "1s", "--warm-up", "0s", "--users", "2")


def check(stderr: str, message: str, hint: str) -> None:
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("dbperf: ")]
    assert len(lines) == 1, stderr
    assert message in lines[0]
    assert hint in stderr


@pytest.mark.parametrize(
    ("args", "code", "message", "hint"),
    [
        (("--durration", "5s"), 2, "--durration", "--duration"),
        (("--duration", "soon"), 2, "'soon' is not a duration", "30s"),
        (("--duration", "0s"), 2, "at least 1 s", "requests"),
        (("--scale", "huge"), 2, "no scale 'huge'", "smoke"),
        (("--users", "0"), 2, "--users", ""),
        (("--users", "101"), 2, "101 users", "--staging"),
        (("--config", "no.toml"), 2, "no.toml does not exist", "--config"),
        (("--suite", "phase4"), 2, "phase4", "phase3"),
        (("--url", "localhost:8000"), 2, "no HTTP URL", "http://"),
        (("--url", "http://api.invalid"), 2, "not on this machine", "--i-know-this-is-not-production"),
        (("--header", "nonsense"), 2, "--header", "Authorization"),
        (("--traces", "traces"), 2, "--traces", "--url"),
        (("--url", "http://api.invalid", "--i-know-this-is-not-production"), 3, "api.invalid", ""),
        (("--url", "http://127.0.0.1:9"), 3, "127.0.0.1:9", ""),
        (("--dsn", "postgresql://h.invalid/d", "--i-know-this-is-not-production"), 3, "h.invalid", ""),
        (("--dsn", "postgresql://127.0.0.1:9/d"), 3, "127.0.0.1", ""),
        (("--dsn", "mysql://127.0.0.1/d"), 2, "mysql", "postgresql://"),
    ],
)
def test_what_does_not_fit_is_one_line(
    args: tuple[str, ...], code: int, message: str, hint: str, tmp_path: Path
) -> None:
    done = dbperf_here("run", *args, env=environment(tmp_path / "home"), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert hint in done.stderr


def test_an_unknown_configuration_key_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "dbperf.toml").write_text("durration = '5s'\n")
    done = dbperf_here("run", env=environment(tmp_path / "home"), cwd=tmp_path)
    assert done.returncode == 2
    check(done.stderr, "dbperf.toml: unknown key 'durration'", "did you mean 'duration'?")


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    env = environment(tmp_path / "home")
    done = dbperf_here("run", "--quick", "--out", tmp_path / "file" / "r", env=env, cwd=tmp_path)
    assert done.returncode == 3
    check(done.stderr, "can't be written", "--out")
    assert (tmp_path / "file").read_text() == "x"


def test_a_missing_database_is_named(db: Database, tmp_path: Path) -> None:
    dsn = db.server.dsn("nosuch")
    done = dbperf("run", "--dsn", dsn, *SHORT, "--out", "r", env=environment(tmp_path / "home"), cwd=tmp_path)
    assert done.returncode == 3
    check(done.stderr, "nosuch", "")
    assert RunDirectory.open(tmp_path / "r").manifest.status == "failed"


def test_force_with_a_database_that_cannot_be_reached_loses_nothing(tmp_path: Path) -> None:
    env = environment(tmp_path / "home")
    sample_run(tmp_path / "r")
    before = {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()}
    dsn = "postgresql://127.0.0.1:9/d"
    done = dbperf("run", "--dsn", dsn, *SHORT, "--out", "r", "--force", env=env, cwd=tmp_path)
    assert done.returncode == 3
    check(done.stderr, "connection refused", "is the server running")
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()} == before
    done = dbperf("profile", "--dsn", dsn, "--seconds", "1", "--run", "r", "--force", env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()} == before


def test_a_missing_extension_says_how_to_install_it(db: Database, tmp_path: Path) -> None:
    done = dbperf("run", "--dsn", db.dsn, *SHORT, "--out", "r", env=environment(tmp_path / "home"), cwd=tmp_path)
    assert done.returncode == 3
    check(done.stderr, "pg_stat_statements", "CREATE EXTENSION")


def test_a_role_without_privileges_gets_what_it_may_see(db: Database, tmp_path: Path) -> None:
    role = f"plain_{os.getpid()}_{db.name}"
    db.psql(f"CREATE EXTENSION pg_stat_statements; CREATE ROLE {role} LOGIN")
    try:
        done = dbperf(
            "run", "--dsn", db.server.dsn(db.name, role), *SHORT, "--out", "r",
            env=environment(tmp_path / "home"), cwd=tmp_path,
        )  # fmt: skip
    finally:
        db.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert done.returncode == 0, done.stderr
    assert "pg_read_all_stats" in done.stderr
    run = RunDirectory.open(tmp_path / "r")
    assert run.manifest.status == "complete"
    assert run.has(Statements)


def test_an_api_that_answers_500_is_measured(tmp_path: Path) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text('name = "s"\n[[stages]]\nname = "one"\nusers = 2\nduration = "2s"\n'
                     '[[endpoints]]\nmethod = "GET"\npath = "/status/500"\n')  # fmt: skip
    with FaultyServer() as target:
        done = dbperf(
            "run", "--url", target.url, "--suite", suite, *SHORT, "--out", "r",
            env=environment(tmp_path / "home"), cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    [endpoint] = RunDirectory.open(tmp_path / "r").read(Load).stages[0].endpoints
    assert endpoint.errors == endpoint.requests > 0
    assert {e.status for e in endpoint.errors_by_kind} == {500}
    assert "every request failed (http 500)" in done.stderr
    assert (tmp_path / "r" / "report.html").is_file()


def test_an_api_that_dies_keeps_the_database_s_side(db_18: Database, tmp_path: Path) -> None:
    """--url and --dsn: the API goes away in the middle; the load and the statements of the window are kept."""
    db_18.psql("CREATE EXTENSION pg_stat_statements")
    suite = tmp_path / "s.toml"
    suite.write_text('name = "s"\n[[stages]]\nname = "one"\nusers = 2\nduration = "2s"\n'
                     '[[endpoints]]\nmethod = "GET"\npath = "/ok"\n')  # fmt: skip
    with FaultyServer() as target:
        killer = threading.Thread(target=kill_once_measuring, args=(target, tmp_path / "r" / "load.jsonl"))
        killer.start()
        done = dbperf(
            "run", "--url", target.url, "--dsn", db_18.dsn, "--suite", suite, *SHORT[2:], "--duration", "4s",
            "--out", "r",
            env=environment(tmp_path / "home"), cwd=tmp_path,
        )  # fmt: skip
        killer.join()
    assert done.returncode in (0, 1), done.stderr
    run = RunDirectory.open(tmp_path / "r")
    [endpoint] = run.read(Load).stages[0].endpoints
    assert {e.kind for e in endpoint.errors_by_kind} & {"connection refused", "connection reset"}
    assert endpoint.requests > endpoint.errors
    assert run.has(Statements)


def kill_once_measuring(target: FaultyServer, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.is_file() and b'"phase":"measured"' in log.read_bytes():  # a second of the window has ended
            break
        time.sleep(0.05)
    target.process.stop()
