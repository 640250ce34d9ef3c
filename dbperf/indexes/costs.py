"""What statements cost under sets of indexes, with as few what-if calls as the planner's own answers allow.

A statement's cost depends only on the indexes on its own tables. If its plan under the set C uses the subset U, then
every set between U and C has the same plan and cost: one answer settles many questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dbperf.postgres.whatif import Answer, PlanJson, Question, WhatIf, nodes
from dbperf.records.advice import IndexSpec

Table = tuple[str, str]
Names = frozenset[str]
NONE: Names = frozenset()


class Known(NamedTuple):
    """One answer: for every set between `deciding` and `whole` the cost and the plan are the same."""

    whole: Names
    deciding: Names
    used: Names
    cost: float


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
    own: Names = NONE
    """Candidates that were made for it."""
    live: Names = NONE
    """Candidates that some plan of it used."""
    leading: frozenset[tuple[str, str, str]] = frozenset()
    """Schema, table and first key of its own candidates."""
    expressions: frozenset[str] = frozenset()
    """Expressions that its own candidates have as keys."""
    known: list[Known] = field(default_factory=list)

    found: dict[Names, float] = field(default_factory=dict)

    def find(self, names: Names) -> float | None:
        if names in self.found:
            return self.found[names]
        if (known := self.settled(names)) is None:
            return None
        self.found[names] = known.cost
        return known.cost

    def settled(self, names: Names) -> Known | None:
        """The answer that a set's follows from."""
        for known in reversed(self.known):
            if known.deciding <= names <= known.whole:
                return known
        return None


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
        self._leading: dict[str, tuple[str, str, str]] = {}
        self._on: dict[Table, set[str]] = {}
        self._relevant: dict[frozenset[Table], Names] = {}
        self._skip_scan = skip_scan
        self.skipping: set[str] = set()
        """Candidates that only a newer planner would use in some plan."""

    def register(self, name: str, spec: IndexSpec) -> None:
        self.specs[name] = spec
        self._leading[name] = leading_of(spec)
        self._relevant.clear()
        self._on.setdefault((spec.schema, spec.table), set()).add(name)

    def forget(self, names: Iterable[str]) -> None:
        self._relevant.clear()
        for name in names:
            spec = self.specs[name]
            self._on[spec.schema, spec.table].discard(name)

    def relevant(self, statement: Planned) -> Names:
        """Candidates on the statement's tables."""
        if (found := self._relevant.get(statement.tables)) is None:
            found = frozenset(n for t in statement.tables for n in self._on.get(t, ()))
            self._relevant[statement.tables] = found
        return found

    def offered(self, statement: Planned) -> Names:
        """Candidates on the statement's tables that begin as one of its own does: others can't serve it well."""
        names = self.relevant(statement)
        return frozenset(n for n in names if self._leading[n] in statement.leading)

    async def learn(self, wanted: Sequence[tuple[Planned, Names]]) -> None:
        """Makes `Planned.find` answer for all pairs; sets are cut to the statement's tables."""
        questions: dict[tuple[int, Names], Planned] = {}
        for statement, names in wanted:
            cut = names & self.relevant(statement)
            if statement.find(cut) is None:
                questions[id(statement), cut] = statement
        again: list[tuple[Planned, Names, Names]] = []
        pairs = list(questions.items())
        answers = await self.planner.ask([Question(statement=s.text, on=names) for (_, names), s in pairs])
        for ((_, names), statement), answer in zip(pairs, answers, strict=True):
            skipping = NONE if self._skip_scan else self._skips(answer)
            if skipping:
                self.skipping |= skipping
                again.append((statement, names, names - skipping))
            else:
                self._store(statement, names, answer)
        if again:
            await self.learn([(s, less) for s, _, less in again])
            for statement, names, less in again:
                if (cost := statement.find(less)) is not None:
                    used = self.used(statement, less)
                    statement.known.append(Known(names, less, used, cost))

    def _store(self, statement: Planned, names: Names, answer: Answer) -> None:
        # An index on an expression brings statistics: it may change a plan that does not use it.
        wanted = statement.expressions
        telling = {n for n in names if wanted and any(k.expression in wanted for k in self.specs[n].keys)}
        cost = statement.base if answer.cost is None else answer.cost
        statement.known.append(Known(names, frozenset(answer.used | telling), answer.used, cost))

    def _skips(self, answer: Answer) -> Names:
        """Candidates whose index condition leaves out the leading key."""
        found = set()
        for node in nodes(answer.plan or {}):
            spec = self.specs.get(self.planner_name(node.get("Index Name"), answer))
            condition = node.get("Index Cond")
            if spec is None or condition is None or spec.method != "btree":
                continue
            leading = spec.keys[0].column
            if leading is not None and leading not in condition:
                found.add(node["Index Name"])
        return frozenset(found & answer.used)

    @staticmethod
    def planner_name(index: str | None, answer: Answer) -> str:
        return index if index in answer.used else ""

    def cost(self, statement: Planned, names: Names) -> float:
        """A cost that `learn` was asked for.

        Raises:
            KeyError: it was not.
        """
        found = statement.find(names & self.relevant(statement))
        if found is None:
            raise KeyError(statement.id)
        return found

    def used(self, statement: Planned, names: Names) -> Names:
        """The part of a set that the statement's plan uses; `learn` was asked for it."""
        known = statement.settled(names & self.relevant(statement))
        return known.used if known else NONE


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
