"""One database for all tests of a module: for tests that only read, or clean up after themselves."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.conftest import Database

_counter = itertools.count()


def module_database(request: pytest.FixtureRequest, setup: str) -> Iterator[Database]:
    """For the body of a module-scoped fixture with ``params=[15, 18]``."""
    major: int = request.param
    server = request.getfixturevalue(f"server_{major}")
    name = f"m{os.getpid()}_{next(_counter)}"
    server.psql(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    server.psql(setup, name)
    yield Database(server.dsn(name), name, server, major)
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")
