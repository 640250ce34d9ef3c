"""A small application whose statements are known to the unit: asyncpg and SQLAlchemy, every way to run them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from fastapi import APIRouter, FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

SCHEMA = """
CREATE TABLE item (id int PRIMARY KEY, name text, document text);
CREATE TABLE log (id serial PRIMARY KEY, item_id int, ok boolean);
INSERT INTO item SELECT i, 'item ' || i, repeat(md5(i::text), 200) FROM generate_series(1, 60) i;
INSERT INTO log (item_id, ok) SELECT i % 60 + 1, i % 3 = 0 FROM generate_series(1, 600) i;
"""

SLOW = "SELECT ok, (SELECT pg_sleep(0.002)) FROM log WHERE item_id = :item"
"""It sleeps once, not for each row: a sleep takes a millisecond at least."""


def make_app(dsn: str) -> FastAPI:
    """The application; `app.state.line` holds the source line of some statements by name."""
    pool_size = 4
    engine = create_async_engine("postgresql+asyncpg://" + dsn.removeprefix("postgresql://"), pool_size=pool_size)
    sessions = async_sessionmaker(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await asyncpg.create_pool(dsn, min_size=pool_size, max_size=pool_size)
        app.state.release = asyncio.Event()
        app.state.threads = ThreadPoolExecutor(2)
        yield
        app.state.threads.shutdown()
        await app.state.pool.close()
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    router = APIRouter(prefix="/items")

    def pool() -> Any:
        return app.state.pool

    @app.get("/health")
    async def health() -> str:
        await pool().fetchval("SELECT 1")
        return "ok"

    @router.get("/{item_id}/logs")
    async def logs(item_id: int) -> int:
        async with sessions() as s:
            rows = await s.execute(text("SELECT * FROM log WHERE item_id = :item"), {"item": item_id})
            return len(rows.all())

    @app.get("/n-plus-one")
    async def n_plus_one() -> int:
        found = 0
        async with sessions() as s:
            for (item,) in (await s.execute(text("SELECT id FROM item ORDER BY id"))).all():
                rows = await s.execute(text(SLOW), {"item": item})
                found += len(rows.all())
        return found

    @app.get("/commit-per-row")
    async def commit_per_row() -> int:
        async with sessions() as s:
            for item in range(1, 31):
                await s.execute(text("UPDATE item SET name = name || '.' WHERE id = :item"), {"item": item})
                await s.commit()
        return 30

    @app.get("/batches")
    async def batches() -> int:
        async with pool().acquire() as c, c.transaction():
            for start in range(0, 60, 6):
                await c.fetch(
                    "SELECT ok, pg_sleep(0.0001) FROM log WHERE item_id = ANY($1)", [*range(start, start + 6)]
                )
            await c.executemany("UPDATE item SET name = $2 WHERE id = $1", [(i, f"item {i}") for i in range(60)])
            return sum([1 async for _ in c.cursor("SELECT id FROM log ORDER BY id", prefetch=50)])

    @app.get("/wide")
    async def wide() -> int:
        return len(await pool().fetch("SELECT * FROM item"))

    @app.get("/same-twice")
    async def same_twice() -> int:
        for _ in range(2):
            await pool().fetch("SELECT pg_sleep(0.002), count(*) FROM log WHERE item_id = $1", 7)
        return 1

    @app.get("/together")
    async def together() -> int:
        await asyncio.gather(*(pool().fetchval("SELECT pg_sleep(0.2), $1::int", i) for i in range(3)))
        async with asyncio.TaskGroup() as group:
            for i in range(2):
                group.create_task(pool().fetchval("SELECT 10 + $1::int", i))
        return 5

    @app.get("/held")
    async def held() -> int:
        await app.state.release.wait()
        return 1

    def in_thread() -> None:
        asyncio.run_coroutine_threadsafe(pool().fetchval("SELECT 'thread'"), app.state.loop).result()

    @app.get("/threads")
    async def threads() -> int:
        app.state.loop = asyncio.get_running_loop()
        await app.state.loop.run_in_executor(app.state.threads, in_thread)
        await asyncio.to_thread(in_thread)
        return 2

    async def afterwards() -> None:
        await pool().fetchval("SELECT 'background'")

    @app.get("/background")
    async def background() -> Response:
        app.state.task = asyncio.create_task(later())
        return JSONResponse(1, background=BackgroundTask(afterwards))

    async def later() -> None:
        await asyncio.sleep(0.05)
        await pool().fetchval("SELECT 'late'")

    @app.get("/compute")
    async def compute() -> int:
        async with sessions() as s:
            await s.execute(text("SELECT 1"))
            spin(0.3)
            await s.execute(text("SELECT 2"))
        return 1

    @app.get("/raises")
    async def raises() -> None:
        await pool().fetch("SELECT * FROM nowhere")

    @app.get("/streams")
    async def streams(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            for i in range(3):
                await pool().fetchval("SELECT $1::int", i)
                yield b"x" * 1000

        return StreamingResponse(body())

    @app.get("/copies")
    async def copies() -> int:
        async with pool().acquire() as c:
            await c.copy_records_to_table("log", records=[(1, True), (2, False)], columns=["item_id", "ok"])
            statement = await c.prepare("SELECT $1::int")
            await statement.fetchval(1)
            await statement.fetch(2)
        return 1

    @app.get("/run-sync")
    async def run_sync() -> int:
        async with AsyncSession(engine) as s:
            return int(await s.run_sync(sync_part))

    app.include_router(router, prefix="/v1")
    return app


def from_environment() -> FastAPI:
    """The same for a server that is started with a name only."""
    return make_app(os.environ["TRACED_APP_DSN"])


def sync_part(session: Any) -> int:
    """Runs in SQLAlchemy's greenlet: its frame is on no coroutine's stack."""
    return int(session.execute(text("SELECT 42")).scalar())


def spin(seconds: float) -> None:
    """Uses CPU for known seconds, as a synchronous call in a coroutine does."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))
