"""Fills a database with the reference target's tables. What is there already, and is not ours, is left alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import numpy as np
from pgvector import Vector

from dbperf.errors import CapabilityError, ServerError
from dbperf.phase3 import generate, texts
from dbperf.phase3.embedding import DIMENSIONS, FloatArray
from dbperf.phase3.scales import Scale, case_id, scale_named
from dbperf.postgres.connect import connected
from dbperf.records.base import Record
from dbperf.resources import sql

Progress = Callable[[str, int, int], None]
"""Called with a table's name, rows written and rows in total."""
Row = tuple[Any, ...]

DATASET = 1
"""Raised when the same seed number would give other data."""
TABLES = ("case_bank", "execution_log", "case_bank_archive", "taxonomy_node")
_MARK = "dbperf reference data "
_CHUNK = 2_000
_LOCK = 0x64627033  # "dbp3"


class Mark(Record, frozen=True, kw_only=True):
    """The comment on case_bank by which dbperf knows its own data."""

    dataset: int
    scale: str
    seed: int
    reference: datetime

    def same_data(self, other: Mark) -> bool:
        """Whether both give the same rows, but for when they happened."""
        return (self.dataset, self.scale, self.seed) == (other.dataset, other.scale, other.seed)


class Seeded(Record, frozen=True, kw_only=True):
    """What a database holds after seeding."""

    scale: str
    seed: int
    reference: datetime
    """All timestamps lie in the 180 days before it."""
    rows: dict[str, int]
    elapsed_s: float
    reused: bool
    """The same data was there already, unchanged."""


async def seed(
    dsn: str,
    scale: str,
    *,
    seed: int = 1,
    reference: datetime | None = None,
    reuse: bool = True,
    on_progress: Progress | None = None,
) -> Seeded:
    """Creates the tables of sql/phase3/schema.sql and fills them, in one transaction, then runs ANALYZE.

    The same scale, seed and reference give the same rows. Tables that dbperf seeded before are replaced, or kept
    where they hold the same data unchanged and `reuse` allows it.

    Args:
        scale: smoke, spec or large.
        seed: fixes everything that is random.
        reference: the end of the 180 days; the start of today (UTC) by default, because "inactive" depends on now().
            By default, data whose reference is a little older (`Scale.keep_days`) is reused too.

    Raises:
        UsageError: there is no such scale.
        ConnectError: no connection.
        CapabilityError: pgvector is not installed, or may not be created, or nothing may be created.
        ServerError: a table of that name exists that dbperf did not make.
    """
    started = time.monotonic()
    wanted = scale_named(scale)
    if reference is not None:
        oldest = reference
    else:
        reference = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        oldest = reference - timedelta(days=wanted.keep_days)
    mark = Mark(dataset=DATASET, scale=scale, seed=seed, reference=reference)
    rows = _rows(wanted)
    async with connected(
        dsn, read_only=False, statement_timeout_s=0, lock_timeout_s=0, application_name="dbperf-seed"
    ) as connection:
        try:
            # Two commands that seed the same database at once: the second waits, and finds the first one's data.
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute("SET lock_timeout = '10s'")
            there = await _mark(connection)
            reused = False
            if reuse and there is not None and there.same_data(mark) and oldest <= there.reference <= reference:
                reused = await _pristine(connection, rows)
            if reused and there is not None:
                mark = there
            else:
                await _fill(connection, wanted, mark, replace=there is not None, on_progress=on_progress)
        except asyncpg.InsufficientPrivilegeError as e:
            raise CapabilityError(
                f"the reference tables can't be created: {e}",
                hint="connect as the database's owner, or GRANT CREATE ON SCHEMA public",
            ) from e
        except asyncpg.LockNotAvailableError as e:
            raise ServerError(
                "the reference tables are in use by another session", hint="stop what uses them (dbperf target down)"
            ) from e
    return Seeded(
        scale=scale, seed=seed, reference=mark.reference, rows=rows, elapsed_s=time.monotonic() - started, reused=reused
    )


async def holds(dsn: str, scale: str, seed: int) -> bool:
    """Whether a database holds data of that scale and seed, used or not.

    Raises:
        ConnectError: no connection.
        ServerError: a table of that name exists that dbperf did not make.
    """
    async with connected(dsn, application_name="dbperf-seed") as connection:
        there = await _mark(connection)
    return there is not None and there.same_data(
        Mark(dataset=DATASET, scale=scale, seed=seed, reference=there.reference)
    )


async def as_seeded(dsn: str, scale: str, seed: int) -> bool:
    """Whether a database holds data of that scale and seed, unchanged since they were seeded.

    Raises:
        ConnectError: no connection.
        ServerError: a table of that name exists that dbperf did not make.
    """
    if not await holds(dsn, scale, seed):
        return False
    async with connected(dsn, application_name="dbperf-seed") as connection:
        return await _pristine(connection, _rows(scale_named(scale)))


def _rows(scale: Scale) -> dict[str, int]:
    return {
        "case_bank": scale.cases,
        "execution_log": scale.logs,
        "case_bank_archive": scale.archive,
        "taxonomy_node": len(texts.taxonomy()),
    }


