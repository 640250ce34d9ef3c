"""The reference target's smallest data, seeded once and copied for each test that may change it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from dbperf.phase3.seed import seed
from tests.conftest import Database
from tests.support.pgserver import PgServer

_counter = itertools.count()


@contextmanager
def seeded(server: PgServer, reference: datetime | None = None) -> Iterator[str]:
    """The name of a database with the data. It can be copied while nobody is connected to it."""
    name = f"smoke{os.getpid()}_{next(_counter)}"
    server.psql(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    try:
        asyncio.run(seed(server.dsn(name), "smoke", reference=reference))
        yield name
    finally:
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def copied(server: PgServer, template: str) -> Iterator[Database]:
    """A database of its own with the same data and statistics, in a fifth of the time that seeding takes."""
    name = f"{template}_{next(_counter)}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    try:
        yield Database(server.dsn(name), name, server, 18)
    finally:
        server.psql(f"DROP DATABASE {name} WITH (FORCE)")
