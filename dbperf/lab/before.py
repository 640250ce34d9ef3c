"""Before the load: the database, its data, the API."""

from __future__ import annotations

import shutil
from typing import Any

import asyncpg

from dbperf.lab.context import Lab
from dbperf.lab.target import reference_api, user_api
from dbperf.phase3.seed import seed
from dbperf.postgres import embedded
from dbperf.postgres.capabilities import check, demand
from dbperf.postgres.connect import connected
from dbperf.postgres.create import copy_database, create_database
from dbperf.postgres.dsn import mask_dsn
from dbperf.postgres.server_info import server_info
from dbperf.records.run import Server, Target
from dbperf.units import format_bytes, format_count

SEED_S = {"smoke": 1.0, "spec": 4.0, "large": 150.0}
"""About how long seeding takes on two cores, for the progress line."""
APPLICATION = "dbperf"
DATABASE = "phase3"
ROOM = 4
"""Sizes of the reference tables that must be free on the disk: the copy, its indexes, and what building them takes."""


async def database(lab: Lab) -> None:
    title = "Start PostgreSQL" if lab.options.is_reference else "Look at the database"
    if lab.options.dsn is None and not lab.options.is_reference:
        lab.stages.skip("database", title, "no --dsn: only the API is measured")
        return
    with lab.stages.stage("database", title, 2.0) as stage:
        if lab.dsn is None:
            lab.server = lab.stack.enter_context(embedded.start(private=True))
            lab.dsn = await create_database(lab.server, DATABASE)
        conn = await _connect(lab, lab.dsn)
        capabilities = await check(conn)
        demand(capabilities)
        for one in capabilities:
            if one.status == "degraded":
                lab.stages.note(
                    f"{one.feature}: {one.found}" + (f" (fix: {one.fix.removeprefix('-- ')})" if one.fix else "")
                )
        info = await _server_info(lab, lab.dsn)
        stage.detail = f"PostgreSQL {info.version}"


async def seed_reference(lab: Lab) -> None:
    title = "Fill the reference tables"
    if not lab.options.is_reference:
        lab.stages.skip("seed", title, "your own data is used")
        return
    assert lab.dsn is not None
    with lab.stages.stage("seed", f"{title} ({lab.options.scale})", SEED_S[lab.options.scale]) as stage:
        seeded = await seed(
            lab.dsn,
            lab.options.scale,
            seed=lab.options.seed,
            on_progress=lambda table, done, of: stage.update(
                f"{format_count(done)} of {format_count(of)} rows of {table}"
            ),
        )
        await _keep_copy(lab, lab.dsn)
        # Once more: seeding brought pgvector and the data.
        info = await _server_info(lab, lab.dsn)
        rows = seeded.rows
        stage.detail = (
            f"{format_count(rows['case_bank'])} cases, {format_count(rows['execution_log'])} logs, "
            f"{format_bytes(info.size_bytes)}"
        )


async def _connect(lab: Lab, dsn: str) -> asyncpg.Connection[Any]:
    conn: asyncpg.Connection[Any] = await lab.stack.enter_async_context(connected(dsn, application_name=APPLICATION))
    lab.conn = conn
    return conn


async def _keep_copy(lab: Lab, dsn: str) -> None:
    """Keeps the data as they are now for the load after: the one before writes to them.

    Both begin vacuumed, so that autovacuum has the same to do in both.
    """
    if lab.server is None or lab.conn is None or not lab.options.causes:
        return
    async with connected(dsn, read_only=False, statement_timeout_s=0, application_name=APPLICATION) as conn:
        await conn.execute("VACUUM")
        size = await conn.fetchval("SELECT pg_database_size(current_database())")
    free = shutil.disk_usage(lab.server.data_dir).free
    if free < ROOM * size:
        lab.stages.note(
            f"no copy of the data is kept, and the index advice will not be proved: the disk has {format_bytes(free)} "
            f"free, and {format_bytes(ROOM * size)} may be needed"
        )
        return
    await lab.conn.close()  # a database that is in use can't be copied
    lab.fresh_dsn = await copy_database(lab.server, DATABASE, f"{DATABASE}_fresh")
    await _connect(lab, dsn)


async def target(lab: Lab) -> None:
    options = lab.options
    if options.is_reference:
        assert lab.dsn is not None
        with lab.stages.stage("target", "Start the Phase 3 API", 3.0) as stage:
            lab.api = reference_api(lab.dsn, options.implementation, lab.suite, lab.stack, trace_dir=lab.trace_dir)
            stage.detail = lab.api.url
            started = Target(url=lab.api.url, origin="reference", scale=options.scale, workers=1)
    elif options.url is not None:
        with lab.stages.stage("target", "Ask the API for its routes", 1.0) as stage:
            lab.api = await user_api(options, lab.suite)
            stage.detail = f"{len(lab.api.suite.endpoints)} endpoints to request"
            started = Target(url=options.url, origin="user")
    else:
        lab.stages.skip("target", "Ask the API for its routes", "no --url: the database is only watched")
        return
    lab.directory.update(target=started)


async def _server_info(lab: Lab, dsn: str) -> Server:
    assert lab.conn is not None
    info = await server_info(lab.conn, dsn=mask_dsn(dsn), embedded=lab.options.is_reference)
    lab.directory.update(server=info)
    return info
