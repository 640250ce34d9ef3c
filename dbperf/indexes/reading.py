"""Statements read and planned as things are: all of them, or, where time is short, those that cost most first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from dbperf.indexes.clauses import StatementUse
from dbperf.indexes.resolver import Resolver
from dbperf.indexes.variants import Variant, variants_of
from dbperf.postgres.whatif import Answer, Question, WhatIf
from dbperf.records.shadow import WorkloadStatement

Planned = tuple[list[Variant], list[Answer]]
"""A statement's variants with the planner's answers."""
_AT_ONCE = 100
"""Statements between two looks at the clock."""
NO_TIME = "there was no time to plan it"


async def read_all(
    source: Sequence[WorkloadStatement], resolver: Resolver, planner: WhatIf, late: Callable[[], bool]
) -> tuple[list[Planned], list[WorkloadStatement]]:
    """All statements, or, once it is late, the first ones.

    Returns:
        What was planned, and the rest.
    """
    found: list[Planned] = []
    while len(found) < len(source) and not (found and late()):
        variants = [variants_of(s, resolver) for s in source[len(found) : len(found) + _AT_ONCE]]
        answers = iter(await planner.ask([Question(statement=v.text) for vs in variants for v in vs]))
        found += [(vs, list(islice(answers, len(vs)))) for vs in variants]
    return found, list(source[len(found) :])


async def read_dearest(
    source: Sequence[WorkloadStatement],
    resolver: Resolver,
    planner: WhatIf,
    planned_late: Callable[[], bool],
    read_late: Callable[[], bool],
) -> tuple[list[Planned], list[WorkloadStatement]]:
    """As many as there is time for.

    Planning a text takes a fraction of reading it and of planning it with values, so that all are planned first, those
    that are called most before the others; then they are read in the order of what their calls cost.

    Args:
        planned_late: whether no more are to be planned.
        read_late: whether no more are to be read: what is left counts as it is, and no index is sought for it.

    Returns:
        What was planned, and statements of which not even the cost is known.
    """
    by_calls = sorted(source, key=lambda s: -s.calls)
    known: list[tuple[WorkloadStatement, Answer]] = []
    while len(known) < len(by_calls) and not (known and planned_late()):
        part = by_calls[len(known) : len(known) + 10 * _AT_ONCE]
        known += zip(part, await planner.ask([Question(statement=s.text) for s in part]), strict=True)
    unknown = by_calls[len(known) :]
    known.sort(key=lambda k: -k[0].calls * (k[1].cost or 0.0))
    found, _ = await read_all([s for s, _ in known], resolver, planner, read_late)
    nothing = StatementUse([], {})
    found += [([Variant(s.id, s.id, s.text, s.calls, nothing)], [a]) for s, a in known[len(found) :]]
    place = {s.id: n for n, s in enumerate(source)}
    return sorted(found, key=lambda f: place[f[0][0].id]), unknown
