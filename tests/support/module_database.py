"""Databases that are filled once: one for all tests of a module, or one for each test as a copy."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import Database
from tests.support.pgserver import PgServer

_counter = itertools.count()
_filled: dict[tuple[str, str], str] = {}


def module_database(request: pytest.FixtureRequest, setup: str) -> Iterator[Database]:
    """For the body of a module-scoped fixture with ``params=[15, 18]``: tests only read, or clean up themselves."""
    major: int = request.param
    server = request.getfixturevalue(f"server_{major}")
    name = f"m{os.getpid()}_{next(_counter)}"
    server.psql(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    server.psql(setup, name)
    yield Database(server.dsn(name), name, server, major)
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def copied_database(request: pytest.FixtureRequest, major: int, setup: str) -> Iterator[Database]:
    """For the body of a fixture: a database of its own for each test, with what `setup` makes."""
    server = request.getfixturevalue(f"server_{major}")
    with copy_of(server, filled(server, setup), major) as database:
        yield database


def copies(setup: str, *majors: int) -> Any:
    """A fixture: `copied_database` on these versions."""

    @pytest.fixture(params=majors)
    def database(request: pytest.FixtureRequest) -> Iterator[Database]:
        yield from copied_database(request, request.param, setup)

    return database


@contextmanager
def copy_of(server: PgServer, template: str, major: int) -> Iterator[Database]:
    """A database of its own with the rows and statistics of another, to which nobody is connected."""
    name = f"c{os.getpid()}_{next(_counter)}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield Database(server.dsn(name), name, server, major)
    finally:
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


def filled(server: PgServer, setup: str) -> str:
    """The name of a database to be copied, in which `setup` has run; it stays as long as the server."""
    if (server.host, setup) not in _filled:
        name = f"f{os.getpid()}_{next(_counter)}"
        server.psql(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        server.psql(setup, name)
        _filled[server.host, setup] = name
    return _filled[server.host, setup]
