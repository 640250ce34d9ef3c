"""SQLAlchemy's sync engines, on SQLite: statements, rows, commits, pings, checkouts and autoflush, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool

from dbperf.records.trace import EndpointTrace
from dbperf.trace import hooks
from dbperf.trace.collect import collect
from dbperf.trace.state import RequestTrace, current
from dbperf.trace.stream import Recorder


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    hooks.install()
    engine = create_engine(f"sqlite:///{tmp_path}/x.db", pool_pre_ping=True, poolclass=QueuePool)
    Base.metadata.create_all(engine)
    with Session(engine) as s:
        s.add_all([Item(id=i, name=f"item {i}") for i in range(10)])
        s.commit()
    yield engine
    engine.dispose()
    hooks.uninstall()


class Request:
    """A request around a block of synchronous code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "trace"

    def __enter__(self) -> None:
        self.recorder = Recorder(self.folder)
        self.recorder.start()
        self.trace = RequestTrace(self.recorder, {"method": "GET", "path": "/x"}, 1, 0)
        self.token = current.set(self.trace)

    def __exit__(self, *_: object) -> None:
        current.reset(self.token)
        self.trace.ended_ns = self.trace.finished_ns = self.trace.started_ns + 10**9
        self.recorder.done(self.trace)
        self.recorder.close()

    def endpoint(self) -> EndpointTrace:
        [e] = collect(self.folder).endpoints
        return e


def test_statements_rows_commits_and_chatter(engine: Any, tmp_path: Path) -> None:
    request = Request(tmp_path)
    with request, engine.connect() as c:
        c.execute(text("SELECT * FROM item")).all()
        c.execute(text("UPDATE item SET name = 'x' WHERE id > :low"), {"low": 4})
        c.execute(text("INSERT INTO item VALUES (:id, 'y')"), [{"id": 100}, {"id": 101}, {"id": 102}])
        c.commit()
        with pytest.raises(OperationalError):
            c.execute(text("SELECT * FROM nowhere"))
    e = request.endpoint()
    by_verb = {s.text.split()[0]: s for s in e.statements if "nowhere" not in s.text}
    assert e.statements_per_request.max == 4
    assert by_verb["UPDATE"].rows == 5
    assert (by_verb["INSERT"].calls, by_verb["INSERT"].executions) == (1, 3)
    assert next(s for s in e.statements if "nowhere" in s.text).errors == 1
    assert e.commits_per_request.max == 1
    assert e.rollbacks == 1
    assert (e.checkouts, e.pings) == (1, 1)
    assert all(s.source and "test_trace_sqlalchemy.py" in s.source for s in e.statements)


def test_autoflush(engine: Any, tmp_path: Path) -> None:
    request = Request(tmp_path)
    with request, Session(engine) as s:
        for i in range(8):
            item = s.get(Item, i)
            assert item
            item.name = f"changed {i}"
            s.execute(text("SELECT count(*) FROM item")).scalar()
    e = request.endpoint()
    [f] = [f for f in e.findings if f.rule_id == "autoflush_storm"]
    assert f.per_request
    assert f.per_request.max == 8
    assert sum("UPDATE" in s.text for s in e.statements) == 1


def test_thread_pools_inherit_the_request(engine: Any, tmp_path: Path) -> None:
    def work() -> None:
        with engine.connect() as c:
            c.execute(text("SELECT 1")).scalar()

    request = Request(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        with request:
            for future in [pool.submit(work) for _ in range(4)]:
                future.result()
        pool.submit(work).result()  # of no request
    assert request.endpoint().statements_per_request.max == 4


def test_off_means_off() -> None:
    from sqlalchemy.engine.default import DefaultDialect

    before = DefaultDialect.__dict__["do_commit"]
    hooks.install()
    hooks.install()
    assert DefaultDialect.__dict__["do_commit"] is not before
    hooks.uninstall()
    assert DefaultDialect.__dict__["do_commit"] is before
