"""`dbperf up`, `down`, `status` and `doctor` as a user and a script meet them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Database
from tests.support import cli
from tests.support.accounts import ordinary_user
from tests.support.waiting import gone

DBPERF = ["-m", "dbperf"]


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dbh-"))
    folder.chmod(0o755)  # where the server's account can't enter, the programs are copied
    yield folder
    dbperf(folder, "down", "--all", "--quiet")
    shutil.rmtree(folder)


def dbperf(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "XDG", "DBPERF"))}
    return cli.dbperf(*args, env={**kept, "HOME": str(home), **env}, timeout=300)


def test_up_status_doctor_down(home: Path) -> None:
    up = dbperf(home, "up", "--format", "json")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    assert set(told) == {"dsn", "data_dir", "pid"}
    assert psutil.Process(told["pid"]).is_running()
    assert Path(told["data_dir"], "PG_VERSION").exists()
    again = dbperf(home, "up")
    assert again.stdout == f"{told['dsn']}\n"
    assert "was running already" in again.stderr
    status = json.loads(dbperf(home, "status", "--format", "json").stdout)
    assert (status["running"], status["pid"]) == (True, told["pid"])
    doctor = dbperf(home, "doctor")
    assert doctor.returncode == 0
    assert f"checking the embedded server (pid {told['pid']})" in doctor.stderr
    assert "✓ pg_stat_statements" in doctor.stdout
    down = dbperf(home, "down")
    assert down.stdout == f"stopped PostgreSQL (pid {told['pid']})\n"
    assert gone(told["pid"])
    assert dbperf(home, "status").stdout.startswith("no embedded PostgreSQL runs")
    nothing = dbperf(home, "down")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    deleted = dbperf(home, "down", "--all")
    assert deleted.returncode == 0
    assert not Path(told["data_dir"]).exists()
    quiet = dbperf(home, "down", "--all", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_xdg_cache_home_and_cache_dir_decide_the_place(home: Path) -> None:
    (home / "x").mkdir()
    for args, env, folder in (
        ([], {"XDG_CACHE_HOME": str(home / "x")}, home / "x" / "dbperf"),
        (["--cache-dir", str(home / "c")], {}, home / "c"),
    ):
        told = json.loads(dbperf(home, "up", "--format", "json", *args, **env).stdout)
        try:
            assert folder in Path(told["data_dir"]).parents
        finally:
            assert dbperf(home, "down", "--all", *args, **env).returncode == 0


def test_an_ordinary_user_gets_the_same(home: Path) -> None:
    command = ordinary_user([*DBPERF, "up", "--format", "json"], home)
    up = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    assert Path(told["data_dir"]).is_relative_to(home)
    if os.geteuid() == 0:
        assert psutil.Process(told["pid"]).username() == "nobody"
    down = subprocess.run(
        ordinary_user([*DBPERF, "down", "--all"], home), capture_output=True, text=True, check=False, cwd="/"
    )
    assert down.returncode == 0, down.stderr
    assert gone(told["pid"])


def test_doctor_of_a_database(tmp_path: Path, db: Database) -> None:
    failing = dbperf(tmp_path, "doctor", "--dsn", db.dsn, "--format", "json")
    assert failing.returncode == 3
    rows = json.loads(failing.stdout)
    assert {"feature", "status", "found", "needed", "why", "fix"} <= set(rows[0])
    assert [r["feature"] for r in rows if r["status"] == "missing" and r["required"]] == ["pg_stat_statements"]
    db.psql("CREATE EXTENSION pg_stat_statements")
    output = tmp_path / "doctor.md"
    passing = dbperf(tmp_path, "doctor", "--format", "markdown", "-o", str(output), DBPERF_DSN=db.dsn)
    assert (passing.returncode, passing.stdout) == (0, "")
    assert output.read_text().startswith("| | feature |")
    by_variables = dbperf(tmp_path, "doctor", PGHOST=db.server.host, PGUSER="postgres", PGDATABASE=db.name)
    assert by_variables.returncode == 0, by_variables.stderr
    assert f'checking database "{db.name}"' in by_variables.stderr
    assert "All that is required is there" in by_variables.stdout


def test_doctor_starts_a_server_for_itself_and_leaves_none(tmp_path: Path) -> None:
    done = dbperf(tmp_path, "doctor", "--format", "json", **cli.warm_cache())
    assert done.returncode == 0, done.stderr
    assert "started for this" in done.stderr
    assert json.loads(done.stdout)[0] == {
        "feature": "server version",
        "status": "ok",
        "required": True,
        "found": json.loads(done.stdout)[0]["found"],
        "needed": "PostgreSQL 14 to 18",
        "why": "older servers lack the statistics that dbperf reads",
        "fix": None,
    }
    assert json.loads(dbperf(tmp_path, "status", "--format", "json", **cli.warm_cache()).stdout) == {"running": False}


@pytest.mark.parametrize(
    ("dsn", "code", "message"),
    [
        ("postgresql://me:hunter2@no-such-host.invalid/app", 3, "there is no such host"),
        ("postgresql://me:hunter2@127.0.0.1:1/app", 3, "connection refused"),
        ("postgresql://me:hun/ter2", 2, "is not a number from 1 to 65535"),
        ("mysql://me:hunter2@db/app", 2, "not a PostgreSQL connection string"),
        ("host=db passwort=hunter2", 2, "unknown parameter 'passwort'"),
    ],
)
def test_bad_connections_end_in_one_line_a_hint_and_a_code(tmp_path: Path, dsn: str, code: int, message: str) -> None:
    done = cli.dbperf_here("doctor", "--dsn", dsn, env=cli.environment(tmp_path), cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("dbperf: ")]
    assert len(errors) == 1
    assert "hint: " in done.stderr
    assert "hunter2" not in done.stderr
    assert "ter2" not in done.stderr
    assert "Traceback" not in done.stderr
