"""Counters for the members of a bounded set, and one bucket for all others (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

OTHER = "other"
FADE = 0.9
"""What a look keeps of the weight of earlier ones: at one look in 15 s, half after 1 min 40 s."""
LEAD = 2.0
"""Who is not a member takes the place of one when its weight is that many times the member's."""
K = TypeVar("K", int, str)


class TopCounters(Generic[K]):
    """The `top` heaviest by recent weight, each with counters of its own, and one bucket for all others.

    A member stays until another has `LEAD` times its weight, so that two of equal weight don't take turns. What
    somebody did before becoming a member was counted in the bucket and stays there; when it leaves, its counters end
    and what it does from then on goes to the bucket. Every increase is thus in exactly one place, and nothing ever
    falls: rates add up to the total, values don't.
    """

    def __init__(self, top: int) -> None:
        self.top = top
        self.members: dict[K, Counter[str]] = {}
        self.other: Counter[str] = Counter()
        self._weights: dict[K, float] = {}

    def choose(self, weights: Mapping[K, float]) -> None:
        """Adds what was done since the last call to the weights, and gives places by them."""
        self._weights = {k: w * FADE for k, w in self._weights.items() if k in self.members or w > 1e-6}
        for key, weight in weights.items():
            self._weights[key] = self._weights.get(key, 0.0) + weight
        waiting = sorted((k for k in weights if k not in self.members), key=lambda k: (-self._weights[k], k))
        for key in waiting:
            if len(self.members) >= self.top:
                weakest = min(self.members, key=lambda k: (self._weights.get(k, 0.0), k))
                if self._weights[key] <= LEAD * self._weights.get(weakest, 0.0):
                    return
                del self.members[weakest]
            self.members[key] = Counter()

    def count(self, done: Mapping[K, Mapping[str, float]]) -> None:
        """Adds increases to the members' counters, and everybody else's to the bucket."""
        for key, figures in done.items():
            self.members.get(key, self.other).update(figures)

    def keep(self, existing: Iterable[K]) -> None:
        """Those that are gone lose their places."""
        known = set(existing)
        for key in [k for k in self.members if k not in known]:
            del self.members[key]
            self._weights.pop(key, None)


class Names:
    """The first `most` names keep theirs, all later ones are "other"."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """The name to count under.

        >>> names = Names(1)
        >>> [names.of(n) for n in ("a", "b", "a")]
        ['a', 'other', 'a']
        """
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name
