"""What statements cost under sets of indexes, with as few what-if calls as the planner's own answers allow.

A statement's cost depends only on the indexes on its own tables. If its plan under the set C uses the subset U, then
every set between U and C has the same plan and cost: one answer settles many questions. And whatever else is there, a
plan stays possible while its indexes are: the cheapest known plan that a set allows bounds the set's cost from above
(the plan cache of INUM: Papadomanolakis, Dash, Ailamaki, "Efficient Use of the Query Optimizer for Automated Physical
Design", VLDB 2007). Sets are bit masks here: comparing them is most of what a search does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dbperf.postgres.whatif import Answer, PlanJson, Question, WhatIf, nodes
from dbperf.records.advice import IndexSpec

Table = tuple[str, str]
Mask = int
"""A set of candidates; `Costs.mask` and `Costs.names` translate."""
_CHUNK = 512
"""Questions between two looks at the clock."""


class Known(NamedTuple):
    """One answer: for every set between `deciding` and `whole` the cost and the plan are the same."""

    whole: Mask
    deciding: Mask
    used: Mask
    cost: float


class PlanCost(NamedTuple):
    """A plan that is possible wherever its indexes are."""

    cost: float
    needs: Mask
    guess: bool = False
    """Not the planner's answer: an index is taken to do the work of a narrower one that begins it."""


@dataclass
class Planned:
    """A statement of the workload that can be planned."""

    id: str
    """Of the workload's statement."""
    key: str
    """Tells its variants (generic plan, common values) apart."""
    text: str
    calls: float
    tables: frozenset[Table]
    base: float = 0.0
    """Cost with the indexes that exist."""
    plan: PlanJson | None = None
    own: Mask = 0
    """Candidates that were made for it."""
    made: set[str] = field(default_factory=set)
    """Names of all that were ever made for it..."""
    helped: set[str] = field(default_factory=set)
    """...and of what its plans used of what is forgotten."""
    leading: frozenset[tuple[str, str, str]] = frozenset()
    """Schema, table and first key of its own candidates."""
    expressions: frozenset[str] = frozenset()
    """Expressions that its own candidates have as keys."""
    known: list[Known] = field(default_factory=list)
    plans: list[PlanCost] = field(default_factory=list)
    """Cheapest first; none needs all that a cheaper one needs."""
    changed: bool = True
    """`plans` has changed since a model read it."""
    _settled: dict[Mask, Known] = field(default_factory=dict)
    offered: tuple[int, Mask] = (-1, 0)
    """See `Costs.offered`: for which candidates it was found out, and the set."""

    @property
    def live(self) -> Mask:
        """Candidates that some plan of it used."""
        found = 0
        for known in self.known:
            found |= known.used
        return found

    def settled(self, mask: Mask) -> Known | None:
        """The answer that a set's follows from."""
        if (found := self._settled.get(mask)) is None:
            absent = ~mask
            for known in reversed(self.known):
                if not known.deciding & absent and not mask & ~known.whole:
                    found = self._settled[mask] = known
                    break
        return found

    def bound(self, mask: Mask) -> PlanCost:
        """The cheapest known plan that a set allows: the set costs this or less (guesses left out)."""
        for plan in self.plans:
            if not plan.needs & ~mask and not plan.guess:
                return plan
        return PlanCost(self.base, 0)

    def keep(self, known: Sequence[Known]) -> None:
        """Knows no other answers than these from here on."""
        self.known, self.plans = [], []
        self._settled.clear()
        for k in known:
            self.learn(k)

    def learn(self, known: Known) -> None:
        self.known.append(known)
        # What this answer contradicts was guessed too low.
        self.plans = [p for p in self.plans if not (p.guess and p.cost < known.cost and not p.needs & ~known.whole)]
        self.enter(PlanCost(known.cost, known.deciding))
        self.changed = True

    def enter(self, plan: PlanCost) -> bool:
        """Adds a plan unless one that is no dearer needs no more; drops those that it makes pointless."""
        if any(p.cost <= plan.cost and not p.needs & ~plan.needs for p in self.plans):
            return False
        self.plans = [p for p in self.plans if p.cost < plan.cost or plan.needs & ~p.needs]
        self.plans.append(plan)
        self.plans.sort()
        self.changed = True
        return True


