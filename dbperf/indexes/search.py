"""Finds sets of indexes: a frontier of sets, from small to large, each better than the ones before.

1. The plans of each statement are explored (`explore`): questions to the planner.
2. For each size of a fixed grid the best set is sought among what known plans promise (`model`): no question.
3. Each such set is *verified*: the planner is asked for what does not follow from its answers, also without each index.
   What it says is learned, and the set sought again until it holds.

Sizes are visited from small to large and a step never looks at what a larger one learned: a budget only says where to
end. So more budget never gives a worse set.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dbperf.indexes.candidates import prefix_of
from dbperf.indexes.costs import Costs, Mask, Planned, bits
from dbperf.indexes.explore import explore, guess
from dbperf.indexes.model import FLOOR, Model, State
from dbperf.indexes.moves import Moves

_GRID = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
"""Preferred numbers (ISO 3, R10) of MiB: round budgets are on the grid."""
_EXPONENTS = (1.0, 0.5, 0.0)
_AGAIN = 4
_HURRIED = 0.25
"""Of the budget: where time is short, no time is spent on smaller sizes."""
_MADE_UNTIL, _EXPLORED_UNTIL = 0.45, 0.7
"""Shares of the time limit. What has no candidates by then gains nothing, so that most of the time goes there."""
_STARTS = 3
_LARGE = 0.03
"""Of a set's size: without smaller ones it is not tried."""


_Pool = dict[Mask, tuple[int, float]]
"""Sets with their sizes, and what known plans promised when they were found."""


@dataclass(frozen=True)
class Point:
    """A set on the frontier."""

    names: tuple[str, ...]
    size_bytes: int
    objective: float
    """1 is the workload as it is; lower is better."""
    cost: float = 0.0
    """Of the whole workload, in the planner's units, maintenance included."""


