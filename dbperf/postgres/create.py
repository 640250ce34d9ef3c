"""A database for the lab, in the embedded server only."""

from __future__ import annotations

from dbperf.postgres.connect import connected
from dbperf.postgres.embedded import Embedded


async def create_database(server: Embedded, name: str) -> str:
    """Creates a database and returns its DSN; pg_stat_statements comes with template1.

    Raises:
        ConnectError: the server is gone.
        asyncpg.PostgresError: a database of that name exists.
    """
    async with connected(server.dsn(), read_only=False) as conn:
        await conn.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
    return server.dsn(name)
