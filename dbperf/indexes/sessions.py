"""From a connection string or an exported file to a planner that can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from dbperf.errors import CapabilityError, UsageError
from dbperf.indexes.workload import Workload, checked, workload_of_server
from dbperf.indexes.workload_files import read_workload
from dbperf.postgres import embedded
from dbperf.postgres.connect import connected, mask_dsn
from dbperf.postgres.hypopg_planner import HypopgPlanner
from dbperf.postgres.shadow_catalog import read_catalog
from dbperf.postgres.shadow_database import ShadowDatabase
from dbperf.postgres.shadow_planner import ShadowPlanner
from dbperf.records.base import read_document
from dbperf.records.shadow import Catalog

SETTINGS = {
    "autovacuum": "off",
    "shared_preload_libraries": "",
    "max_locks_per_transaction": "1024",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "shared_buffers": "32MB",
}
"""Of a shadow's server: it is thrown away, and nothing may change its statistics."""


async def read_source(dsn: str | None, file: Path | None, workload: Path | None) -> tuple[Catalog, Workload]:
    """The catalog of a target or of an exported file, with the workload from where it is given.

    Without `workload` an exported file's own statements are taken, or the target's pg_stat_statements.

    Raises:
        UsageError: neither or both of `dsn` and `file`, or no statement to advise on.
        ConnectError: the target can't be reached.
    """
    if (dsn is None) == (file is None):
        raise UsageError("give either --dsn or --shadow", hint="--dsn names a database, --shadow an exported file")
    given = read_workload(workload) if workload else None
    if file is not None:
        catalog = read_document(Catalog, file)
        return catalog, (given or checked(catalog.workload)).of_database(catalog.database)
    assert dsn is not None
    async with connected(dsn) as conn:
        catalog = await read_catalog(conn, source=mask_dsn(dsn))
        if given is None:
            try:
                given = await workload_of_server(conn)
            except CapabilityError as e:
                raise UsageError(f"there is no workload: {e.message}", hint="give one with --workload DIR") from e
    return catalog, given.of_database(catalog.database)


def with_workload(catalog: Catalog, workload: Workload) -> Catalog:
    return msgspec.structs.replace(catalog, workload=workload.statements)


@asynccontextmanager
async def hypopg_planner(dsn: str) -> AsyncIterator[HypopgPlanner]:
    """A planner in a session of the target.

    Raises:
        ConnectError: the target can't be reached.
        CapabilityError: it has no hypopg.
    """
    async with connected(dsn) as conn:
        yield await HypopgPlanner.open(conn)


@asynccontextmanager
async def shadow_planner(catalog: Catalog) -> AsyncIterator[ShadowPlanner]:
    """A planner on a private server of its own, which is gone afterwards.

    Raises:
        ServerError: the server can't be started, or the catalog can't be copied into it.
    """
    server = await asyncio.to_thread(embedded.start, private=True, settings=SETTINGS)
    try:
        shadow = await ShadowDatabase.create(server, catalog)
        planner = await ShadowPlanner.open(shadow)
        try:
            yield planner
        finally:
            await planner.close()
    finally:
        await asyncio.to_thread(server.stop)
