"""Finds sets of indexes: a frontier of sets, from small to large, each better than the ones before.

1. *Ablation*: each statement is planned with all of its candidates; those in the plan are taken away and it is planned
   again, until nothing is used. What was never used is dropped (of thousands of candidates some dozens stay).
2. *Variants*: what survived is merged where one index can do the work of two, and simplified.
3. *Greedy paths*: from the empty set, the move with the best gain for its size is added (lazily evaluated: gains mostly
   shrink as a set grows, Minoux 1978). A move is one index or several that only help together. Paths differ in how much
   size counts and in the largest index allowed; all their prefixes are candidates for the frontier.

The paths do not depend on the budget, so that more budget never gives a worse set.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dbperf.indexes.candidates import prefix_of
from dbperf.indexes.costs import NONE, Costs, Names, Planned, Table

ABLATION_ROUNDS = 3
_LIVE_ROUNDS = 3
_AT_ONCE = 4
_FILLS, _FILL_STEP = 8, 1.6
FLOOR = 1e-4
"""Of the objective; less is not worth an index whatever it concerns."""
_STEPS_MOST = 200
PATHS = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.6))
"""How a path weighs size (gain / size ** exponent), and the quantile of sizes that it may use."""


@dataclass(frozen=True)
class Point:
    """A set on the frontier."""

    names: tuple[str, ...]
    """In the order in which they were added."""
    size_bytes: int
    objective: float
    """1 is the workload as it is; lower is better."""


@dataclass
class Search:
    """One search.

    Args:
        coefficients: what a unit of a statement's cost adds to the objective.
        sizes: bytes of each candidate.
        writes: what each candidate adds to the objective by its maintenance.
        minimum_gain: moves that lower the cost of the statements that use them by a smaller share are not made: that is
            the noise of the statistics.
        budget_bytes: paths end at twice this size: it cuts them short, and changes no step of theirs.
        deadline: on time.monotonic(); None: no limit.
    """

    costs: Costs
    statements: Sequence[Planned]
    coefficients: Mapping[str, float]
    sizes: Mapping[str, int]
    writes: Mapping[str, float]
    minimum_gain: float = 0.005
    max_indexes: int | None = None
    deadline: float | None = None
    budget_bytes: int | None = None
    moves: dict[Names, None] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    stopped: bool = False

    def __post_init__(self) -> None:
        self._by_table: dict[Table, list[Planned]] = {}
        for s in self.statements:
            for table in s.tables:
                self._by_table.setdefault(table, []).append(s)

    async def ablate(
        self, statements: Iterable[Planned], candidates: Callable[[Planned], Names], rounds: int = ABLATION_ROUNDS
    ) -> set[str]:
        """Candidates that some plan uses; sets that are used together become moves."""
        survivors: set[str] = set()
        left = [(s, candidates(s)) for s in statements]
        for _ in range(rounds):
            left = [(s, names) for s, names in left if names]
            if not left or self.late():
                break
            await self.costs.learn(left)
            following = []
            for s, names in left:
                used = self.costs.used(s, names) & names
                if not used or self.costs.cost(s, names) >= s.base * (1 - 1e-6):
                    continue
                survivors |= used
                s.live |= used
                if len(used) > 1:
                    self.moves[frozenset(used)] = None
                following.append((s, names - used))
            left = following
        return survivors

    async def run(self, names: Iterable[str]) -> list[Point]:
        """The frontier over these candidates, smallest first; it starts with the empty set."""
        for name in sorted(names):
            self.moves[frozenset((name,))] = None
        self.points.append(Point((), 0, await self.objective(NONE)))
        await self.ablate(self.statements, self.costs.offered, _LIVE_ROUNDS)
        moves = sorted(self.moves, key=sorted)
        sizes = sorted(self._size(m) for m in moves)
        try:
            await self._fills()
            for exponent, quantile in PATHS:
                cap = sizes[int((len(sizes) - 1) * quantile)] if sizes else 0
                await self._path([m for m in moves if self._size(m) <= cap], exponent)
        except asyncio.CancelledError:
            self.stopped = True
        return self.frontier()

    async def _fills(self) -> None:
        """Knapsacks filled by benefit for size, as the DB2 Advisor does (Valentin et al. 2000).

        A statement's gain with everything on offer is credited to the indexes that its plan uses. Sizes are a grid of
        their own, so that these points too are the same for every budget.
        """
        seen: set[Names] = set()
        benefit = self.benefits(self.costs.offered)
        order = sorted(
            (n for n in benefit if benefit[n] > self.writes[n]), key=lambda n: (-benefit[n] / self.sizes[n], n)
        )
        room = float(self._size(order))
        for _ in range(_FILLS):
            chosen: list[str] = []
            for name in order:
                if self._size(chosen) + self.sizes[name] <= room and not self._superfluous(name, chosen):
                    chosen.append(name)
            room /= _FILL_STEP
            names = frozenset(chosen[: self.max_indexes])
            too_large = self.budget_bytes is not None and self._size(names) > 2 * self.budget_bytes
            if names in seen or too_large or self.late():
                continue
            seen.add(names)
            await self.costs.learn([(s, names) for s in self.statements])
            kept = await self._without_idle(tuple(chosen[: self.max_indexes]), NONE)
            self.points.append(Point(kept, self._size(kept), await self.objective(frozenset(kept))))

    def benefits(self, offered: Callable[[Planned], Names]) -> dict[str, float]:
        """Each statement's gain with everything on offer, shared among the candidates that its plan uses."""
        benefit: dict[str, float] = {}
        for s in self.statements:
            names = offered(s)
            if s.settled(names) is None:
                continue
            used = self.costs.used(s, names)
            for name in used:
                gain = self.coefficients[s.key] * (s.base - self.costs.cost(s, names)) / len(used)
                benefit[name] = benefit.get(name, 0.0) + gain
        return benefit

    def _superfluous(self, name: str, chosen: Sequence[str]) -> bool:
        return any(prefix_of(self.costs.specs[name], self.costs.specs[c]) for c in chosen)

    async def _path(self, moves: Sequence[Names], exponent: float) -> None:
        """Adds the best move until none is left that gains enough; each set on the way is a point."""
        chosen: tuple[str, ...] = ()
        heap = [(-math.inf, i, -1) for i in range(len(moves))]
        for step in range(_STEPS_MOST):
            if self.late() or (self.max_indexes is not None and len(chosen) >= self.max_indexes):
                return
            current = frozenset(chosen)
            await self._prepare(current)
            picked = await self._pick(heap, moves, current, exponent, step)
            if picked is None:
                return
            chosen = await self._without_idle((*chosen, *sorted(picked)), picked)
            size = self._size(chosen)
            self.points.append(Point(chosen, size, await self.objective(frozenset(chosen))))
            if self.budget_bytes is not None and size > 2 * self.budget_bytes:
                return

    async def _pick(
        self, heap: list[tuple[float, int, int]], moves: Sequence[Names], current: Names, exponent: float, step: int
    ) -> Names | None:
        """The move with the best score; `heap` has (minus score, move, step in which it was found) and is kept up."""
        while heap:
            score, i, evaluated = heapq.heappop(heap)
            new = moves[i] - current
            if not new or (self.max_indexes is not None and len(current) + len(new) > self.max_indexes):
                continue
            weight, least = self._size(new) ** exponent, self._least(current, moves[i])
            if evaluated == step:
                if -score * weight < least:
                    continue  # small for its gain, and the gain is noise
                return new
            bound = -self._bound(current, moves[i]) / weight
            if bound > score and heap and bound > heap[0][0]:
                if -bound * weight >= least:
                    heapq.heappush(heap, (bound, i, evaluated))
                continue
            batch = [i]
            # A few at a time: one round trip answers them all.
            while step == 0 and heap and len(batch) < _AT_ONCE and heap[0][2] != step:
                batch.append(heapq.heappop(heap)[1])
            gains = await self._gains(current, [moves[k] for k in batch])
            for j, gain in zip(batch, gains, strict=True):
                if gain > FLOOR and moves[j] - current:
                    heapq.heappush(heap, (-gain / self._size(moves[j] - current) ** exponent, j, step))
        return None

    async def _without_idle(self, chosen: tuple[str, ...], new: Names) -> tuple[str, ...]:
        """The set without those that the new ones made superfluous."""
        kept = list(chosen)
        for name in chosen:
            if name in new:
                continue
            current = frozenset(kept)
            on = self._concerned(frozenset((name,)))
            await self.costs.learn([(s, current) for s in on])
            users = [s for s in on if name in self.costs.used(s, current)]
            await self.costs.learn([(s, current - {name}) for s in users])
            lost = sum(
                self.coefficients[s.key] * (self.costs.cost(s, current - {name}) - self.costs.cost(s, current))
                for s in users
            )
            if lost - self.writes[name] < self._least(current, frozenset((name,))) / 2:
                kept.remove(name)
        return tuple(kept)

    async def _prepare(self, current: Names) -> None:
        """Asks each statement once what it would use on top of the set: what it never used is not tried with it."""
        wanted = [(s, self.costs.offered(s) | (current & self.costs.relevant(s))) for s in self.statements]
        await self.costs.learn([(s, current) for s, _ in wanted])
        for s, names in wanted:
            if s.settled(names) is not None:
                s.live |= self.costs.used(s, names)

    async def _gains(self, current: Names, moves: Sequence[Names]) -> list[float]:
        concerned = [[s for s in self._concerned(move) if move & s.live] for move in moves]
        wanted = [(s, names) for move, on in zip(moves, concerned, strict=True) for s in on
                  for names in (current, current | move)]  # fmt: skip
        await self.costs.learn(wanted)
        gains = []
        for move, on in zip(moves, concerned, strict=True):
            saved = sum(
                self.coefficients[s.key] * (self.costs.cost(s, current) - self.costs.cost(s, current | move))
                for s in on
            )
            gains.append(saved - sum(self.writes[n] for n in move - current))
        return gains

    def _least(self, current: Names, move: Names) -> float:
        """What a move must gain: the noise of the costs that it can change, not of the whole workload's."""
        concerned = (s for s in self._concerned(move) if move & s.live)
        return max(
            FLOOR, self.minimum_gain * sum(self.coefficients[s.key] * self.costs.cost(s, current) for s in concerned)
        )

    def _bound(self, current: Names, move: Names) -> float:
        """What a move can gain at most: no plan is cheaper than the one with everything on offer."""
        return sum(
            self.coefficients[s.key] * (self.costs.cost(s, current) - min(k.cost for k in s.known))
            for s in self._concerned(move)
            if move & s.live
        )

    def _concerned(self, move: Names) -> list[Planned]:
        """Statements on a table of the move."""
        found: dict[int, Planned] = {}
        for name in sorted(move):
            spec = self.costs.specs[name]
            found.update((id(s), s) for s in self._by_table.get((spec.schema, spec.table), ()))
        return list(found.values())

    async def objective(self, names: Names) -> float:
        """Weighted cost of the workload under a set, maintenance included."""
        await self.costs.learn([(s, names) for s in self.statements])
        reads = sum(self.coefficients[s.key] * self.costs.cost(s, names) for s in self.statements)
        return reads + sum(self.writes[n] for n in names)

    def frontier(self) -> list[Point]:
        """Points that are worth their size: each better than the smaller ones."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.size_bytes, p.objective, p.names)):
            if not kept or point.objective < kept[-1].objective - FLOOR:
                kept.append(point)
        return kept

    def _size(self, names: Iterable[str]) -> int:
        return sum(self.sizes[n] for n in names)

    def late(self) -> bool:
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.stopped = True
        return self.stopped