async def _mark(connection: asyncpg.Connection[Any]) -> Mark | None:
    """dbperf's mark, or None where none of the tables exists.

    Raises:
        ServerError: one exists that is not ours.
    """
    for table in TABLES:
        if await connection.fetchval("SELECT to_regclass($1)", table) is None:
            continue
        comment = await connection.fetchval("SELECT obj_description(to_regclass($1), 'pg_class')", table) or ""
        if not comment.startswith(_MARK):
            raise ServerError(
                f"the database already has a table {table} that dbperf did not make; it stays as it is",
                hint="name a database of its own for the reference target (createdb phase3)",
            )
        if table == "case_bank":
            try:
                return msgspec.json.decode(comment.removeprefix(_MARK), type=Mark)
            except msgspec.DecodeError:
                return Mark(dataset=0, scale="", seed=0, reference=datetime.min.replace(tzinfo=UTC))  # to be replaced
    return None


async def _pristine(connection: asyncpg.Connection[Any], rows: dict[str, int]) -> bool:
    """Whether nothing was written since seeding: each update raises a case's version."""
    counts = {t: await connection.fetchval(f"SELECT count(*) FROM {t}") for t in TABLES}  # noqa: S608 - constants
    changed = await connection.fetchval("SELECT count(*) FROM case_bank WHERE version > 1")
    # Rows swapped for others leave the counts alone, but take numbers from the sequences.
    last_log = await connection.fetchval("SELECT max(log_id) FROM execution_log")
    last_archive = await connection.fetchval("SELECT max(archive_id) FROM case_bank_archive")
    same = (last_log, last_archive) == (rows["execution_log"], rows["case_bank_archive"])
    return counts == rows and not changed and same


async def _fill(
    connection: asyncpg.Connection[Any], scale: Scale, mark: Mark, *, replace: bool, on_progress: Progress | None
) -> None:
    await _create_extension(connection)
    async with connection.transaction():
        if replace:
            await connection.execute(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
        await connection.execute(sql("phase3/schema.sql"))
        # Checked once for all rows at the end instead of once per row.
        await connection.execute("ALTER TABLE execution_log DROP CONSTRAINT execution_log_case_id_fkey")
        await _set_codecs(connection)
        writer = _Writer(connection, on_progress)
        cases = generate.cases(scale, mark.seed)
        uses = generate.uses(cases, mark.seed)
        days = generate.calendar(mark.seed, mark.reference)
        await writer.copy("case_bank", _CASE_COLUMNS, _case_rows(cases, uses, days, mark.seed), scale.cases)
        await writer.copy("execution_log", _LOG_COLUMNS, _log_rows(cases, uses, days, mark.seed), scale.logs)
        await writer.copy(
            "case_bank_archive", _ARCHIVE_COLUMNS, _archive_rows(cases, uses, days, mark.seed), scale.archive
        )
        nodes = texts.taxonomy()
        await writer.copy("taxonomy_node", ("version", "path", "parent", "name"), iter(nodes), len(nodes))
        await connection.execute(
            "ALTER TABLE execution_log ADD CONSTRAINT execution_log_case_id_fkey "
            "FOREIGN KEY (case_id) REFERENCES case_bank"
        )
        await connection.execute("SELECT setval(pg_get_serial_sequence('execution_log', 'log_id'), $1)", scale.logs)
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('case_bank_archive', 'archive_id'), $1)", scale.archive
        )
        for table in TABLES:
            text = (_MARK + msgspec.json.encode(mark).decode()).replace("'", "''")
            await connection.execute(f"COMMENT ON TABLE {table} IS '{text}'")
    await connection.execute(f"ANALYZE {', '.join(TABLES)}")


async def _create_extension(connection: asyncpg.Connection[Any]) -> None:
    if await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'"):
        return
    if not await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
        major = connection.get_server_version().major
        raise CapabilityError(
            "the reference target needs pgvector, and this server does not have it",
            hint=f"install it (Debian, Ubuntu: postgresql-{major}-pgvector), or leave --dsn out",
        )
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except asyncpg.InsufficientPrivilegeError as e:
        raise CapabilityError(
            "the reference target needs pgvector, and this user may not create it",
            hint="have a superuser run in this database: CREATE EXTENSION vector;",
        ) from e


async def _set_codecs(connection: asyncpg.Connection[Any]) -> None:
    schema = await connection.fetchval(
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector'"
    )
    # register_vector would do the same for three types more, of which old versions of pgvector have none.
    await connection.set_type_codec(
        "vector", schema=schema, format="binary", encoder=_vector_bytes, decoder=Vector.from_binary
    )
    # Microseconds go out as they are: building a datetime per row would double the time of 10 million rows.
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=lambda us: (us,), decoder=lambda us: us[0]
    )


_VECTOR_HEADER = DIMENSIONS.to_bytes(2, "big") + b"\0\0"


def _vector_bytes(vector: FloatArray) -> bytes:
    """pgvector's binary form: dimensions and a zero as 2-byte integers, then 4-byte floats, big-endian."""
    body: bytes = vector.astype(">f4").tobytes()
    return _VECTOR_HEADER + body


