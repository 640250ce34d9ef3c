"""Which plans statements have: the planner is asked with many candidates, then without some, and again.

*Ablation* finds the candidates worth keeping: each statement is planned with all of its own; those in the
plan are taken away and it is planned again. Of thousands of candidates some dozens stay.

*Exploration* goes on from the plan with everything on offer, the nodes of a tree: without an index and all that are as
large on its table (what would smaller ones do?), without the index alone (would another do as well?), and with the rest
of the plan alone (what is it worth without?).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from dbperf.indexes.costs import Costs, Mask, PlanCost, Planned, bits

_EXPLORED, _EXPLORED_LESS, _EXPLORED_CHEAP = 20, 6, 4
"""Plans that are asked for: of statements with some weight, of other dear ones, and of the rest."""
_WEIGHT = 0.3
"""Of the mean statement's share of the workload: below it a statement decides about no index that costs much."""
_AGAIN, _AGAIN_CHEAP = (2, 3), (1, 1)
"""How often to go on without those in the plan, and without all as large as those."""
_PER_ROUND = 6
_ROUNDS = 4
_SIMILAR = 0.8
_GUESSED = 8
_SMALL = 0.03
"""Of the largest index in a plan: smaller ones cost no budget to speak of, and are not taken away."""


async def ablate(
    costs: Costs,
    statements: Iterable[Planned],
    sizes: Mapping[Mask, int],
    tables: Mapping[Mask, Mask],
    late: Callable[[], bool],
    dear: Collection[str],
) -> Mask:
    """Candidates that some plan uses: the best, those that come next, and those that come next among smaller ones.

    Args:
        dear: keys of statements that are worth more questions.
    """
    survivors = 0
    chains = [(s, s.own, True, True) for s in statements]
    for step in range(1 + max(*_AGAIN, *_AGAIN_CHEAP)):
        chains = [c for c in chains if c[1]]
        if not chains or (step and late()):
            break
        await costs.learn([(s, mask) for s, mask, *_ in chains], late)
        following = []
        for s, mask, by_use, by_size in chains:
            known = s.settled(mask)
            if known is None or not known.used & mask or known.cost >= s.base * (1 - 1e-6):
                continue
            survivors |= known.used
            others, smaller = _AGAIN if s.key in dear else _AGAIN_CHEAP
            if by_use and step < others:
                following.append((s, mask & ~known.used, True, False))
            if by_size and step < smaller:
                following.append((s, mask & ~_as_large(known.used, mask, sizes, tables), False, True))
        chains = following
    return survivors


def _as_large(used: Mask, mask: Mask, sizes: Mapping[Mask, int], tables: Mapping[Mask, Mask]) -> Mask:
    """Of a set those that are about as large as some of these on their table, or larger."""
    found = 0
    for bit in bits(used):
        for b in bits(mask & tables[bit]):
            if sizes[b] >= _SIMILAR * sizes[bit]:
                found |= b
    return found


async def explore(
    costs: Costs,
    statements: Sequence[Planned],
    sizes: Mapping[Mask, int],
    tables: Mapping[Mask, Mask],
    late: Callable[[], bool],
    dear: Collection[str],
    coefficients: Mapping[str, float],
) -> None:
    """Plans of each statement around the best one.

    Args:
        dear: keys of statements that are worth more questions.
        coefficients: what a unit of a statement's cost adds to the objective.
    """
    least = _WEIGHT * sum(coefficients[s.key] * s.base for s in statements) / max(1, len(statements))
    heavy = {s.key for s in statements if s.key in dear and coefficients[s.key] * s.base >= least}
    queues: dict[str, list[Mask]] = {s.key: [costs.offered(s)] for s in statements}
    seen: dict[str, set[Mask]] = {s.key: set() for s in statements}
    for _ in range(_ROUNDS):
        asked: list[tuple[Planned, Mask]] = []
        for s in statements:
            most = _EXPLORED if s.key in heavy else _EXPLORED_LESS if s.key in dear else _EXPLORED_CHEAP
            room = min(_PER_ROUND, most - len(seen[s.key]))
            taken = [m for m in dict.fromkeys(queues[s.key]) if m not in seen[s.key]][: max(0, room)]
            seen[s.key].update(taken)
            asked += [(s, m) for m in taken]
            queues[s.key] = []
        if not asked or late():
            return
        await costs.learn(asked, late)
        for s, mask in asked:
            queues[s.key] += _children(s, mask, sizes, tables)


def _children(s: Planned, mask: Mask, sizes: Mapping[Mask, int], tables: Mapping[Mask, Mask]) -> list[Mask]:
    known = s.settled(mask)
    if known is None or not known.used or known.cost >= s.base * (1 - 1e-3):
        return []
    used = sorted(bits(known.used), key=lambda b: (-sizes[b], b))
    large = [b for b in used if sizes[b] >= _SMALL * sizes[used[0]]]
    found = []
    for bit in large:
        found.append(mask & ~_as_large(bit, mask, sizes, tables))
    if len(used) > 1:
        found += [known.used & ~bit for bit in large]
    found += [mask & ~bit for bit in large]
    return [m for m in found if s.settled(m) is None]


def guess(costs: Costs, statements: Sequence[Planned], serves: Mapping[Mask, Mask], sizes: Mapping[Mask, int]) -> None:
    """Enters plans in which a wider index does what one that begins it does, as dear as it is larger.

    They are guesses: the planner is asked before a set that rests on one is believed.

    Args:
        serves: by a candidate's bit, those that begin with all that it has.
    """
    for s in statements:
        offered = costs.offered(s)
        for plan in s.plans[:_GUESSED]:
            for bit in bits(plan.needs):
                for wide in bits(serves.get(bit, 0) & offered):
                    grown = 1 + 0.02 * max(0.0, sizes[wide] / sizes[bit] - 1)
                    s.enter(PlanCost(plan.cost * grown, plan.needs & ~bit | wide, True))
