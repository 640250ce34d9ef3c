"""The API that benchmarks measure: the user's, or the reference target over a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dbperf.errors import UsageError
from dbperf.phase3.launch import start_target
from dbperf.phase3.scales import SCALES
from dbperf.phase3.seed import seed
from dbperf.postgres import embedded
from dbperf.postgres.connect import connected
from dbperf.postgres.create import create_database
from dbperf.records.base import Record
from dbperf.records.run import Target


class BenchTarget(Record, frozen=True, kw_only=True):
    """Where to send requests."""

    url: str
    headers: dict[str, str]
    dsn: str | None
    record: Target
    database: str | None = None


@contextmanager
def bench_target(
    *, url: str | None, api_key: str | None, dsn: str | None, scale: str, implementation: Any
) -> Iterator[BenchTarget]:
    """The user's API at `url`, else the reference target with data of this scale; it ends with the block.

    Raises:
        UsageError: there is no such scale.
        DbperfError: the reference target could not be started.
    """
    if url is not None:
        headers = {"X-API-Key": api_key} if api_key else {}
        yield BenchTarget(url=url, headers=headers, dsn=dsn, record=Target(url=url, origin="user"))
        return
    if scale not in SCALES:
        raise UsageError(f"there is no scale {scale!r}", hint=f"valid: {', '.join(SCALES)}")
    with ExitStack() as stack:
        server = stack.enter_context(embedded.start(private=True))
        own = asyncio.run(_seeded(server, scale))
        target = stack.enter_context(start_target(own, implementation))
        yield BenchTarget(
            url=target.url, headers={"X-API-Key": target.api_key}, dsn=own, database="PostgreSQL 18",
            record=Target(url=target.url, origin="reference", scale=scale, workers=1),
        )  # fmt: skip


async def _seeded(server: Any, scale: str) -> str:
    dsn = await create_database(server, "bench")
    await seed(dsn, scale)
    return dsn


def one_value(dsn: str, sql: str) -> Any:
    """The first column of the first row."""

    async def fetch() -> Any:
        async with connected(dsn) as conn:
            return await conn.fetchval(sql)

    return asyncio.run(fetch())
