"""What a run's manifest keeps about its server: version, extensions, size, and the settings that shape performance."""

from __future__ import annotations

import asyncpg

from dbperf.postgres.collect import collector
from dbperf.postgres.dsn import mask_dsn
from dbperf.records.run import Extension, Server


async def server_info(connection: asyncpg.Connection, *, dsn: str, embedded: bool) -> Server:
    """Describes the server behind a connection.

    Args:
        connection: any role can ask; the size is None where the role may not connect to the database it is in.
        dsn: as given by the user; its password is masked in the result.
        embedded: whether it is dbperf's own.
    """
    version = (connection.get_server_version().major,)
    row = await connection.fetchrow(collector("server_info", version))
    assert row is not None
    extensions = await connection.fetch(collector("extensions", version))
    settings = await connection.fetch(collector("settings", version))
    return Server(
        version=row["version"],
        version_num=row["version_num"],
        embedded=embedded,
        database=row["database"],
        dsn=mask_dsn(dsn),
        size_bytes=row["size_bytes"],
        extensions=[Extension(name=r["name"], version=r["version"], schema=r["schema"]) for r in extensions],
        settings={r["name"]: r["value"] for r in settings},
    )
