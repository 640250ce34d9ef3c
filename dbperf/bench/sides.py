"""The two sides of an interleaved measurement: servers of the reference target, or APIs that run already.

Each server of the reference target has a database of its own, which is made anew from the side's template whenever the
server is started anew: what requests wrote is gone on both sides alike, and where a process or a file happens to lie
in memory does not stay the same for the whole measurement.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import asyncpg

from dbperf.bench.revision import Code
from dbperf.errors import DbperfError, TargetError
from dbperf.phase3.launch import RunningTarget, new_key, start_target
from dbperf.phase3.service import ImplementationName
from dbperf.postgres.connect import connected
from dbperf.postgres.embedded import Embedded
from dbperf.processes import Child
from dbperf.records.interleaved import TurnsSide

_SEED_S = 900
# Runs with the side's own code, so that its schema and its data are measured too.
_SEED = """
import asyncio, json, os, sys
import dbperf
from dbperf.phase3.seed import seed
done = asyncio.run(seed(os.environ["DBPERF_SEED_DSN"], os.environ["DBPERF_SEED_SCALE"]))
json.dump({"code": dbperf.__file__, "rows": done.rows}, open(os.environ["DBPERF_SEED_OUT"], "w"))
"""
_ESTIMATES = """
SELECT n.nspname || '.' || c.relname AS name, c.reltuples::bigint AS rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.reltuples >= 0
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
"""


class Turn(Protocol):
    """A side as the measurement sees it."""

    record: TurnsSide

    @property
    def url(self) -> str: ...

    @property
    def headers(self) -> dict[str, str]: ...

    @property
    def restarts(self) -> bool:
        """Whether it can be started anew."""

    def fresh(self) -> None:
        """Starts it (anew), with its data as they were at first.

        Raises:
            DbperfError: it does not start.
        """

    def died(self) -> str | None:
        """How it ended; None while it runs."""

    def stop(self) -> None:
        """Ends what was started; does nothing the second time."""


class Template:
    """A database to make others from. Its statistics are made once, so that all copies get the same plans."""

    def __init__(self, server: Embedded, name: str, code: Path | None, rows: dict[str, int]) -> None:
        self.server = server
        self.name = name
        self.code = code
        """The folder with the code that seeded it; None: the running dbperf's."""
        self.rows = rows

    @classmethod
    def seeded(cls, server: Embedded, name: str, code: Path | None, scale: str) -> Template:
        """Reference data, by the code of one side.

        Raises:
            TargetError: seeding failed, or Python does not import that code.
        """
        asyncio.run(_admin(server, f'CREATE DATABASE "{name}"'))
        rows = _seed(server.dsn(name), code, scale)
        asyncio.run(_prepare(server.dsn(name), ()))
        return cls(server, name, code, rows)

    def with_indexes(self, name: str, statements: Sequence[str]) -> Template:
        """A copy with more indexes.

        Raises:
            DbperfError: a statement failed.
        """
        asyncio.run(_prepare(self.copy(name), statements))
        return Template(self.server, name, self.code, self.rows)

    def copy(self, name: str) -> str:
        """A database made (anew) from it; returns its DSN."""
        drop, create = (
            f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
            f'CREATE DATABASE "{name}" TEMPLATE "{self.name}"',
        )
        asyncio.run(_admin(self.server, drop, create))
        return self.server.dsn(name)


def _seed(dsn: str, folder: Path | None, scale: str) -> dict[str, int]:
    """Fills a database in a process that imports dbperf from a folder; returns the rows of each table."""
    scratch = Path(tempfile.mkdtemp(prefix="dbperf-seed-"))
    out = scratch / "seeded.json"
    given = {"DBPERF_SEED_DSN": dsn, "DBPERF_SEED_SCALE": scale, "DBPERF_SEED_OUT": str(out)}
    environment = {**os.environ, **code_path(folder), **given}
    try:
        with Child.start(
            [sys.executable, "-P", "-c", _SEED], env=environment, log=scratch / "log", name="seeding"
        ) as child:
            code = child.wait(_SEED_S)
            if code != 0:
                how = "took too long" if code is None else f"ended with {code}"
                where = folder or "the installed dbperf"
                raise TargetError(f"seeding with the code of {where} {how}: {child.log_tail(1) or 'no message'}")
        found = json.loads(out.read_text())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if folder is not None and not Path(found["code"]).resolve().is_relative_to(folder.resolve()):
        raise TargetError(
            f"Python does not import the code of {folder}: {found['code']} comes first",
            hint="look for .pth files that put another dbperf first",
        )
    rows: dict[str, int] = found["rows"]
    return rows


