"""Proves advice: each index is built, every statement whose plan it changes is measured with and without it, in turns.

Indexes are tried in the order of the advice; one that is kept stays while the next are tried, so that each is judged
for what it adds. Whatever happens, an index that was not kept is dropped again; should dbperf be killed, the next
verification finds what it left by its comment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from dbperf.errors import DbperfError, ServerError, StatementError
from dbperf.indexes.apply_checks import check_server
from dbperf.indexes.ddl import CreateIndex, index_name, parse_create_index, qualified
from dbperf.indexes.verdict import judge
from dbperf.indexes.verify_statements import Measured, Prepared, measure, measure_cold, prepare
from dbperf.indexes.workload import Workload
from dbperf.postgres.cold_cache import ColdCache
from dbperf.postgres.collect import collector
from dbperf.postgres.connect import connected, mask_dsn
from dbperf.postgres.index_build import name_state, table_state
from dbperf.postgres.index_catalog import index_details, table_details
from dbperf.postgres.index_trial import Case, Trial
from dbperf.postgres.shadow_ddl import literal
from dbperf.records.advice import Advice, Recommendation
from dbperf.records.proof import IndexProof, Proof
from dbperf.units import format_bytes, format_seconds

APPLICATION = "dbperf verify"
COMMENT = "dbperf verify: on trial"
WORDS = {"keep": "keep", "reject": "reject", "cant_tell": "can't tell"}
_APPROXIMATE = ("hnsw", "ivfflat")
_DROP_TRIES = 20
_DROP_PAUSE_S = 0.5
Event = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    keep: bool = True
    """Whether indexes with the verdict keep stay."""
    statement_s: float = 4.0
    """About how long to measure each statement for each index."""
    timeout_s: float = 30.0
    """Of one execution."""
    must_use_index: frozenset[str] = frozenset()
    """Ids of statements whose service level asks for an index."""
    challengers: int = 0
    """How many candidates that the advice rejected are tried as well: a check on the advice itself."""
    data_dir: Path | None = None
    """Of a server that dbperf started itself: its caches are emptied, and statements are measured cold as well."""


async def verify(
    dsn: str,
    workload: Workload,
    advice: Advice,
    *,
    options: VerifyOptions | None = None,
    on_event: Event | None = None,
) -> Proof:
    """Builds, measures and judges each recommended index on a database that may be written to and is not in use.

    The caller has made sure that it may: see `dbperf.lab.safety`.

    Raises:
        ServerError: a standby, read-only, or the connection is lost.
        ConnectError: no connection.
        asyncio.CancelledError: cancelled; nothing that was built stays.
    """
    options, say = options or VerifyOptions(), on_event or (lambda _: None)
    started, start = datetime.now(UTC), time.monotonic()
    async with connected(
        dsn, read_only=False, statement_timeout_s=0, lock_timeout_s=2, application_name=APPLICATION
    ) as conn:
        await check_server(conn)
        verifier = _Verifier(conn, options, say)
        await verifier.remove_leftovers()
        await verifier.make_cold()
        say("drawing values for the statements")
        verifier.statements = await prepare(conn, workload)
        proofs: list[IndexProof] = []
        finished = False
        try:
            tried = [*advice.recommendations, *challengers(advice, options.challengers)]
            for n, r in enumerate(tried, 1):
                say(f"{n} of {len(tried)}: {r.name}")
                proofs.append(await verifier.index(r))
            proofs = [await verifier.once_more(p) for p in proofs]
            finished = True
        finally:
            kept = finished and options.keep
            await asyncio.shield(verifier.finish(keep=kept))
        version = await conn.fetchval("SHOW server_version")
    return Proof(
        target=mask_dsn(dsn),
        server_version=version,
        started_at=started,
        elapsed_s=time.monotonic() - start,
        indexes=proofs,
        kept=kept,
        cold=verifier.cache.words if verifier.cache else None,
        notes=verifier.notes + [f"{s.id}: not measured, {s.reason}" for s in workload.skipped],
    )


class _Verifier:
    def __init__(self, conn: asyncpg.Connection[Any], options: VerifyOptions, say: Event) -> None:
        self.conn, self.options, self.say = conn, options, say
        self.statements: list[Prepared] = []
        self.notes: list[str] = []
        self.kept: dict[str, CreateIndex] = {}
        self.cut_off: set[Case] = set()
        self.cache: ColdCache | None = None
        self._built: list[tuple[str, str]] = []
        self._written: set[str] = set()
        self._partitioned: dict[str, bool] = {}

    async def remove_leftovers(self) -> None:
        rows = await self.conn.fetch(collector("trial_leftovers", (self.conn.get_server_version().major,)), COMMENT)
        for r in rows:
            await self._drop(r["schema"], r["name"])
            self.notes.append(f"{qualified(r['schema'], r['name'])}, left by an interrupted verification, was removed")

    async def make_cold(self) -> None:
        """Gets the caches under control, where that is possible at all."""
        if self.options.data_dir is None:
            self.notes.append("all times are warm: only a server that dbperf has started itself has its caches emptied")
            return
        cache = ColdCache(self.options.data_dir)
        try:
            await cache.prepare(self.conn)
        except ServerError as e:
            self.notes.append(f"all times are warm: {e.message}")
        else:
            self.cache = cache

    async def index(self, r: Recommendation) -> IndexProof:
        """One index: built, measured, judged, and dropped unless it is to be kept."""
        try:
            create = parse_create_index(r.create_sql)
            build_s = await self._build(create)
        except (StatementError, ServerError) as e:
            return _not_built(r, e)
        state = await name_state(self.conn, create.schema, create.name)
        assert state is not None
        size = await self._size(create)
        self.say(f"built in {format_seconds(build_s)}, {format_bytes(size)}")
        trial = Trial(self.conn, create.schema, create.name, timeout_s=self.options.timeout_s)
        try:
            found: Measured = await measure(
                trial,
                self.statements,
                (create.schema, create.table),
                cut_off=self.cut_off,
                seconds=self.options.statement_s,
                say=self.say,
                approximate=create.method in _APPROXIMATE,
                partitioned=self._partitioned[create.name],
            )
        except asyncpg.LockNotAvailableError:
            await self._forget(create)
            return _not_built(r, ServerError("others use the table: it can't be measured without the index"))
        if found.wrote:
            self._written.add(qualified(create.schema, create.table))
        verdict, reason = judge(
            found.statements, found.writes, found.saving, self.options.must_use_index, planned=found.planned
        )
        if verdict != "keep":
            await self._forget(create)
        else:
            self.kept[create.name] = create
            self.cut_off.clear()  # what it serves may now end in time
            if self.cache is not None:
                found = replace(
                    found, statements=await measure_cold(trial, self.statements, found.statements, self.cache)
                )
        self.say(f"{WORDS[verdict]}: {reason}")
        return IndexProof(
            name=create.name,
            schema=create.schema,
            table=create.table,
            create_sql=r.create_sql,
            verdict=verdict,
            reason=reason,
            size_bytes=size,
            estimated_bytes=r.size_bytes or None,
            build_s=build_s,
            saved_ms=found.saving.saved_ms if found.saving else None,
            write_cost_ratio=found.write_cost_ratio,
            statements=found.statements,
            writes=found.writes,
        )

    async def once_more(self, proof: IndexProof) -> IndexProof:
        """An index that was kept and whose keys another kept one begins with must still be worth its place."""
        create = self.kept.get(proof.name)
        if proof.verdict != "keep" or create is None:
            return proof
        wider = next((c for c in self.kept.values() if _begins_with(c, create)), None)
        if wider is None:
            return proof
        self.say(f"{create.name}: once more, beside {wider.name}")
        trial = Trial(self.conn, create.schema, create.name, timeout_s=self.options.timeout_s)
        try:
            found = await measure(
                trial,
                self.statements,
                (create.schema, create.table),
                cut_off=self.cut_off,
                seconds=self.options.statement_s,
                say=self.say,
                partitioned=self._partitioned[create.name],
            )
        except asyncpg.LockNotAvailableError:
            return proof
        verdict, reason = judge(found.statements, found.writes, found.saving, self.options.must_use_index)
        if verdict == "keep":
            return proof
        await self._forget(create)
        del self.kept[create.name]
        self.say(f"reject: {wider.name} does its work: {reason}")
        return msgspec.structs.replace(proof, verdict="reject", reason=f"{wider.name} does its work: {reason}")

    async def _build(self, create: CreateIndex) -> float:
        """Builds it as production would; on a partitioned table at once. Returns how long that took.

        Raises:
            ServerError: the table is gone, the name is taken, or PostgreSQL refuses the index.
        """
        where = qualified(create.schema, create.table)
        table, details = (
            await table_state(self.conn, create.schema, create.table),
            await table_details(self.conn, create.schema, create.table),
        )
        if table is None or details is None:
            raise ServerError(f"the table {where} is gone")
        if not table.owned:
            raise ServerError(f"{where} belongs to {table.owner}", hint=f"connect as {table.owner}")
        if await name_state(self.conn, create.schema, create.name) is not None:
            raise ServerError(f"{qualified(create.schema, create.name)} exists already", hint="it is not measured")
        self._built.append((create.schema, create.name))
        self._partitioned[create.name] = details.partitions is not None
        begin = time.monotonic()
        try:
            # A build waits for older transactions; on a database made for trials they end.
            await self.conn.execute("SET lock_timeout = '60s'")
            await self.conn.execute(create.sql(concurrently=details.partitions is None))
            elapsed_s = time.monotonic() - begin
            await self.conn.execute(f"COMMENT ON INDEX {qualified(create.schema, create.name)} IS {literal(COMMENT)}")
            # The planner knows nothing of an expression's values before.
            await self.conn.execute(f"ANALYZE {where}")
        except asyncpg.PostgresError as e:
            await self._forget(create)
            raise ServerError(f"it can't be built: {e.message}", hint=e.hint) from e
        except BaseException:
            await asyncio.shield(self._forget(create))
            raise
        finally:
            if not self.conn.is_closed():
                await self.conn.execute("SET lock_timeout = '2s'")
        return elapsed_s

    async def _size(self, create: CreateIndex) -> int:
        details = await index_details(self.conn, create.schema, create.name)
        assert details is not None
        return details.size_bytes

    async def _forget(self, create: CreateIndex) -> None:
        await self._drop(create.schema, create.name)
        self._built.remove((create.schema, create.name))

    async def _drop(self, schema: str, name: str) -> None:
        """Drops an index, with patience for others' locks."""
        where = qualified(schema, name)
        for attempt in range(_DROP_TRIES):
            try:
                await self.conn.execute(f"DROP INDEX IF EXISTS {where}")
                return
            except asyncpg.LockNotAvailableError:
                if attempt == _DROP_TRIES - 1:
                    raise ServerError(
                        f"{where} could not be dropped: its table is in use", hint=f"DROP INDEX CONCURRENTLY {where};"
                    ) from None
                await asyncio.sleep(_DROP_PAUSE_S)

    async def finish(self, *, keep: bool) -> None:
        """Drops what stays on trial, or turns it into ordinary indexes; clears what writes left behind."""
        if self.conn.is_closed():
            return
        for schema, name in list(self._built):
            if keep:
                await self.conn.execute(f"COMMENT ON INDEX {qualified(schema, name)} IS NULL")
            else:
                await self._drop(schema, name)
        for table in sorted(self._written):
            # Writes that were rolled back leave dead rows.
            with suppress(asyncpg.PostgresError, DbperfError):
                await self.conn.execute(f"VACUUM {table}")


