"""Local moves among sets of indexes, judged by a `Model`:

- *forwards*: add what some plan still misses, the best gain for its size first, lazily evaluated (Minoux 1978);
- *backwards*: drop an index or put a smaller one in its place, the least loss for its size first (the relaxations of
  Bruno and Chaudhuri, "Automatic Physical Database Tuning: A Relaxation-based Approach", SIGMOD 2005);
- *exchange*: add, and go backwards until it fits again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from dbperf.indexes.costs import Mask, bits
from dbperf.indexes.model import FLOOR, Model, Promises, State

_ROUNDS = 12
_IMPROVED = 2
_EXCHANGES = 16
_LOOKED_AT = 8

_Loss = tuple[float, int, Mask, Mask]
"""Loss of the objective, bytes that it frees, what is dropped, what is put in its place."""


class Moves:
    """Ways from one set to a better one.

    Args:
        late: whether time is up: then what was reached counts.
    """

    def __init__(self, model: Model, late: Callable[[], bool] = lambda: False) -> None:
        self.model = model
        self.late = late

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
        self._forwards(Promises(self.model, state), room, count, exponent, visit)

    def _forwards(
        self, promises: Promises, room: float, count: int, exponent: float, visit: Callable[[State], None] | None = None
    ) -> None:
        model, state, total = self.model, promises.state, promises.total
        size_of, weights, enough = model.size, model.weights(exponent), FLOOR / 2
        heap: list[tuple[float, Mask, float]] = []

        def entries(keys: Iterable[Mask]) -> Iterator[tuple[float, Mask, float]]:
            for key in keys:
                gain = total[key]
                if gain > enough:
                    weight = weights.get(key)
                    if weight is None:
                        weight = weights[key] = size_of(key) ** exponent
                    yield -gain / weight, -key, gain

        heap.extend(entries(total))
        heapq.heapify(heap)
        while not self.late():
            best: tuple[float, Mask] | None = None
            looked_at: list[tuple[float, Mask, float]] = []
            large: list[tuple[float, Mask, float]] = []
            while heap and len(looked_at) < _LOOKED_AT:
                entry = heapq.heappop(heap)
                add = -entry[1]
                if total.get(add) != entry[2] or (looked_at and entry == looked_at[-1]):
                    continue  # it has changed since
                if state.size + size_of(add) > room or state.mask.bit_count() + add.bit_count() > count:
                    large.append(entry)
                    continue
                gain = model.gain(state, add)
                if gain < model.least(state, add):
                    continue  # until its promise changes
                looked_at.append(entry)
                score = (gain / size_of(add) ** exponent, add)
                if best is None or score > best:
                    best = score
            if best is None:
                return
            size = state.size
            dirty = promises.apply(best[1])
            dirty |= self._drop_idle(promises, best[1])
            for entry in looked_at:
                heapq.heappush(heap, entry)
            if state.size < size + size_of(best[1]):
                # Something was dropped, so that what was too large may fit.
                for entry in large:
                    heapq.heappush(heap, entry)
            for entry in entries(dirty):
                heapq.heappush(heap, entry)
            if visit is not None:
                visit(state)

    def _idle(self, state: State, keep: Mask) -> Iterable[Mask]:
        """Indexes whose work others do, to within half of what one must gain; each is to be dropped at once."""
        on = 0
        for bit in bits(keep):
            on |= self.model.tables[bit]
        for bit in bits(state.mask & ~keep & (on or -1)):
            if -self.model.gain(state, 0, bit) < self.model.least(state, bit) / 2:
                yield bit

    def drop_idle(self, state: State, keep: Mask = 0) -> None:
        """Drops indexes whose work others do; with `keep`, only on the same tables."""
        for bit in self._idle(state, keep):
            self.model.apply(state, 0, bit)

    def _drop_idle(self, promises: Promises, keep: Mask = 0) -> set[Mask]:
        dirty: set[Mask] = set()
        for bit in self._idle(promises.state, keep):
            dirty |= promises.apply(0, bit)
        return dirty

    # Backwards

    def _rate(self, state: State, drop: Mask, add: Mask, excess: int) -> float:
        """Loss for a byte; bytes beyond the excess are worth nothing."""
        loss = max(0.0, -self.model.gain(state, add, drop))
        return loss / min(self.model.size(drop) - self.model.size(add), excess)

    def backwards(self, state: State, visit: Callable[[State], None]) -> None:
        """Down to the empty set, a reduction at a time; rates mostly rise as a set shrinks, so that few are renewed."""
        heap: list[tuple[float, Mask, Mask]] = []

        def enter(bit: Mask) -> None:
            for drop, add in self.model.reductions(state, bit):
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
            self.model.apply(state, add, drop)
            if add:
                enter(add)
            visit(state)

    # Exchange

    def improve(self, starts: Iterable[State], room: float, count: int) -> State:
        """The best state that additions and then exchanges reach within some bytes and a number of indexes.

        Additions are made to all of the starts (which are changed), exchanges in the most promising results.
        """
        grown: dict[Mask, Promises] = {}
        for state in starts:
            promises = Promises(self.model, state)
            self._forwards(promises, room, count, 1.0)
            grown.setdefault(state.mask, promises)
        best = sorted(grown.values(), key=lambda p: _rank(p.state))[:_IMPROVED]
        for promises in best:
            self._exchanges(promises, room, count)
        return min((p.state for p in best), key=_rank)

    def _exchanges(self, promises: Promises, room: float, count: int) -> None:
        for _ in range(_ROUNDS):
            moves = None if self.late() else self._exchange(promises, room, count)
            if moves is None:
                break
            for add, drop in moves:
                promises.apply(add, drop)
            self._drop_idle(promises)
            self._forwards(promises, room, count, 1.0)

    def _exchange(self, promises: Promises, room: float, count: int) -> list[tuple[Mask, Mask]] | None:
        model, state = self.model, promises.state
        found = [
            (gain / model.size(add) ** 0.5, add)
            for add, gain in promises.total.items()
            if gain > FLOOR and model.size(add) <= room and add.bit_count() <= count
        ]
        losses = [
            (-model.gain(state, a, d), model.size(d) - model.size(a), d, a)
            for d, a in model.reductions(state, state.mask)
        ]
        losses.sort()
        best, moves = state.objective - FLOOR, None
        left = _EXCHANGES
        for _, add in sorted(found, reverse=True):
            gain = model.gain(state, add)
            if state.objective - gain >= best or gain < model.least(state, add):
                continue  # what must go to make room only adds to the objective
            if not left:
                break
            left -= 1
            trial = state.copy()
            model.apply(trial, add)
            if not self._fit(trial, room, add, losses) or not self._fit_count(trial, count, add):
                continue
            if trial.objective < best:
                best, moves = trial.objective, trial.moves
        return moves

    def _fit(self, state: State, room: float, keep: Mask, losses: list[_Loss]) -> bool:
        """Reduces a state until it fits, by losses known from before something was added; whether it does.

        Args:
            losses: least first.
        """
        if state.size <= room:
            return True
        self.drop_idle(state, keep)
        while state.size > room:
            excess, mask = state.size - room, state.mask
            best: tuple[float, Mask, Mask] | None = None
            for loss, size, drop, add in losses:
                if best is not None and loss > best[0] * excess:
                    break  # as are all that follow
                if drop & mask and not (drop & keep or add & mask):
                    rate = ((loss if loss > 0 else 0.0) / (size if size < excess else excess), drop, add)
                    if best is None or rate < best:
                        best = rate
            if best is None:
                return False
            self.model.apply(state, best[2], best[1])
        return True

    def _fit_count(self, state: State, count: int, keep: Mask) -> bool:
        while state.mask.bit_count() > count:
            losses = [(-self.model.gain(state, 0, bit), bit) for bit in bits(state.mask & ~keep)]
            if not losses:
                return False
            self.model.apply(state, 0, min(losses)[1])
        return True


def _rank(state: State) -> tuple[float, int, Mask]:
    return state.objective, state.size, state.mask
