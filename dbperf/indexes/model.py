"""What sets of indexes would gain, from known plans alone: no question is asked here.

A workload's cost under a set is the sum of each statement's cheapest plan that the set allows, as in CoPhy (Dash,
Polyzotis, Ailamaki, "CoPhy: A Scalable, Portable, and Interactive Index Advisor for Large Workloads", VLDB 2011). There
an integer program finds the best set; here local moves do:

- *forwards*: add what some plan still misses, the best gain for its size first, lazily evaluated (Minoux 1978);
- *backwards*: drop an index or put a smaller one in its place, the least loss for its size first (the relaxations of
  Bruno and Chaudhuri, "Automatic Physical Database Tuning: A Relaxation-based Approach", SIGMOD 2005);
- *exchange*: add, and go backwards until it fits again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dbperf.indexes.costs import Mask, PlanCost, Planned, bits

FLOOR = 1e-4
"""Of the objective; less is not worth an index whatever it concerns."""
_EXCHANGES = 16
ROUNDS = 12
_LOOKED_AT = 8
_SMALLER_MOST = 6


@dataclass
class State:
    """A set with what each statement costs under it (weighted) and the indexes that it then uses."""

    mask: Mask
    size: int
    objective: float
    cost: list[float]
    uses: list[Mask]

    def copy(self) -> State:
        return State(self.mask, self.size, self.objective, self.cost.copy(), self.uses.copy())


class Model:
    """The workload as lists of plans.

    Args:
        coefficients: what a unit of each statement's cost adds to the objective.
        sizes: bytes of each candidate, by its bit.
        writes: what each adds to the objective by its maintenance.
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
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        self.statements = statements
        self.coefficients = coefficients
        self.sizes = sizes
        self.writes = writes
        self.tables = tables
        """Candidates on the same table, by bit."""
        self.minimum_gain = minimum_gain
        self.late = late
        self.plans: list[list[PlanCost]] = [[] for _ in statements]
        self.touching: dict[Mask, set[int]] = {}
        """Statements with a plan that needs the candidate."""
        self._size_of: dict[Mask, int] = {}
        self._all = sum(sizes)
        self.refresh()

    def refresh(self) -> bool:
        """Takes over what statements have learned; whether that was anything."""
        fresh = [i for i, s in enumerate(self.statements) if s.changed]
        for i in fresh:
            s, weight = self.statements[i], self.coefficients[i]
            self.plans[i] = [PlanCost(p.cost * weight, p.needs) for p in s.plans if not p.needs & ~self._all]
            s.changed = False
            for plan in self.plans[i]:
                for bit in bits(plan.needs):
                    self.touching.setdefault(bit, set()).add(i)
        return bool(fresh)

    def size(self, mask: Mask) -> int:
        """Bytes of a set."""
        if (found := self._size_of.get(mask)) is None:
            found = self._size_of[mask] = sum(self.sizes[b] for b in bits(mask))
        return found

    def written(self, mask: Mask) -> float:
        return sum(self.writes[b] for b in bits(mask))

    def state(self, mask: Mask) -> State:
        cost, uses = [], []
        for plans in self.plans:
            found = _cheapest(plans, mask)
            cost.append(found.cost)
            uses.append(found.needs)
        return State(mask, self.size(mask), sum(cost) + self.written(mask), cost, uses)

    def _changes(self, state: State, add: Mask, drop: Mask) -> Iterator[tuple[int, PlanCost]]:
        """Statements whose plan changes, with the new one."""
        mask = (state.mask | add) & ~drop
        seen: set[int] = set()
        for bit in bits(add & ~state.mask):
            for i in self.touching.get(bit, ()):
                if i in seen:
                    continue
                seen.add(i)
                now, lost = state.cost[i], state.uses[i] & drop
                for plan in self.plans[i]:
                    if plan.cost >= now and not lost:
                        break
                    if not plan.needs & ~mask:
                        yield i, plan
                        break
        for bit in bits(drop):
            for i in self.touching.get(bit, ()):
                if i not in seen and state.uses[i] & bit:
                    seen.add(i)
                    yield i, _cheapest(self.plans[i], mask)

    def gain(self, state: State, add: Mask, drop: Mask = 0) -> float:
        """By how much the objective falls."""
        saved = sum(state.cost[i] - plan.cost for i, plan in self._changes(state, add, drop))
        return saved - self.written(add & ~state.mask) + self.written(drop & state.mask)

    def apply(self, state: State, add: Mask, drop: Mask = 0) -> None:
        """Changes a state."""
        add, drop = add & ~state.mask, drop & state.mask
        objective = state.objective + self.written(add) - self.written(drop)
        for i, plan in list(self._changes(state, add, drop)):
            objective += plan.cost - state.cost[i]
            state.cost[i], state.uses[i] = plan.cost, plan.needs
        state.objective = objective
        state.mask = (state.mask | add) & ~drop
        state.size += self.size(add) - self.size(drop)

    def least(self, state: State, mask: Mask) -> float:
        """What a move must gain: the noise of the costs that it can change, not of the whole workload's."""
        concerned = {i for b in bits(mask) for i in self.touching.get(b, ())}
        return max(FLOOR, self.minimum_gain * sum(state.cost[i] for i in sorted(concerned)))

    def promises(self, state: State) -> dict[Mask, float]:
        """What plans miss, with what the statements that miss just that would gain: a lower bound of the whole gain."""
        found: dict[Mask, float] = {}
        absent = ~state.mask
        for plans, now in zip(self.plans, state.cost, strict=True):
            own: dict[Mask, float] = {}
            for cost, needs, _ in plans:
                if cost >= now:
                    break
                own.setdefault(needs & absent, now - cost)
            for add, gain in own.items():
                found[add] = found.get(add, 0.0) + gain
        return found

    # Forwards

    def forwards(
        self, state: State, room: float, count: int, exponent: float, visit: Callable[[State], None] | None = None
    ) -> None:
        """Adds the best moves to a state until none that gains enough fits.

        Args:
            room: bytes that the set may have.
            count: indexes that it may have.
            exponent: how much size weighs (gain / size ** exponent).
        """
        while not self.late():
            found = [
                (gain / self.size(add) ** exponent, add)
                for add, gain in self.promises(state).items()
                if gain > FLOOR / 2
                and state.size + self.size(add) <= room
                and state.mask.bit_count() + add.bit_count() <= count
            ]
            best: tuple[float, Mask] | None = None
            for _, add in heapq.nlargest(_LOOKED_AT, found):
                gain = self.gain(state, add)
                score = (gain / self.size(add) ** exponent, add)
                if (best is None or score > best) and gain >= self.least(state, add):
                    best = score
            if best is None:
                return
            self.apply(state, best[1])
            self.drop_idle(state, best[1])
            if visit is not None:
                visit(state)

    def drop_idle(self, state: State, keep: Mask = 0) -> None:
        """Drops indexes whose work others do, to within half of what one must gain."""
        on = 0
        for bit in bits(keep):
            on |= self.tables[bit]
        for bit in bits(state.mask & ~keep & (on or -1)):
            if -self.gain(state, 0, bit) < self.least(state, bit) / 2:
                self.apply(state, 0, bit)

    # Backwards

    def reductions(self, state: State, among: Mask) -> Iterator[tuple[Mask, Mask]]:
        """Pairs of what to drop and what to put in its place (nothing, or a smaller index of the same table)."""
        for bit in bits(among & state.mask):
            yield bit, 0
            users = self.touching.get(bit, set())
            smaller = [
                b for b in bits(self.tables[bit] & ~state.mask)
                if self.sizes[b] < self.sizes[bit] and not users.isdisjoint(self.touching.get(b, ()))
            ]  # fmt: skip
            smaller.sort(key=lambda b: (-len(users & self.touching[b]), self.sizes[b], b))
            for b in smaller[:_SMALLER_MOST]:
                yield bit, b

    def _rate(self, state: State, drop: Mask, add: Mask, excess: int) -> float:
        """Loss for a byte; bytes beyond the excess are worth nothing."""
        loss = max(0.0, -self.gain(state, add, drop))
        return loss / min(self.size(drop) - self.size(add), excess)

    def backwards(self, state: State, visit: Callable[[State], None]) -> None:
        """Down to the empty set, a reduction at a time; rates mostly rise as a set shrinks, so that few are renewed."""
        heap: list[tuple[float, Mask, Mask]] = []

        def enter(bit: Mask) -> None:
            for drop, add in self.reductions(state, bit):
                heapq.heappush(heap, (self._rate(state, drop, add, state.size), drop, add))

        for bit in bits(state.mask):
            enter(bit)
        while heap and not self.late():
            rate, drop, add = heapq.heappop(heap)
            if not drop & state.mask or add & state.mask:
                continue
            now = self._rate(state, drop, add, state.size)
            if now > rate and heap and now > heap[0][0]:
                heapq.heappush(heap, (now, drop, add))
                continue
            self.apply(state, add, drop)
            if add:
                enter(add)
            visit(state)

    # Exchange

    def improve(self, state: State, room: float, count: int, rounds: int = ROUNDS) -> State:
        """The best set that exchanges reach from a state within some bytes and a number of indexes."""
        self.forwards(state, room, count, 1.0)
        for _ in range(rounds):
            better = self._exchange(state, room, count)
            if better is None or self.late():
                break
            self.drop_idle(better)
            self.forwards(better, room, count, 1.0)
            state = better
        return state

    def _exchange(self, state: State, room: float, count: int) -> State | None:
        found = [
            (gain / self.size(add) ** 0.5, add)
            for add, gain in self.promises(state).items()
            if gain > FLOOR and self.size(add) <= room and add.bit_count() <= count
        ]
        losses = [
            (-self.gain(state, a, d), self.size(d) - self.size(a), d, a) for d, a in self.reductions(state, state.mask)
        ]
        best: State | None = None
        for _, add in heapq.nlargest(_EXCHANGES, found):
            if self.gain(state, add) < self.least(state, add):
                continue
            trial = state.copy()
            self.apply(trial, add)
            if not self._fit(trial, room, add, losses) or not self._fit_count(trial, count, add):
                continue
            if trial.objective < (best or state).objective - FLOOR:
                best = trial
        return best

    def _fit(self, state: State, room: float, keep: Mask, losses: Sequence[tuple[float, int, Mask, Mask]]) -> bool:
        """Reduces a state until it fits, by losses known from before something was added; whether it does."""
        if state.size <= room:
            return True
        self.drop_idle(state, keep)
        left = sorted(losses)
        while state.size > room:
            excess = state.size - room
            best: tuple[float, Mask, Mask] | None = None
            for loss, size, drop, add in left:
                if drop & state.mask and not (drop & keep or add & state.mask):
                    rate = (max(0.0, loss) / min(size, excess), drop, add)
                    if best is None or rate < best:
                        best = rate
            if best is None:
                return False
            self.apply(state, best[2], best[1])
        return True

    def _fit_count(self, state: State, count: int, keep: Mask) -> bool:
        while state.mask.bit_count() > count:
            losses = [(-self.gain(state, 0, bit), bit) for bit in bits(state.mask & ~keep)]
            if not losses:
                return False
            self.apply(state, 0, min(losses)[1])
        return True


def _cheapest(plans: Iterable[PlanCost], mask: Mask) -> PlanCost:
    for plan in plans:
        if not plan.needs & ~mask:
            return plan
    raise AssertionError("the plan with the indexes that exist needs no candidate")