def _begins_with(wide: CreateIndex, narrow: CreateIndex) -> bool:
    n = len(narrow.columns)
    plain = not (wide.has_expressions or narrow.has_expressions) and wide.method == narrow.method == "btree"
    same_table = (wide.schema, wide.table) == (narrow.schema, narrow.table)
    return plain and same_table and len(wide.columns) > n and wide.columns[:n] == narrow.columns


def _not_built(r: Recommendation, error: DbperfError) -> IndexProof:
    return IndexProof(
        name=r.name,
        schema=r.schema,
        table=r.table,
        create_sql=r.create_sql,
        verdict="cant_tell",
        reason=error.message,
        size_bytes=None,
        estimated_bytes=r.size_bytes or None,
        build_s=None,
    )


def challengers(advice: Advice, most: int) -> list[Recommendation]:
    """The first candidates that the advice rejected, as if they were recommended."""
    taken = {r.name for r in advice.recommendations}
    found: list[Recommendation] = []
    for x in advice.rejected:
        if len(found) >= most:
            break
        with suppress(StatementError):
            create = parse_create_index(x.sql)
            name = index_name(create.table, [*create.columns, create.method], taken)
            found.append(
                Recommendation(
                    name=name, schema=create.schema, table=create.table, method=create.method,
                    create_sql=create.sql(name=name), drop_sql="", size_bytes=0, gain=0.0, gain_cost=0.0,
                    statements=[], reason=f"rejected by the advice: {x.reason}",
                )
            )  # fmt: skip
    return found


def kept_only(advice: Advice, proofs: Sequence[IndexProof]) -> Advice:
    """The advice with the recommendations that were proved."""
    keep = {(p.schema, p.name) for p in proofs if p.verdict == "keep"}
    return msgspec.structs.replace(
        advice, recommendations=[r for r in advice.recommendations if (r.schema, r.name) in keep]
    )
