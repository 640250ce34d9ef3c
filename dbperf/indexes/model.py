"""What sets of indexes would gain, from known plans alone: no question is asked here.

A workload's cost under a set is the sum of each statement's cheapest plan that the set allows, as in CoPhy (Dash,
Polyzotis, Ailamaki, "CoPhy: A Scalable, Portable, and Interactive Index Advisor for Large Workloads", VLDB 2011). There
an integer program finds the best set; here the local moves of `moves` do. A move concerns few statements: all is kept
by statement, and only what a move can change is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dbperf.indexes.costs import Mask, PlanCost, Planned, bits

FLOOR = 1e-4
"""Of the objective; less is not worth an index whatever it concerns."""
_SMALLER_MOST = 6


@dataclass
class State:
    """A set with what each statement costs under it (weighted), and which of its plans it then has."""

    mask: Mask
    size: int
    objective: float
    cost: list[float]
    at: list[int]
    """Numbers in `Model.plans`, cheapest first."""
    moves: list[tuple[Mask, Mask]] = field(default_factory=list)
    """What was added and dropped since it was copied."""

    def copy(self) -> State:
        return State(self.mask, self.size, self.objective, self.cost.copy(), self.at.copy())


class Model:
    """The workload as lists of plans.

    Args:
        coefficients: what a unit of each statement's cost adds to the objective.
        sizes: bytes of each candidate, by its bit.
        writes: what each adds to the objective by its maintenance.
        tables: candidates on the same table, by bit.
        minimum_gain: an index must gain this share of the cost of the statements that it can serve.
    """

    def __init__(
        self,
        statements: Sequence[Planned],
        coefficients: Sequence[float],
        sizes: Mapping[Mask, int],
        writes: Mapping[Mask, float],
        tables: Mapping[Mask, Mask],
        minimum_gain: float,
    ) -> None:
        self.statements = statements
        self.coefficients = coefficients
        self.sizes = sizes
        self.writes = writes
        self.tables = tables
        self.minimum_gain = minimum_gain
        self.plans: list[list[PlanCost]] = [[] for _ in statements]
        """Of each statement, weighted, cheapest first; the last one needs no candidate."""
        self.having: dict[Mask, dict[int, list[tuple[int, Mask]]]] = {b: {} for b in sizes}
        """By candidate: statements with plans that need it, and those plans' numbers and needs."""
        self._needed: list[Mask] = [0] * len(statements)
        self._smaller: dict[Mask, list[Mask]] = {}
        self._relevant: dict[Mask, Mask] = {}
        self._gains: dict[tuple[Mask, Mask], dict[Mask, float]] = {}
        self._least: dict[Mask, dict[Mask, float]] = {}
        self._missing: list[dict[Mask, dict[Mask, float]]] = [{} for _ in statements]
        self._size_of: dict[Mask, int] = dict(sizes)
        self._weights: dict[float, dict[Mask, float]] = {}
        self._all = sum(sizes)
        self._written = any(writes.values())
        self.refresh()

    def refresh(self) -> bool:
        """Takes over what statements have learned; whether that was anything. States from before are void."""
        fresh = [i for i, s in enumerate(self.statements) if s.changed]
        changed: Mask = 0
        for i in fresh:
            s, weight = self.statements[i], self.coefficients[i]
            s.changed = False
            plans = [PlanCost(p.cost * weight, p.needs) for p in s.plans if not p.needs & ~self._all]
            if plans == self.plans[i]:
                continue
            for bit in bits(self._needed[i]):
                del self.having[bit][i]
            changed |= self._needed[i]
            self._missing[i].clear()
            self.plans[i], self._needed[i] = plans, 0
            for number, plan in enumerate(plans):
                self._needed[i] |= plan.needs
                for bit in bits(plan.needs):
                    self.having[bit].setdefault(i, []).append((number, plan.needs))
            changed |= self._needed[i]
        if changed:
            self._smaller.clear()
            self._relevant.clear()
            for add, drop in [k for k in self._gains if (k[0] | k[1]) & changed]:
                del self._gains[add, drop]
            for mask in [m for m in self._least if m & changed]:
                del self._least[mask]
        return bool(changed)

    def _all_relevant(self, mask: Mask) -> Mask:
        """Indexes on which the gain of some others depends: all that statements with plans for these could use."""
        if (found := self._relevant.get(mask)) is None:
            found = 0
            for bit in bits(mask):
                for i in self.having[bit]:
                    found |= self._needed[i]
            self._relevant[mask] = found
        return found

    def size(self, mask: Mask) -> int:
        """Bytes of a set."""
        if (found := self._size_of.get(mask)) is None:
            found = self._size_of[mask] = sum([self.sizes[b] for b in bits(mask)])
        return found

    def weights(self, exponent: float) -> dict[Mask, float]:
        """What is known so far of size ** exponent, to be added to."""
        return self._weights.setdefault(exponent, {})

    def written(self, mask: Mask) -> float:
        return sum([self.writes[b] for b in bits(mask)]) if self._written else 0.0

    def state(self, mask: Mask) -> State:
        cost, at = [], []
        absent = ~mask
        for plans in self.plans:
            number = 0
            while plans[number].needs & absent:
                number += 1
            cost.append(plans[number].cost)
            at.append(number)
        return State(mask, self.size(mask), sum(cost) + self.written(mask), cost, at)

    def uses(self, state: State, i: int) -> Mask:
        """The indexes in a statement's plan."""
        return self.plans[i][state.at[i]].needs

    def concerned(self, mask: Mask) -> set[int]:
        """Statements with a plan that needs some of these."""
        found: set[int] = set()
        for bit in bits(mask):
            found.update(self.having[bit])
        return found

    def _changes(self, state: State, add: Mask, drop: Mask) -> dict[int, int]:
        """Statements whose plan changes, with the number of the new one."""
        absent = ~((state.mask | add) & ~drop)
        at = state.at
        found: dict[int, int] = {}
        for bit in bits(drop):
            for i in self.having[bit]:
                plans = self.plans[i]
                number = at[i]
                if plans[number].needs & bit and i not in found:
                    while plans[number].needs & absent:
                        number += 1
                    found[i] = number
        for bit in bits(add):
            for i, those in self.having[bit].items():
                best = found.get(i)
                if best is None:
                    best = at[i]
                for number, needs in those:
                    if number >= best:
                        break
                    if not needs & absent:
                        found[i] = number
                        break
        return found

    def gain(self, state: State, add: Mask, drop: Mask = 0) -> float:
        """By how much the objective falls."""
        add, drop = add & ~state.mask, drop & state.mask
        known = self._gains.get((add, drop))
        if known is None:
            known = self._gains[add, drop] = {}
        context = state.mask & self._all_relevant(add | drop)
        found = known.get(context)
        if found is None:
            cost, plans = state.cost, self.plans
            found = self.written(drop) - self.written(add)
            for i, number in self._changes(state, add, drop).items():
                found += cost[i] - plans[i][number].cost
            known[context] = found
        return found

    def apply(self, state: State, add: Mask, drop: Mask = 0) -> None:
        """Changes a state."""
        add, drop = add & ~state.mask, drop & state.mask
        objective = state.objective + self.written(add) - self.written(drop)
        for i, number in self._changes(state, add, drop).items():
            cost = self.plans[i][number].cost
            objective += cost - state.cost[i]
            state.cost[i], state.at[i] = cost, number
        state.objective = objective
        state.mask = (state.mask | add) & ~drop
        state.size += self.size(add) - self.size(drop)
        state.moves.append((add, drop))

    def least(self, state: State, mask: Mask) -> float:
        """What a move must gain: the noise of the costs that it can change, not of the whole workload's."""
        known = self._least.get(mask)
        if known is None:
            known = self._least[mask] = {}
        context = state.mask & self._all_relevant(mask)
        found = known.get(context)
        if found is None:
            cost = state.cost
            concerned = self.having[mask] if mask in self.having else sorted(self.concerned(mask))
            found = known[context] = max(FLOOR, self.minimum_gain * sum([cost[i] for i in concerned]))
        return found

    def missing(self, state: State, i: int) -> dict[Mask, float]:
        """What a statement's cheaper plans miss, and what each of those would save."""
        known, context = self._missing[i], state.mask & self._needed[i]
        found = known.get(context)
        if found is None:
            absent, now = ~state.mask, state.cost[i]
            found = known[context] = {}
            # Backwards, so that of those that miss the same the cheapest stays.
            for cost, needs, _ in reversed(self.plans[i][: state.at[i]]):
                found[needs & absent] = now - cost
        return found

    def reductions(self, state: State, among: Mask) -> Iterator[tuple[Mask, Mask]]:
        """Pairs of what to drop and what to put in its place (nothing, or a smaller index of the same table)."""
        for bit in bits(among & state.mask):
            yield bit, 0
            left = _SMALLER_MOST
            for b in self._smaller_than(bit):
                if not b & state.mask:
                    yield bit, b
                    left -= 1
                    if not left:
                        break

    def _smaller_than(self, bit: Mask) -> list[Mask]:
        """Smaller indexes that serve some of the same statements, those that serve most of them first."""
        if (found := self._smaller.get(bit)) is None:
            users, size = self.having[bit].keys(), self.sizes[bit]
            shared = {
                b: n for b in bits(self.tables[bit])
                if self.sizes[b] < size and (n := len(users & self.having[b].keys()))
            }  # fmt: skip
            found = self._smaller[bit] = sorted(shared, key=lambda b: (-shared[b], self.sizes[b], b))
        return found


class Promises:
    """What a state's plans miss, with what the statements that miss just that would gain: a lower bound of all gain.

    It is kept up to date through `apply`, and only what a move concerns is looked at again.
    """

    def __init__(self, model: Model, state: State) -> None:
        self.model = model
        self.state = state
        self.total: dict[Mask, float] = {}
        self._own = [model.missing(state, i) for i in range(len(model.plans))]
        total = self.total
        for own in self._own:
            for key, gain in own.items():
                total[key] = total.get(key, 0.0) + gain

    def apply(self, add: Mask, drop: Mask = 0) -> set[Mask]:
        """Moves the state; what now promises another gain than before."""
        self.model.apply(self.state, add, drop)
        dirty: set[Mask] = set()
        total = self.total
        for i in sorted(self.model.concerned(add | drop)):
            before, own = self._own[i], self.model.missing(self.state, i)
            if own is before:
                continue
            self._own[i] = own
            for key, gain in before.items():
                total[key] -= gain
            for key, gain in own.items():
                total[key] = total.get(key, 0.0) + gain
            dirty.update(before, own)
        return dirty