class Costs:
    """Answers from memory where they follow, else from the planner, in batches."""

    def __init__(self, planner: WhatIf, *, skip_scan: bool) -> None:
        """
        Args:
            skip_scan: the target's planner can skip over a B-tree's leading column (PostgreSQL 18); where it can't, a
                plan that needs it is planned again without the index.
        """
        self.planner = planner
        self.specs: dict[str, IndexSpec] = {}
        self.bits: dict[str, Mask] = {}
        self.name_of: dict[Mask, str] = {}
        self._leading: dict[tuple[str, str, str], Mask] = {}
        self._by_expression: dict[str, Mask] = {}
        self._version = 0
        self._skip_scan = skip_scan
        self.skipping: set[str] = set()
        """Candidates that only a newer planner would use in some plan."""

    def register(self, name: str, spec: IndexSpec) -> None:
        bit = 1 << len(self.bits)
        self._version += 1
        self.specs[name], self.bits[name], self.name_of[bit] = spec, bit, name
        leading = leading_of(spec)
        self._leading[leading] = self._leading.get(leading, 0) | bit
        for key in spec.keys:
            if key.expression is not None:
                self._by_expression[key.expression] = self._by_expression.get(key.expression, 0) | bit

    def keep(self, names: Iterable[str], statements: Iterable[Planned]) -> None:
        """Forgets all other candidates: the rest gets low bits again, and statements keep what concerns these alone."""
        kept = sorted(names, key=self.bits.__getitem__)
        old = {self.bits[name]: 1 << n for n, name in enumerate(kept)}
        all_kept = sum(old)

        def translated(mask: Mask) -> Mask:
            return sum([old[b] for b in bits(mask & all_kept)])

        for s in statements:
            s.made |= set(self.names(s.own))
            s.helped |= set(self.names(s.live))
            s.own = translated(s.own)
            s.keep([
                Known(translated(k.whole), translated(k.deciding), translated(k.used), k.cost)
                for k in s.known if not k.deciding & ~all_kept
            ])  # fmt: skip
        specs = {name: self.specs[name] for name in kept}
        self.bits, self.name_of, self._leading, self._by_expression = {}, {}, {}, {}
        self._version += 1  # also where none is kept: what was offered is gone
        for name, spec in specs.items():
            self.register(name, spec)

    def mask(self, names: Iterable[str]) -> Mask:
        found = 0
        for name in names:
            found |= self.bits[name]
        return found

    def names(self, mask: Mask) -> list[str]:
        """In the order in which they were registered."""
        return [self.name_of[b] for b in bits(mask)]

    def offered(self, statement: Planned) -> Mask:
        """Candidates on the statement's tables that begin as one of its own does: others can't serve it well."""
        version, found = statement.offered
        if version != self._version:
            found = 0
            for leading in statement.leading:
                found |= self._leading.get(leading, 0)
            statement.offered = (self._version, found)
        return found

    async def learn(self, wanted: Iterable[tuple[Planned, Mask]], stop: Callable[[], bool] | None = None) -> int:
        """Makes `cost` exact for all pairs, unless `stop` says that time is up; of a set counts what is offered.

        Returns:
            How many questions had to be asked.
        """
        questions: dict[tuple[str, Mask], Planned] = {}
        for statement, mask in wanted:
            cut = mask & self.offered(statement)
            if statement.settled(cut) is None:
                questions[statement.key, cut] = statement
        pairs = list(questions.items())
        for start in range(0, len(pairs), _CHUNK):
            if start and stop is not None and stop():
                return start
            await self._ask(pairs[start : start + _CHUNK])
        return len(pairs)

    async def _ask(self, pairs: Sequence[tuple[tuple[str, Mask], Planned]]) -> None:
        again: list[tuple[Planned, Mask, Mask]] = []
        asked = [Question(statement=s.text, on=frozenset(self.names(mask))) for (_, mask), s in pairs]
        for ((_, mask), statement), answer in zip(pairs, await self.planner.ask(asked), strict=True):
            skipping = 0 if self._skip_scan else self._skips(answer)
            if skipping:
                self.skipping.update(self.names(skipping))
                again.append((statement, mask, mask & ~skipping))
            else:
                self._store(statement, mask, answer)
        if again:
            await self.learn([(s, less) for s, _, less in again])
            for statement, mask, less in again:
                if found := statement.settled(less):
                    statement.known.append(Known(mask, less, found.used, found.cost))

    def _store(self, statement: Planned, mask: Mask, answer: Answer) -> None:
        # An index on an expression brings statistics: it may change a plan that does not use it.
        telling = 0
        for expression in statement.expressions:
            telling |= self._by_expression.get(expression, 0)
        used = self.mask(answer.used)
        cost = statement.base if answer.cost is None else answer.cost
        statement.learn(Known(mask, used | (telling & mask), used, cost))

    def _skips(self, answer: Answer) -> Mask:
        """Candidates whose index condition leaves out the leading key."""
        found = 0
        for node in nodes(answer.plan or {}):
            name, condition = node.get("Index Name"), node.get("Index Cond")
            if name not in answer.used or condition is None:
                continue
            spec = self.specs[name]
            leading = spec.keys[0].column
            if spec.method == "btree" and leading is not None and leading not in condition:
                found |= self.bits[name]
        return found

    def cost(self, statement: Planned, mask: Mask) -> float:
        """What `learn` was asked for, exactly; of other sets the least that is known to be possible."""
        cut = mask & self.offered(statement)
        known = statement.settled(cut)
        return statement.bound(cut).cost if known is None else known.cost

    def used(self, statement: Planned, mask: Mask) -> Mask:
        """The part of a set that the statement's plan uses."""
        cut = mask & self.offered(statement)
        known = statement.settled(cut)
        return statement.bound(cut).needs if known is None else known.used


def bits(mask: Mask) -> Iterator[Mask]:
    """The single members of a set, lowest first.

    >>> list(bits(0b1010))
    [2, 8]
    """
    while mask:
        lowest = mask & -mask
        yield lowest
        mask ^= lowest


def leading_of(spec: IndexSpec) -> tuple[str, str, str]:
    """Schema, table and first key."""
    return spec.schema, spec.table, spec.keys[0].column or spec.keys[0].expression or ""


def relations_in(plan: PlanJson | None, by_name: Mapping[str, Sequence[Table]]) -> set[Table]:
    """Tables that a plan scans; EXPLAIN without VERBOSE names no schema, so that all of a name are meant."""
    found: set[Table] = set()
    for node in nodes(plan or {}):
        if name := node.get("Relation Name"):
            found.update(by_name.get(name, ()))
    return found
