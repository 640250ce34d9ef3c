"""Statements whose service level asks for an index get one, even where the whole workload would do without.

The best set for a workload may leave such a statement alone: its calls are few, or what the writes pay for its index is
more than it gains. A service level is no matter of gain, so the index that costs the workload least is added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dbperf.indexes.costs import Mask, Planned, bits
from dbperf.indexes.search import Point, Search
from dbperf.postgres.whatif import nodes

if TYPE_CHECKING:
    from dbperf.indexes.advise import Advisor


async def with_required(advisor: Advisor, search: Search, chosen: Point) -> tuple[Point, Mapping[str, str]]:
    """The set with an index for each statement of `Request.must_use_index` that lacks one.

    Returns:
        The set, and the statement's id for the name of each index that was added. Nothing is added for a statement
        where none of its plans uses a candidate, or the limits leave no room.
    """
    groups: dict[str, list[Planned]] = {}
    for s in advisor.statements:
        if s.id in advisor.request.must_use_index:
            groups.setdefault(s.id, []).append(s)
    mask = advisor.costs.mask(chosen.names)
    added: dict[str, str] = {}
    for id_, variants in sorted(groups.items()):
        found = await _cheapest(advisor, search, variants, mask)
        if found:
            mask |= found
            added[advisor.costs.name_of[found]] = id_
    if not added:
        return chosen, added
    names = tuple(advisor.costs.names(mask))
    size = sum(search.sizes[n] for n in names)
    return Point(names, size, search.objective(mask), search.total(mask)), added


async def _cheapest(advisor: Advisor, search: Search, variants: Sequence[Planned], mask: Mask) -> Mask:
    """The candidate that gives most of the statement's calls an index; of such the one that costs the workload least.

    Returns:
        0 where none gives it to more calls than have one.
    """
    costs = advisor.costs

    def served(under: Mask) -> float:
        return sum(s.calls for s in variants if costs.used(s, under) or _reads_an_index(s))

    before = served(mask)
    if before >= sum(s.calls for s in variants):
        return 0
    live = 0
    for s in variants:
        live |= s.live & s.own
    options = [bit for bit in bits(live & ~mask) if _fits(search, costs.names(mask | bit))]
    await costs.learn([(s, mask | bit) for bit in options for s in advisor.statements])
    useful = [bit for bit in options if served(mask | bit) > before]
    return min(useful, key=lambda b: (-served(mask | b), search.objective(mask | b), b), default=0)


def _reads_an_index(statement: Planned) -> bool:
    return any("Index Name" in node for node in nodes(statement.plan or {}))


def _fits(search: Search, names: Sequence[str]) -> bool:
    budget = math.inf if search.budget_bytes is None else search.budget_bytes
    return sum(search.sizes[n] for n in names) <= budget and len(names) <= (search.max_indexes or math.inf)