class ReferenceSide:
    """A server of the reference target over a database of its own."""

    restarts = True

    def __init__(
        self, template: Template, name: str, record: TurnsSide, implementation: ImplementationName, *, log: Path
    ) -> None:
        self.record = record
        self._template = template
        self._name = name
        self._implementation = implementation
        self._log = log
        self._key = new_key()
        self._target: RunningTarget | None = None

    @property
    def url(self) -> str:
        assert self._target is not None
        return self._target.url

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self._key}

    def fresh(self) -> None:
        self.stop()
        dsn = self._template.copy(self._name)
        self._target = start_target(
            dsn, self._implementation, api_key=self._key, log=self._log, environment=code_path(self._template.code)
        )

    def died(self) -> str | None:
        code = self._target.poll() if self._target else None
        return None if code is None else f"its process ended with {code} (its messages are in {self._log})"

    def stop(self) -> None:
        if self._target is not None:
            self._target.stop()
            self._target = None


class DatabaseSide(ReferenceSide):
    """A server of the reference target over a user's database, which is left as it is."""

    def __init__(self, dsn: str, record: TurnsSide, implementation: ImplementationName, *, log: Path) -> None:
        self.record = record
        self._dsn = dsn
        self._implementation = implementation
        self._log = log
        self._key = new_key()
        self._target = None

    def fresh(self) -> None:
        self.stop()
        self._target = start_target(self._dsn, self._implementation, api_key=self._key, log=self._log)


class UrlSide:
    """An API that runs already."""

    restarts = False

    def __init__(self, url: str, api_key: str | None, record: TurnsSide) -> None:
        self.url = url.rstrip("/")
        self.headers = {"X-API-Key": api_key} if api_key else {}
        self.record = record

    def fresh(self) -> None:
        pass

    def died(self) -> str | None:
        return None

    def stop(self) -> None:
        pass


def code_path(folder: Path | None) -> dict[str, str]:
    """Variables with which Python imports dbperf from a folder; none for the one that runs."""
    return {} if folder is None else {"PYTHONPATH": str(folder)}


def code_record(code: Code, what: str) -> TurnsSide:
    """What a side with this code is called."""
    return TurnsSide(what=what, git_revision=code.revision + ("-dirty" if code.dirty else ""))


async def estimated_rows(dsn: str) -> dict[str, int]:
    """How many rows each analysed table holds, as the planner believes.

    Raises:
        ConnectError: no connection.
    """
    async with connected(dsn) as connection:
        return {r["name"]: r["rows"] for r in await connection.fetch(_ESTIMATES)}


def data_differ(a: TurnsSide, b: TurnsSide, *, slack: float = 0.05) -> str | None:
    """How the two sides' data differ in words: a table that only one has, or one with more rows by a factor."""
    if a.rows is None or b.rows is None:
        return None
    for table in sorted({*a.rows, *b.rows}):
        one, other = a.rows.get(table), b.rows.get(table)
        if one is None or other is None:
            return f"only {'B' if one is None else 'A'} has the table {table}"
        if abs(one - other) > slack * max(one, other) and max(one, other) > 100:
            return f"{table} holds {one:,} rows against {other:,}"
    return None


async def _admin(server: Embedded, *statements: str) -> None:
    async with connected(server.dsn(), read_only=False, statement_timeout_s=0) as connection:
        for statement in statements:
            await connection.execute(statement)


async def _prepare(dsn: str, statements: Sequence[str]) -> None:
    async with connected(dsn, read_only=False, statement_timeout_s=0) as connection:
        for statement in statements:
            try:
                await connection.execute(statement)
            except asyncpg.PostgresError as e:
                raise DbperfError(f"an index statement failed: {e}: {' '.join(statement.split())[:120]}") from e
        await connection.execute("VACUUM (ANALYZE)")
