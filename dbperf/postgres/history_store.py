"""The history of figures in a team's PostgreSQL: schema `dbperf_history`, made by the first run that is added.

Nothing here runs unless a person asked for writing; reading changes nothing.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Any

import asyncpg
import msgspec

from dbperf import resources
from dbperf.errors import RecordError, ServerError
from dbperf.postgres.connect import connected
from dbperf.postgres.dsn import resolve
from dbperf.records.comparison import Conditions
from dbperf.records.history import StoredFigure, StoredRun

SCHEMA = "dbperf_history"
VERSION = 1
_LOCK = 0x64627066  # one at a time makes the schema


class PostgresHistory:
    """A history in PostgreSQL."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.name = f"{resolve(dsn).where}, schema {SCHEMA}"

    def exists(self) -> bool:
        """Whether the schema is there.

        Raises:
            ConnectError: no connection.
        """
        return asyncio.run(self._exists())

    def add(self, runs: list[StoredRun]) -> int:
        """Makes the schema where it is missing, adds runs, all or none; those that are there already are left alone.
        Returns how many are new.

        Raises:
            ConnectError, ServerError: no connection, or this role may not.
            RecordError: the schema is a newer dbperf's.
        """
        return asyncio.run(self._add(runs))

    def runs(self) -> list[StoredRun]:
        """All runs, oldest first.

        Raises:
            ConnectError, ServerError: no connection, or this role may not.
            RecordError: there is no history, or it is a newer dbperf's.
        """
        return asyncio.run(self._runs())

    async def _exists(self) -> bool:
        async with connected(self.dsn) as connection:
            return await _version(connection) is not None

    async def _add(self, runs: list[StoredRun]) -> int:
        added = 0
        async with connected(self.dsn, read_only=False) as connection:
            try:
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                    if await self._checked(connection) is None:
                        await connection.execute(resources.sql("history/postgresql.sql"))
                    for run in runs:
                        added += await _insert(connection, run)
            except asyncpg.PostgresError as e:
                raise self._explained(e) from e
        return added

    async def _runs(self) -> list[StoredRun]:
        async with connected(self.dsn) as connection:
            try:
                if await self._checked(connection) is None:
                    raise RecordError(f"there is no history in {self.name}", hint="dbperf history add --apply makes it")
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    figures = await connection.fetch(
                        "SELECT run_id, subject, stage, metric, unit, direction, value, ci_low, ci_high, "
                        "conditions::text AS conditions FROM dbperf_history.figure ORDER BY subject, stage, metric"
                    )
                    found = await connection.fetch(
                        "SELECT run_id, source, kind, measured_at, git_revision FROM dbperf_history.run "
                        "ORDER BY measured_at, run_id"
                    )
            except asyncpg.PostgresError as e:
                raise self._explained(e) from e
        of_run: dict[str, list[StoredFigure]] = {}
        for row in figures:
            of_run.setdefault(row["run_id"], []).append(self._figure(dict(row)))
        return [StoredRun(**dict(row), figures=of_run.get(row["run_id"], [])) for row in found]

    def _figure(self, row: dict[str, Any]) -> StoredFigure:
        del row["run_id"]
        try:
            row["conditions"] = msgspec.json.decode(row["conditions"], type=Conditions)
            return msgspec.convert({**row, "stage": row["stage"] or None}, StoredFigure)
        except msgspec.MsgspecError as e:
            raise RecordError(f"{self.name}: {row['subject']} {row['metric']} can't be read: {e}") from e

    async def _checked(self, connection: asyncpg.Connection) -> int | None:
        version = await _version(connection)
        if version is not None and version > VERSION:
            raise RecordError(
                f"{self.name} was written by a newer dbperf (version {version}, this one reads up to {VERSION})",
                hint="upgrade dbperf",
            )
        return version

    def _explained(self, error: asyncpg.PostgresError) -> ServerError:
        hint = None
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            hint = (
                f"the first one to add needs CREATE on the database; then GRANT USAGE ON SCHEMA {SCHEMA} and "
                f"SELECT, INSERT ON ALL TABLES IN SCHEMA {SCHEMA} to the others"
            )
        return ServerError(f"{self.name}: {error}", hint=hint)


async def _version(connection: asyncpg.Connection) -> int | None:
    if await connection.fetchval("SELECT to_regclass('dbperf_history.schema_version')") is None:
        return None
    found: int | None = await connection.fetchval("SELECT max(version) FROM dbperf_history.schema_version")
    return found


async def _insert(connection: asyncpg.Connection, run: StoredRun) -> int:
    new = await connection.fetchval(
        "INSERT INTO dbperf_history.run (run_id, source, kind, measured_at, git_revision) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING RETURNING 1",
        run.run_id, run.source, run.kind, run.measured_at.astimezone(UTC), run.git_revision,
    )  # fmt: skip
    if new is None:
        return 0
    await connection.executemany(
        "INSERT INTO dbperf_history.figure VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb)",
        [
            (run.run_id, f.subject, f.stage or "", f.metric, f.unit, f.direction, f.value, f.ci_low, f.ci_high,
             msgspec.json.encode(f.conditions).decode())
            for f in run.figures
        ],
    )  # fmt: skip
    return 1