@dataclass
class Search:
    """One search.

    Args:
        coefficients: what a unit of a statement's cost adds to the objective.
        sizes: bytes of each candidate.
        writes: what each candidate adds to the objective by its maintenance.
        minimum_gain: moves that lower the cost of the statements that use them by a smaller share are not made: that is
            the noise of the statistics.
        budget_bytes: no larger set is looked at.
        deadline: on time.monotonic(); None: no limit.
    """

    costs: Costs
    statements: Sequence[Planned]
    coefficients: Mapping[str, float]
    sizes: Mapping[str, int]
    writes: Mapping[str, float]
    total: Callable[[Mask], float]
    """The whole workload's cost under a set."""
    minimum_gain: float = 0.005
    max_indexes: int | None = None
    deadline: float | None = None
    budget_bytes: int | None = None
    dear: Collection[str] = ()
    """Keys of statements that are worth more questions."""
    points: list[Point] = field(default_factory=list)
    stopped: bool = False
    """By the deadline or from outside."""
    hurried: bool = False
    """Questions were left out for want of time."""
    started: float = field(default_factory=time.monotonic)

    async def run(self, names: Iterable[str]) -> list[Point]:
        """The frontier over these candidates, smallest first; it starts with the empty set."""
        kept = sorted(names)
        try:
            await self._point(0)
            sizes, tables = self.by_bit(kept)
            await explore(self.costs, self.statements, sizes, tables, self.explored_late, self.dear, self.coefficients)
            guess(self.costs, self.statements, self._serves(kept), sizes)
            model = Model(
                self.statements,
                [self.coefficients[s.key] for s in self.statements],
                sizes,
                {self.costs.bits[n]: self.writes[n] for n in kept},
                tables,
                self.minimum_gain,
            )
            await self._grid(model)
        except asyncio.CancelledError:
            self.stopped = True
        return self.frontier()

    def by_bit(self, names: Iterable[str]) -> tuple[dict[Mask, int], dict[Mask, Mask]]:
        """Sizes, and the candidates on the same table."""
        names = list(names)
        on: dict[tuple[str, str], Mask] = {}
        table = {n: (self.costs.specs[n].schema, self.costs.specs[n].table) for n in names}
        for n in names:
            on[table[n]] = on.get(table[n], 0) | self.costs.bits[n]
        return {self.costs.bits[n]: self.sizes[n] for n in names}, {self.costs.bits[n]: on[table[n]] for n in names}

    def _serves(self, names: Sequence[str]) -> dict[Mask, Mask]:
        found: dict[Mask, Mask] = {}
        groups: dict[tuple[str, str, str], list[str]] = {}
        for n in names:
            spec = self.costs.specs[n]
            groups.setdefault((spec.schema, spec.table, str(spec.keys[0])), []).append(n)
        for group in groups.values():
            for a in group:
                wider = [b for b in group if prefix_of(self.costs.specs[a], self.costs.specs[b])]
                found[self.costs.bits[a]] = self.costs.mask(wider)
        return found

    async def _grid(self, model: Model) -> None:
        moves = Moves(model, self.late)
        count = len(model.sizes) if self.max_indexes is None else self.max_indexes
        pool = self._paths(moves, count)
        last: Mask = 0
        for room in self._rooms(model, pool):
            if self.late():
                # What was not visited stands as it was promised by known plans.
                limit = math.inf if self.budget_bytes is None else self.budget_bytes
                fitting = [model.state(m) for m, (size, _) in pool.items() if size <= limit]
                if fitting:
                    await self._point(min(fitting, key=lambda s: (s.objective, s.size, s.mask)).mask)
                return
            starts = [*self._starts(pool, room), last]
            for attempt in range(_AGAIN):
                best = moves.improve([model.state(m) for m in dict.fromkeys(starts)], room, count)
                learned = await self._verify(model, best, room)
                await self._point(best.mask)
                if not learned or self.late():
                    break
                if attempt == 0:
                    renewed = self._paths(moves, count)
                    pool = pool if self.late() else renewed  # which may have been cut short
                starts = [best.mask, last]
            last = best.mask
        limit = math.inf if self.budget_bytes is None else self.budget_bytes
        # For the curve: what there is beyond the budget.
        beyond = [model.state(m) for m, (size, _) in pool.items() if size > limit]
        if beyond:
            await self._point(min(beyond, key=lambda s: (s.objective, s.size, s.mask)).mask)

    def _rooms(self, model: Model, pool: _Pool) -> Iterator[float]:
        """Sizes from the smallest index up to all that is of use, or to the budget."""
        most = max((size for size, _ in pool.values()), default=0)
        least = max(most / 200, min(model.sizes.values(), default=0))
        if self.hurried:
            least = max(least, _HURRIED * min(most, self.budget_bytes or math.inf))
        for power in range(-2, 12):
            for step in _GRID:
                room = step * 10.0**power * (1 << 20)
                if self.budget_bytes is not None and room > self.budget_bytes:
                    return
                if room >= least:
                    yield room
                if room >= most:
                    if self.budget_bytes is None:
                        yield math.inf
                    return

    def _paths(self, moves: Moves, count: int) -> _Pool:
        """Sets on the ways up from nothing and down from everything, with their sizes."""
        model = moves.model
        found: _Pool = {}

        def visit(state: State) -> None:
            if state.mask.bit_count() <= count:
                found[state.mask] = state.size, state.objective

        tops = []
        for exponent in _EXPONENTS:
            state = model.state(0)
            moves.forwards(state, math.inf, len(model.sizes), exponent, visit)
            tops.append(state)
        best = min(tops, key=lambda s: (s.objective, s.size, s.mask))
        moves.backwards(best.copy(), visit)
        return found

    @staticmethod
    def _starts(pool: _Pool, room: float) -> list[Mask]:
        """The most promising sets that fit."""
        fitting = sorted((objective, size, mask) for mask, (size, objective) in pool.items() if size <= room)
        return [mask for *_, mask in fitting[:_STARTS]]

    async def _verify(self, model: Model, state: State, room: float) -> bool:
        """Asks what a set costs, without each of its larger indexes, and with all that fits beside it.

        Returns:
            Whether that was new.
        """
        left = self._up_to(model, room - state.size)
        wanted: list[tuple[Planned, Mask]] = []
        for i, s in enumerate(model.statements):
            offered = self.costs.offered(s)
            mask = state.mask & offered
            wanted.append((s, mask))
            if s.key in self.dear:
                wanted += [
                    (s, mask & ~bit) for bit in bits(model.uses(state, i)) if model.sizes[bit] >= _LARGE * state.size
                ]
                wanted.append((s, mask | left & offered))
        await self.costs.learn(wanted, self.late)
        return model.refresh()

    @staticmethod
    def _up_to(model: Model, size: float) -> Mask:
        found = 0
        for bit, its in model.sizes.items():
            if its <= size:
                found |= bit
        return found

    async def _point(self, mask: Mask) -> None:
        """Enters a set, without what no plan uses."""
        while True:
            if not self.late():
                await self.costs.learn([(s, mask) for s in self.statements], self.late)
            used = 0
            for s in self.statements:
                used |= self.costs.used(s, mask)
            if not mask & ~used:
                break
            mask &= used
        names = tuple(self.costs.names(mask))
        size = sum(self.sizes[n] for n in names)
        if not any(p.names == names for p in self.points):
            self.points.append(Point(names, size, self.objective(mask), self.total(mask)))

    def objective(self, mask: Mask) -> float:
        """Weighted cost of the workload under a set, maintenance included."""
        reads = sum(self.coefficients[s.key] * self.costs.cost(s, mask) for s in self.statements)
        return reads + sum(self.writes[n] for n in self.costs.names(mask))

    def frontier(self) -> list[Point]:
        """Points that are worth their size, smallest first: each lowers the objective, and none the workload raises.

        They are taken in the order in which they were found: larger budgets only add to the end.
        """
        kept: list[Point] = []
        for point in self.points:
            last = kept[-1] if kept else None
            if last and (point.objective >= last.objective - FLOOR or point.cost > last.cost):
                continue
            kept = [p for p in kept if p.size_bytes < point.size_bytes] + [point]
        return kept

    def late(self) -> bool:
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.stopped = True
        return self.stopped

    def made_late(self) -> bool:
        """Whether no more candidates are to be made."""
        return self._past(_MADE_UNTIL)

    def explored_late(self) -> bool:
        """Whether exploring is to end, so that there is time to choose."""
        return self._past(_EXPLORED_UNTIL)

    def _past(self, share: float) -> bool:
        past = self.deadline is not None and time.monotonic() > self.started + share * (self.deadline - self.started)
        self.hurried |= past
        return past or self.stopped
