"""Whichever way a statement is awaited, its line is the one where the application wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbperf.trace import hooks
from dbperf.trace.state import AUTOFLUSH, COMMIT, STATEMENT, RequestTrace, current, texts
from tests.conftest import Database

LINES = Path(__file__).read_text().splitlines()


class Base(DeclarativeBase):
    pass


class Leaf(Base):
    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
async def engine(db: Database) -> AsyncIterator[AsyncEngine]:
    hooks.install()
    engine = create_async_engine("postgresql+asyncpg://" + db.dsn.removeprefix("postgresql://"))
    async with engine.begin() as c:
        await c.run_sync(Base.metadata.create_all)
    yield engine
    async with engine.begin() as c:
        await c.run_sync(Base.metadata.drop_all)
    await engine.dispose()
    hooks.uninstall()


async def lines_of(work: Callable[[], Awaitable[Any]], *kinds: int) -> list[tuple[str, str]]:
    """For each event of these kinds its statement, and the line of this file that it was charged to."""
    trace = RequestTrace(None, {"method": "GET", "path": "/"}, 1, 0)
    token = current.set(trace)
    try:
        await work()
    finally:
        current.reset(token)
    found = []
    for event in trace.events:
        if event[0] in kinds:
            file, line, _ = texts.sources[event[2]]
            assert file == __file__
            found.append((texts.texts[event[1]].text if event[1] >= 0 else "", LINES[line - 1].strip()))
    return found


async def test_engine(engine: AsyncEngine) -> None:
    async def helper(c: Any) -> Any:
        return await c.execute(text("SELECT 'helper'"))

    async def work() -> None:
        async with engine.connect() as c, engine.connect() as d:
            await c.execute(text("SELECT 'awaited'"))
            later = c.execute(text("SELECT 'awaited later'"))
            await later
            await c.scalar(text("SELECT 'nested'"))
            await asyncio.wait_for(c.execute(text("SELECT 'wait_for'")), 60)
            await asyncio.gather(
                c.execute(text("SELECT 'gather'")),
                d.execute(text("SELECT 'gather, second'")),
            )
            await asyncio.gather(helper(c), helper(d))
            async with asyncio.TaskGroup() as group:
                group.create_task(c.execute(text("SELECT 'group'")))
                group.create_task(helper(d))

    found = await lines_of(work, STATEMENT)
    assert len(found) == 10
    assert [(sql, line) for sql, line in found if f'"{sql}"' not in line] == []


async def test_session(engine: AsyncEngine) -> None:
    def synchronous(session: Any) -> None:
        session.execute(text("SELECT 'run_sync'"))

    async def work() -> None:
        async with AsyncSession(engine) as s:
            await s.execute(text("SELECT 'execute'"))
            await s.scalars(text("SELECT 'scalars'"))
            await s.run_sync(synchronous)
            s.add(Leaf(id=1))
            await s.execute(text("SELECT 'flushes'"))
            await asyncio.gather(s.commit())

    found = await lines_of(work, STATEMENT, AUTOFLUSH, COMMIT)
    flushes = """await s.execute(text("SELECT 'flushes'"))"""
    assert [line for sql, line in found if sql.startswith("INSERT") or not sql] == [flushes, flushes]
    assert [line for sql, line in found if sql.startswith("COMMIT")] == ["await asyncio.gather(s.commit())"]
    selects = [(sql, line) for sql, line in found if sql.startswith("SELECT")]
    assert len(selects) == 4
    assert [(sql, line) for sql, line in selects if f'"{sql}"' not in line] == []


async def test_pool(db: Database) -> None:
    hooks.install()
    try:
        async with asyncpg.create_pool(db.dsn, min_size=1, max_size=2) as pool:

            async def work() -> None:
                await pool.fetch("SELECT 'awaited'")
                await asyncio.gather(
                    pool.fetch("SELECT 'gather'"),
                    pool.fetchval("SELECT 'gather, second'"),
                )
                async with pool.acquire() as c:
                    await c.fetch("SELECT 'connection'")
                    await asyncio.gather(c.fetch("SELECT 'connection, gather'"))

            found = await lines_of(work, STATEMENT)
    finally:
        hooks.uninstall()
    assert len(found) == 5
    assert [(sql, line) for sql, line in found if f'"{sql}"' not in line] == []
