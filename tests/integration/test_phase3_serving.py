"""The reference target as a process: the lab's child, and the background target of `dbperf target`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbperf.errors import TargetError
from dbperf.phase3 import background
from dbperf.phase3.launch import start_target
from tests.conftest import Database
from tests.support import cli
from tests.support.pgserver import PgServer
from tests.support.smoke_data import seeded
from tests.support.waiting import eventually


def get(url: str, path: str, key: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    connection.request("GET", path, headers={"X-API-Key": key})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 120
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


@pytest.fixture(scope="module")
def data(server_18: PgServer) -> Iterator[Database]:
    with seeded(server_18) as name:
        yield Database(server_18.dsn(name), name, server_18, 18)


async def test_it_serves_and_stops(data: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dbperf.py").write_text("raise RuntimeError('a file of the user stood in for the package')")
    monkeypatch.chdir(tmp_path)
    with start_target(data.dsn, "tuned", pool_size=3) as target:
        assert target.url.startswith("http://127.0.0.1:")
        assert get(target.url, "/consolidation/summary", target.api_key)[1]["total_active_cases"] == 60
        assert get(target.url, "/consolidation/summary", "wrong")[0] == 403
        arguments = " ".join(psutil.Process(target.pid).cmdline())
        assert target.api_key not in arguments
        assert data.name not in arguments
        assert target.poll() is None
    assert gone(target.pid)
    target.stop()


async def test_how_it_ended_is_told(data: Database) -> None:
    with start_target(data.dsn, "tuned") as target:
        assert target.ended_words() is None
        os.kill(target.pid, signal.SIGSEGV)
        assert eventually(lambda: target.ended_words() == "by signal 11 (SIGSEGV)")


async def test_workers_end_with_their_supervisor(data: Database) -> None:
    with start_target(data.dsn, "naive", workers=2) as target:
        assert get(target.url, "/reflection/health", target.api_key)[0] == 200
        processes = [target.pid, *(p.pid for p in psutil.Process(target.pid).children(recursive=True))]
        assert len(processes) >= 3
    assert all(gone(pid) for pid in processes)


def test_a_failed_start_tells_why(db_18: Database, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no table case_bank"):
        start_target(db_18.dsn, "tuned")
    with pytest.raises(TargetError, match="does not exist"):
        start_target(db_18.server.dsn("no_such_database"), "tuned", log=tmp_path / "log")
    assert "does not exist" in (tmp_path / "log").read_text()


def dbperf(*args: str, cache: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = cli.dbperf("target", *args, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, timeout=300)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    yield tmp_path
    folder = tmp_path / "dbperf" / "targets"
    for state in background.running(folder):
        background.stop(folder, state)


def test_targets_outlive_the_command(db_18: Database, cache: Path) -> None:
    up = ("up", "--dsn", db_18.dsn, "--scale", "smoke", "--format", "json")
    naive = json.loads(dbperf(*up, "--implementation", "naive", cache=cache).stdout)
    assert set(naive) == {"url", "pid", "api_key"}
    assert get(naive["url"], "/reflection/health", naive["api_key"]) == (200, {"status": "healthy"})
    assert json.loads(dbperf(*up, "--implementation", "naive", cache=cache).stdout) == naive
    tuned = json.loads(dbperf(*up, "--implementation", "tuned", cache=cache).stdout)
    assert tuned["url"] != naive["url"]
    listed = json.loads(dbperf("status", "--format", "json", cache=cache).stdout)
    assert {(s["url"], s["implementation"], s["healthy"]) for s in listed} == {
        (naive["url"], "naive", True),
        (tuned["url"], "tuned", True),
    }
    states = list((cache / "dbperf" / "targets").glob("*.json"))
    assert [p.stat().st_mode & 0o777 for p in states] == [0o600, 0o600]
    dbperf("up", "--dsn", db_18.dsn, "--scale", "smoke", "--workers", "2", cache=cache, code=3)
    # A killed target is noticed and replaced.
    psutil.Process(tuned["pid"]).kill()
    assert gone(tuned["pid"])
    assert len(json.loads(dbperf("status", "--format", "json", cache=cache).stdout)) == 1
    tuned = json.loads(dbperf(*up, "--implementation", "tuned", cache=cache).stdout)
    assert get(tuned["url"], "/reflection/health", tuned["api_key"])[0] == 200
    assert json.loads(dbperf("down", "--format", "json", cache=cache).stdout) == [
        {"url": tuned["url"], "pid": tuned["pid"]}
    ]
    dbperf("down", "--all", cache=cache)
    assert gone(naive["pid"])
    assert gone(tuned["pid"])
    assert json.loads(dbperf("status", "--format", "json", cache=cache).stdout) == []


def test_bad_options_end_in_one_line(db_18: Database, cache: Path) -> None:
    done = dbperf("up", "--dsn", db_18.dsn, "--scale", "smal", cache=cache, code=2)
    assert done.stderr.startswith("dbperf: there is no scale 'smal'\n  hint: ")
    db_18.psql("CREATE TABLE case_bank (id int)")
    done = dbperf("up", "--dsn", db_18.dsn, "--scale", "smoke", cache=cache, code=3)
    assert "already has a table case_bank" in done.stderr
    assert "Traceback" not in done.stderr
    done = dbperf("up", "--dsn", "postgresql://u:secret@127.0.0.1:1/x", "--scale", "smoke", cache=cache, code=3)
    assert "secret" not in done.stderr
