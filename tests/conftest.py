"""Fixtures that every test may use: real servers and throw-away databases."""

from __future__ import annotations

import gc
import itertools
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.memory import use_memory
from tests.support.pgserver import PgServer, bindir_15, bindir_18

_in_memory = use_memory()

# Threads that numpy starts for large matrices spin 0.08 s in each of many hundred processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_counter = itertools.count()
_FAILED = pytest.StashKey[bool]()

# Collecting makes objects that stay. Looking at them again and again for garbage took a tenth of the unit tests' time.
gc.disable()

# A shell starts what runs in its background with SIGINT and SIGQUIT ignored, nohup with SIGHUP, and children inherit
# that: how they end by these could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _enterable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """PostgreSQL's account may enter temporary folders where root runs the tests. For a home that it can't enter dbperf
    would make a cluster and copy its programs in /var/tmp, and leave them there (test_server_embedded.py)."""
    base = tmp_path_factory.getbasetemp()
    for folder in (base, *base.parents):
        if folder.name.startswith(("popen-", "pytest-")):  # pytest's own
            folder.chmod(0o711)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o711)
    return tmp_path


@dataclass(frozen=True)
class Database:
    """A database of its own for one test."""

    dsn: str
    name: str
    server: PgServer
    major: int

    def psql(self, sql: str) -> str:
        return self.server.psql(sql, self.name)


@pytest.fixture(scope="session")
def server_18() -> Iterator[PgServer]:
    """PostgreSQL 18 from the embedded wheel, shared by the tests of one process."""
    server = PgServer(bindir_18())
    yield server
    server.close()


@pytest.fixture(scope="session")
def server_15() -> Iterator[PgServer]:
    """Debian's PostgreSQL 15 (.ci/run installs it)."""
    server = PgServer(bindir_15())
    yield server
    server.close()


def _database(server: PgServer, major: int) -> Iterator[Database]:
    name = f"t{os.getpid()}_{next(_counter)}"
    # FILE_COPY: half the CPU time, as nothing is flushed to the disk (fsync is off).
    server.psql(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    yield Database(server.dsn(name), name, server, major)
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db_18(server_18: PgServer) -> Iterator[Database]:
    yield from _database(server_18, 18)


@pytest.fixture
def db_15(server_15: PgServer) -> Iterator[Database]:
    yield from _database(server_15, 15)


@pytest.fixture(params=[15, 18])
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh database on PostgreSQL 15 and on 18; narrow it with ``@pytest.mark.pg(">= 16")``."""
    major: int = request.param
    yield from _database(request.getfixturevalue(f"server_{major}"), major)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out the versions that a `pg` marker excludes: deselected, not skipped, so that CI can forbid skips."""
    kept = []
    for item in items:
        mark = item.get_closest_marker("pg")
        params = getattr(getattr(item, "callspec", None), "params", {})
        if mark and "db" in params and not _satisfies(params["db"], mark.args[0]):
            continue
        kept.append(item)
    items[:] = kept


def _satisfies(major: int, spec: str) -> bool:
    m = re.fullmatch(r"(>=|<=|<|>|==)\s*(\d+)", spec)
    assert m, f"pg({spec!r}): write it as '>= 16'"
    other = int(m[2])
    return {">=": major >= other, "<=": major <= other, "<": major < other, ">": major > other, "==": major == other}[
        m[1]
    ]


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """What failed tests have written stays until the next run."""
    if _in_memory is not None and not config.stash.get(_FAILED, False):
        shutil.rmtree(_in_memory, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that CI can't run is a hole in CI, not a detail: it fails the session."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and (skipped := reporter.stats.get("skipped")):
        reporter.write_line(f"{len(skipped)} tests were skipped; in CI that is a failure")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.config.stash[_FAILED] = session.exitstatus != pytest.ExitCode.OK
