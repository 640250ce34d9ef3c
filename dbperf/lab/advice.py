"""Index advice for a run's own statements: from the database's statistics alone, without asking it for more."""

from __future__ import annotations

import msgspec

from dbperf.indexes.advise import Request, advise
from dbperf.indexes.sessions import read_source, shadow_planner
from dbperf.records.advice import Advice
from dbperf.records.rundir import RunDirectory
from dbperf.units import format_bytes, format_share

TIME_LIMIT_S = 20.0
"""Far above what a run's statements need; a pathological workload must not hold up the report."""


async def advise_on(directory: RunDirectory, dsn: str) -> Advice:
    """The best set of indexes for the statements of a run directory.

    Reads the catalog and pg_stats of the target with a read-only connection; planning happens in a shadow of it.

    Raises:
        DbperfError: the catalog can't be read, or the shadow can't be made.
    """
    catalog, workload = await read_source(dsn, None, directory.path)
    async with shadow_planner(catalog) as planner:
        advice = await advise(catalog, workload, planner, Request(time_limit_s=TIME_LIMIT_S))
        notes = [f"{n.object}: {n.reason}" for n in planner.notes]
    return msgspec.structs.replace(advice, notes=list(dict.fromkeys([*advice.notes, *notes])))


def advice_words(advice: Advice) -> str:
    """One line: how many indexes, what they cost and promise."""
    if not advice.recommendations:
        return "no index would help enough"
    saved = 1 - advice.cost_after / advice.cost_before if advice.cost_before else 0.0
    count = len(advice.recommendations)
    return (
        f"{count} index{'es' if count > 1 else ''} of {format_bytes(advice.size_bytes)}: "
        f"{format_share(saved)} less planner cost promised"
    )