class _Writer:
    def __init__(self, connection: asyncpg.Connection[Any], on_progress: Progress | None) -> None:
        self._connection = connection
        self._on_progress = on_progress

    async def copy(self, table: str, columns: tuple[str, ...], rows: Iterator[Row], total: int) -> None:
        await self._connection.copy_records_to_table(
            table, records=self._counted(table, rows, total), columns=list(columns), timeout=None
        )

    def _counted(self, table: str, rows: Iterator[Row], total: int) -> Iterator[Row]:
        for done, row in enumerate(rows, 1):
            yield row
            if self._on_progress and (done % 20_000 == 0 or done == total):
                self._on_progress(table, done, total)


_CASE_COLUMNS = (
    "case_id", "query", "response_text", "category_path", "query_vector", "quality_score", "usage_count",
    "success_rate", "status", "updated_by", "created_at", "updated_at", "last_used_at",
)  # fmt: skip


def _case_rows(cases: generate.Cases, uses: generate.Uses, days: generate.Calendar, seed: int) -> Iterator[Row]:
    created = days.at(cases.birth)
    used = np.where(np.isnan(uses.last), generate.NO_TIME, days.at(np.nan_to_num(uses.last)) + 900_000)
    for start in range(0, cases.status.size, _CHUNK):
        stop = min(start + _CHUNK, cases.status.size)
        text = generate.case_texts(cases, seed, start, stop)
        for i in range(start, stop):
            rate, last = float(cases.success_rate[i]), int(used[i])
            yield (
                case_id(i),
                text.query[i - start],
                text.response[i - start],
                text.category[i - start],
                None if cases.no_vector[i] else text.vectors[i - start],
                float(cases.quality[i]),
                int(cases.usage_count[i]),
                None if math.isnan(rate) else rate,
                generate.STATUSES[cases.status[i]],
                _EDITORS[int(cases.choices[i, 9]) % len(_EDITORS)],
                int(created[i]),
                max(int(created[i]), last),
                None if last == generate.NO_TIME else last,
            )


_EDITORS = ("importer", "reflection-job", "a.kim", "j.novak", "m.okafor", "s.lindqvist", None)
_ARCHIVE_COLUMNS = (
    "case_id", "query", "response_text", "category_path", "query_vector", "usage_count", "success_rate",
    "archived_at", "archived_reason",
)  # fmt: skip
_REASONS = ("low_performance", "duplicate", "inactive")


def _archive_rows(cases: generate.Cases, uses: generate.Uses, days: generate.Calendar, seed: int) -> Iterator[Row]:
    last = days.at(np.nan_to_num(uses.last, nan=0.5))
    for i in (int(x) for x in cases.archived):
        text = generate.case_texts(cases, seed, i, i + 1)
        rate = float(cases.success_rate[i])
        yield (
            case_id(i),
            text.query[0],
            text.response[0],
            text.category[0],
            None if cases.no_vector[i] else text.vectors[0],
            int(cases.usage_count[i]),
            None if math.isnan(rate) else rate,
            min(int(last[i]) + 3_600_000_000, int(days.hours_us[-1]) - 1),
            _REASONS[int(cases.choices[i, 8]) % len(_REASONS)],
        )


_LOG_COLUMNS = (
    "log_id", "case_id", "success", "error_type", "error_message", "execution_time_ms", "context", "created_at",
)  # fmt: skip
_MESSAGES = {
    "timeout": "no answer from {host} within 30000 ms (attempt {n})",
    "validation_error": "field {n} does not match its schema on {host}",
    "upstream_unavailable": "{host} answered 503, request {n:08x}",
    "rate_limited": "429 from {host}: retry after {n} s",
    "parse_error": "unexpected token at position {n} in the answer of {host}",
    "permission_denied": "principal {n} may not read on {host}",
    "conflict": "version {n} was replaced meanwhile on {host}",
    "internal_error": "unhandled error {n:08x} on {host}",
}
_REGIONS = ("ap-northeast-2", "eu-central-1", "us-east-1", "ap-southeast-1", "eu-west-1")


def _log_rows(cases: generate.Cases, uses: generate.Uses, days: generate.Calendar, seed: int) -> Iterator[Row]:
    ids = [case_id(i) for i in range(cases.status.size)]
    number = 0
    for chunk in generate.logs(cases, uses, days, seed):
        columns = (
            chunk.case.tolist(), chunk.success.tolist(), chunk.error.tolist(), chunk.time_ms.tolist(),
            chunk.details.tolist(), chunk.created_us.tolist(),
        )  # fmt: skip
        for case, success, error, time_ms, details, created in zip(*columns, strict=True):
            number += 1
            kind = None if success else generate.ERROR_TYPES[error]
            yield (
                number,
                ids[case],
                success,
                kind,
                None if kind is None else _MESSAGES[kind].format(host=f"node-{details % 41}", n=details % 9973),
                None if time_ms < 0 else time_ms,
                f'{{"region": "{_REGIONS[details % 5]}", "session": "{details:08x}", "tokens": {details % 1900 + 80}, '
                f'"attempt": {1 + details % 17 // 15}}}',
                created,
            )
