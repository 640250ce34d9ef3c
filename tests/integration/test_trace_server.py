"""A server that is started on the wrapper, and the command line, with an application that does not know of either."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dbperf.trace.asgi import FACTORY, environment
from dbperf.trace.collect import collect
from tests.conftest import Database
from tests.support import cli, traced_app
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
APP = "tests.support.traced_app:from_environment"


def serve(db: Database, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """uvicorn on a free port, answering."""
    env = {**os.environ, **environment(APP, folder, factory=True), "TRACED_APP_DSN": db.dsn}
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", FACTORY, "--port", "0"],
        env=env, cwd=ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stderr
    for line in server.stderr:
        if b"running on" in line:
            return server, line.decode().split("running on ")[1].split()[0]
    raise AssertionError("uvicorn did not start")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=300) as answer:
        return bytes(answer.read())


@pytest.mark.pg("== 18")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_under_trace(db: Database, tmp_path: Path, how: signal.Signals) -> None:
    db.psql(traced_app.SCHEMA)
    server, url = serve(db, tmp_path)
    asked = {"GET /v1/items/{item_id}/logs": 3, "GET /n-plus-one": 1}
    try:
        for _ in range(3):
            get(f"{url}/v1/items/4/logs")
        get(f"{url}/n-plus-one")
        if how == signal.SIGKILL:  # what has been written by then is kept
            assert eventually(lambda: {e.route: e.requests for e in collect(tmp_path, root=ROOT).endpoints} == asked)
    finally:
        server.send_signal(how)
        server.wait(120)
        assert server.stderr
        server.stderr.close()
    trace = collect(tmp_path, root=ROOT)
    assert trace.complete == (how == signal.SIGTERM)
    by_route = {e.route: e for e in trace.endpoints}
    assert by_route["GET /v1/items/{item_id}/logs"].requests == 3
    assert by_route["GET /n-plus-one"].statements_per_request.max == 61
    assert by_route["GET /n-plus-one"].findings[0].source


def dbperf(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return cli.dbperf("trace", *args, cwd=ROOT, env={**os.environ, **env}, timeout=300)


@pytest.mark.pg("== 18")
def test_the_command_has_the_contracts_shape(db: Database, tmp_path: Path) -> None:
    db.psql(traced_app.SCHEMA)
    requests = tmp_path / "requests.txt"
    requests.write_text('# warm\nGET /health\n\n{"path": "/n-plus-one", "repeat": 2}\nGET /v1/items/1/logs\n')
    done = dbperf("--app", APP + "()", "--requests", str(requests), "--format", "json", TRACED_APP_DSN=db.dsn)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    by_route = {e["route"]: e for e in result["endpoints"]}
    e = by_route["GET /n-plus-one"]
    assert e["requests"] == 2
    assert e["statements_per_request"] == {"median": 61, "max": 61}
    assert {"sql_ms", "pool_wait_ms", "python_ms", "statements", "findings"} <= set(e)
    [s] = [s for s in e["statements"] if s["per_request"] == 60]
    assert s["source"].startswith("tests/support/traced_app.py:")
    assert s["total_ms"] > 0
    assert e["findings"][0]["rule_id"] == "n_plus_one"
    requests.write_text("GET /n-plus-one\n")
    text = dbperf("--app", APP + "()", "--requests", str(requests), TRACED_APP_DSN=db.dsn)
    assert "N+1: the same SELECT 60 times per request at tests/support/traced_app.py" in text.stdout
    markdown = dbperf("--app", APP + "()", "--requests", str(requests), "--format", "markdown", TRACED_APP_DSN=db.dsn)
    assert "| critical | `GET /n-plus-one` | N+1" in markdown.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--app", "nowhere.at.all:app", "--requests", "{f}"], 2, "there is no module 'nowhere'"),
        (["--app", "tests.support.traced_app:absent", "--requests", "{f}"], 2, "has no 'absent'"),
        (["--app", "tests.support.traced_app", "--requests", "{f}"], 2, "names no application"),
        (["--app", APP, "--requests", "/nowhere/requests"], 2, "does not exist"),
        (["--app", APP], 2, "needs --requests"),
        ([], 2, "say what to trace"),
        (["--app", APP, "--requests", "{f}", "--format", "xml"], 2, "'xml' is not one of 'text', 'json', 'markdown'"),
        (["--read", "/nowhere"], 3, "holds no trace"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, args: list[str], code: int, message: str) -> None:
    requests = tmp_path / "requests"
    requests.write_text("GET /health\n")
    done = dbperf(*(a.replace("{f}", str(requests)) for a in args))
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_requests_that_are_none(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    for content in ("GET\n", "nonsense here\n", '{"pth": "/x"}\n', "", "[1]"):
        requests.write_text(content)
        done = dbperf("--app", APP, "--requests", str(requests))
        assert done.returncode == 2, (content, done.stderr)
        assert "Traceback" not in done.stderr
