"""From advice (and what was verified of it) to an ordered list of index changes with their undoing.

The order: first drops of what nothing stands in for (unused, duplicate, redundant), which frees space; then what is
created; last the drops of what the new indexes replace, so that no query is without an index in between. Undoing runs
backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from dbperf.errors import StatementError
from dbperf.indexes.ddl import create_steps, drop_steps, free_name, parse_create_index, restore_steps
from dbperf.postgres.index_catalog import index_details, table_details, taken_names
from dbperf.records.advice import Advice, Recommendation
from dbperf.records.index_health import IndexFinding
from dbperf.records.proof import IndexChange, IndexProof

_FREEING = ("invalid", "duplicate", "redundant", "unused")


async def plan_changes(
    conn: asyncpg.Connection[Any],
    advice: Advice | None = None,
    *,
    proofs: Sequence[IndexProof] = (),
    findings: Sequence[IndexFinding] = (),
    replaced: bool = True,
    in_place: bool = False,
) -> tuple[list[IndexChange], list[str]]:
    """The changes in the order in which they are made, and notes on what was left out and why.

    Args:
        conn: to the database that will be changed; it is only read.
        advice: indexes to create.
        proofs: with any, only indexes with the verdict keep are created, with their measured size.
        findings: of `dbperf indexes`; indexes that can go are dropped, and missing ones created.
        replaced: also drop what the advice's indexes make redundant.
        in_place: the proved indexes stand in this database already, under their names.
    """
    planner = _Planner(conn, {(p.schema, p.name): p for p in proofs}, in_place=in_place)
    for f in findings:
        if f.index is not None and f.kind in _FREEING and f.up_sql:
            await planner.drop(f.schema, f.index, f"{f.kind}: {f.evidence}", first=True)
    for f in findings:
        if f.index is None and f.kind == "missing_on_foreign_key":
            await planner.create_found(f)
    for r in advice.recommendations if advice else ():
        await planner.create(r)
    if advice and replaced:
        created = {c.name for c in planner.created}
        for r in advice.recommendations:
            for name in r.makes_redundant if r.name in created or planner.renamed.get(r.name) in created else ():
                schema, _, index = name.partition(".")
                await planner.drop(schema, index, f"{r.name} begins with the same keys", first=False)
    settings = [c for f in findings if (c := _fillfactor_change(f)) is not None]
    return [*planner.ordered(), *settings], planner.notes


class _Planner:
    def __init__(
        self, conn: asyncpg.Connection[Any], proofs: dict[tuple[str, str], IndexProof], *, in_place: bool
    ) -> None:
        self.conn = conn
        self.proofs = proofs
        self.in_place = in_place
        self.created: list[IndexChange] = []
        self.dropped: list[IndexChange] = []
        self.notes: list[str] = []
        self.renamed: dict[str, str] = {}
        self._taken: dict[str, set[str]] = {}

    def ordered(self) -> list[IndexChange]:
        first = sorted((c for c in self.dropped if c.frees_first), key=lambda c: -(c.size_bytes or 0))
        return [*first, *self.created, *(c for c in self.dropped if not c.frees_first)]

    async def drop(self, schema: str, name: str, reason: str, *, first: bool) -> None:
        if any((c.schema, c.name) == (schema, name) for c in self.dropped):
            return
        index = await index_details(self.conn, schema, name)
        where = f"{schema}.{name}"
        if index is None:
            self.notes.append(f"{where} is gone already")
        elif index.carries_rule or index.is_part:
            why = "belongs to a partitioned index" if index.is_part else "carries a constraint"
            self.notes.append(f"{where} is kept: it {why}")
        else:
            self.dropped.append(
                IndexChange(
                    action="drop",
                    schema=schema,
                    table=index.table,
                    name=name,
                    up_sql=drop_steps(schema, name, partitioned=index.partitioned),
                    down_sql=restore_steps(index) if index.valid else [],
                    reason=reason,
                    size_bytes=index.size_bytes,
                    frees_first=first,
                )
            )

    async def create(self, r: Recommendation) -> None:
        proof = self.proofs.get((r.schema, r.name))
        if self.proofs and (proof is None or proof.verdict != "keep"):
            why = "it was not verified" if proof is None else f"{proof.verdict.replace('_', ' ')}: {proof.reason}"
            self.notes.append(f"{r.schema}.{r.name} is left out: {why}")
            return
        reason = r.reason if proof is None else f"{r.reason}; measured: {proof.reason}"
        size = r.size_bytes if proof is None or proof.size_bytes is None else proof.size_bytes
        await self._create(r.create_sql, reason, size_bytes=size, gain=r.gain, statements=r.statements)

    async def create_found(self, finding: IndexFinding) -> None:
        # Its own statements may be a whole dance; the index itself is in the first.
        await self._create(finding.up_sql[0].rstrip(";"), f"foreign key {finding.because_of}: {finding.evidence}")

    async def _create(
        self,
        sql: str,
        reason: str,
        *,
        size_bytes: int | None = None,
        gain: float | None = None,
        statements: Iterable[str] = (),
    ) -> None:
        try:
            create = parse_create_index(sql)
        except StatementError as e:
            self.notes.append(f"{sql[:60]}… is left out: {e.message}")
            return
        where = f"{create.schema}.{create.table}"
        table = await table_details(self.conn, create.schema, create.table)
        if table is None:
            self.notes.append(f"{create.name} is left out: the table {where} is gone")
            return
        taken = await self._names(create.schema)
        if self.in_place and (create.schema, create.name) in self.proofs:
            taken.discard(create.name)
        name = free_name(create.name, taken)
        if name != create.name:
            self.notes.append(f"{create.name} is taken in {create.schema}: the index is called {name}")
            self.renamed[create.name] = name
            create = parse_create_index(create.sql(name=name))
        partitioned = table.partitions is not None
        self.created.append(
            IndexChange(
                action="create",
                schema=create.schema,
                table=create.table,
                name=name,
                up_sql=create_steps(create, table.partitions, taken),
                down_sql=drop_steps(create.schema, name, partitioned=partitioned),
                reason=reason,
                size_bytes=size_bytes,
                gain=gain,
                statements=list(statements),
            )
        )

    async def _names(self, schema: str) -> set[str]:
        if schema not in self._taken:
            self._taken[schema] = await taken_names(self.conn, schema)
        return self._taken[schema]


def _fillfactor_change(finding: IndexFinding) -> IndexChange | None:
    """The change of a table's fillfactor that a finding proposes; None where it proposes none."""
    if finding.kind != "low_hot_share" or not finding.up_sql:
        return None
    return IndexChange(
        action="set",
        schema=finding.schema,
        table=finding.table,
        name=finding.table,
        up_sql=[s.rstrip(";") for s in finding.up_sql],
        down_sql=[s.rstrip(";") for s in finding.down_sql],
        reason=finding.evidence,
    )
