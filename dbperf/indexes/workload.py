"""The statements that advice is for, with their weights. Files are read in `workload_files`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import msgspec
import postgast

from dbperf.errors import StatementError
from dbperf.postgres.collect import is_own
from dbperf.postgres.fingerprint import fingerprint, literals_masked
from dbperf.postgres.sql_text import plannable, repair_normalised
from dbperf.postgres.statements import snapshot
from dbperf.records.advice import Rewrite, Skipped
from dbperf.records.plans import StatementPlan
from dbperf.records.shadow import WorkloadStatement

LONGEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Workload:
    """What can be planned, and what can't with the reason."""

    statements: list[WorkloadStatement]
    skipped: list[Skipped]
    plans: list[StatementPlan] = field(default_factory=list)
    """Plans that were executed and kept beside the statements, by a run or by auto_explain."""
    rewrites: list[Rewrite] = field(default_factory=list)
    """What a trace says of how the application asks."""

    def of_database(self, name: str) -> Workload:
        """Without statements that ran elsewhere. A log of one database alone is taken, whatever that is called."""
        named = {s.database for s in self.statements} - {None}
        if len(named) < 2 and name not in named:
            return self
        elsewhere = [s for s in self.statements if s.database not in (None, name)]
        skipped = [Skipped(id=s.id, reason=f"it ran in the database {s.database}") for s in elsewhere]
        kept = [s for s in self.statements if s.database in (None, name)]
        return replace(self, statements=kept, skipped=self.skipped + skipped)


def checked(candidates: Iterable[WorkloadStatement]) -> Workload:
    """Keeps what has a plan; equal statements (by fingerprint and text) are one with their calls added."""
    kept: dict[tuple[str | None, str], WorkloadStatement] = {}
    skipped: list[Skipped] = []
    for s in candidates:
        try:
            text = _checked_text(s.text)
        except StatementError as e:
            skipped.append(Skipped(id=s.id, reason=e.message))
            continue
        key = (s.database, text)
        if (first := kept.get(key)) is not None:
            kept[key] = msgspec.structs.replace(first, calls=first.calls + s.calls)
        else:
            kept[key] = msgspec.structs.replace(s, text=text)
    return Workload(statements=list(kept.values()), skipped=skipped)


def _checked_text(sql: str) -> str:
    if len(sql.encode(errors="replace")) > LONGEST_BYTES:
        raise StatementError(f"longer than {LONGEST_BYTES >> 20} MB")
    if "\0" in sql:
        raise StatementError("it contains a NUL character")
    text = repair_normalised(sql)
    try:
        postgast.parse(text)
    except postgast.PgQueryError as e:
        raise StatementError(f"it does not parse: {str(e).splitlines()[0]}") from e
    return plannable(text)


async def workload_of_server(conn: asyncpg.Connection[Any], *, top: int | None = 1000) -> Workload:
    """The statements that pg_stat_statements has of the connection's database, the longest in total first.

    Raises:
        CapabilityError: pg_stat_statements is missing or not preloaded.
    """
    now = await snapshot(conn, texts=True)
    rows = sorted(now.entries.items(), key=lambda x: (-x[1].total_ms, x[0]))
    found: dict[str, WorkloadStatement] = {}
    for key, entry in rows:
        text = now.texts.get(key)
        if text is None or is_own(text) or not entry.toplevel or entry.calls == 0:
            continue
        same = fingerprint(text) or text
        if (first := found.get(same)) is not None:
            found[same] = msgspec.structs.replace(first, calls=first.calls + entry.calls)
        else:
            mean = entry.total_ms / entry.calls
            found[same] = WorkloadStatement(id=str(key.queryid), text=text, calls=float(entry.calls), mean_ms=mean)
    return checked(list(found.values())[:top])


def masked(statements: Iterable[WorkloadStatement]) -> list[WorkloadStatement]:
    """The same statements with constants replaced by parameters, without values; those that don't parse are dropped."""
    texts = ((s, literals_masked(s.text)) for s in statements)
    return [msgspec.structs.replace(s, text=repair_normalised(t), cases=[]) for s, t in texts if t is not None]
