"""Running dbperf as a user does, and finding what it left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import psutil

from dbperf.cli.main import main
from tests.support import warm

MARK = "DBPERF_TEST_MARK"
STAGES = (
    "database",
    "seed",
    "target",
    "load",
    "statements",
    "plans",
    "flames",
    "trace",
    "advice",
    "proof",
    "again",
    "verdicts",
)
"""Of `dbperf run`, in their order."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's environment with an empty home and nothing that points at a database."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DBPERF", "PG"))}
    return {**kept, "HOME": str(home), "NO_COLOR": "1", MARK: uuid.uuid4().hex, **more}


def warm_cache() -> dict[str, str]:
    """For `environment`: the cache of somebody who has used dbperf before. Servers of runs need no initdb then.

    Shared by all test processes; only for tests that leave the lasting server (`dbperf up`) alone.
    """
    folder = Path(tempfile.gettempdir()) / f"dbperf-tests-cache-{os.geteuid()}"
    folder.mkdir(mode=0o755, exist_ok=True)
    return {"XDG_CACHE_HOME": str(folder)}


def dbperf(
    *args: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 500,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    env, cwd = os.environ if env is None else env, Path.cwd() if cwd is None else cwd
    return warm.run(list(map(str, args)), env=env, cwd=cwd, timeout=timeout, stdin=stdin)


def dbperf_here(*args: str | Path, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, which has imported everything already: for commands that only read and refuse."""
    command = ["dbperf", *map(str, args)]
    raw = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True) for stream in raw)
    code: object = None
    with (
        chdir(cwd), redirect_stdout(out), redirect_stderr(err),
        patch.dict(os.environ, env, clear=True), patch.object(sys, "argv", command),
    ):  # fmt: skip
        try:
            main()
        except SystemExit as e:
            code = e.code
    assert isinstance(code, int), f"{command} ended without an exit code"
    stdout, stderr = (stream.getvalue().decode() for stream in raw)
    return subprocess.CompletedProcess(command, code, stdout, stderr)


@contextmanager
def started(
    *args: str | Path, env: dict[str, str], cwd: Path, program: Sequence[str] = ("-m", "dbperf")
) -> Iterator[subprocess.Popen[str]]:
    """A running command; killed at the end of the block if it still runs.

    Args:
        program: what Python is told to run.
    """
    process = subprocess.Popen(
        [sys.executable, *program, *args],
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def left_behind(env: dict[str, str], *, within_s: float = 60) -> list[str]:
    """Command lines of processes that were started with this environment and still run after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == env[MARK]:
                    found.append(" ".join(process.cmdline()) or process.name())
            except psutil.Error:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
