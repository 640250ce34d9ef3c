"""Databases for the lab, in the embedded server only."""

from __future__ import annotations

import asyncpg

from dbperf.errors import ServerError
from dbperf.postgres.connect import connected
from dbperf.postgres.embedded import Embedded

_LARGE_BYTES = 1 << 30


async def create_database(server: Embedded, name: str) -> str:
    """Creates a database and returns its DSN; pg_stat_statements comes with template1.

    Raises:
        ConnectError: the server is gone.
        asyncpg.PostgresError: a database of that name exists.
    """
    async with connected(server.dsn(), read_only=False) as conn:
        await conn.execute(f"CREATE DATABASE {_quoted(name)}")
    return server.dsn(name)


async def copy_database(server: Embedded, source: str, name: str) -> str:
    """Copies a database that nobody is connected to, block by block, and returns the copy's DSN.

    The copy has the same rows in the same places, the same statistics and the same oids, so that statements keep their
    queryids.

    Raises:
        ServerError: somebody is connected to the source, a database of that name exists, or the disk is full.
        ConnectError: the server is gone.
    """
    async with connected(server.dsn(), read_only=False, statement_timeout_s=0) as conn:
        size = await conn.fetchval("SELECT pg_database_size($1)", source)
        # Through the log a small database is copied without a checkpoint; a large one would be written twice.
        strategy = "file_copy" if size > _LARGE_BYTES else "wal_log"
        try:
            await conn.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(source)} STRATEGY {strategy}")
        except asyncpg.PostgresError as e:
            raise ServerError(f"the database {source} can't be copied: {e.message}", hint=e.detail or e.hint) from e
    return server.dsn(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
