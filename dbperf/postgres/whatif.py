"""What-if planning: what would a statement cost if these indexes existed and those did not?

Two planners answer: the shadow (`shadow_planner`) and hypopg on the target (`hypopg_planner`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dbperf.records.advice import IndexSpec
from dbperf.records.shadow import CatalogNote

PlanJson = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An index to try. `name` is unique among the candidates of one planner."""

    name: str
    spec: IndexSpec
    pages: int
    """Estimated size in blocks of 8 kB."""
    tuples: float
    """Estimated entries."""
    height: int | None = None
    """Level of a B-tree's root; None: estimated from pages and key width."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One statement under one configuration."""

    statement: str
    """One plannable statement, parameters as $1, $2."""
    on: frozenset[str] = frozenset()
    """Names of candidates that exist."""
    off: frozenset[tuple[str, str]] = frozenset()
    """Existing indexes (schema, name) that are gone."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The planner's answer. `cost` is None where the statement can't be planned; `error` says why."""

    cost: float | None
    used: frozenset[str] = frozenset()
    """Candidates in the plan, by name."""
    existing: frozenset[str] = frozenset()
    """Existing indexes in the plan, by name."""
    plan: PlanJson | None = field(default=None, repr=False)
    error: str | None = None


class WhatIf(Protocol):
    """A what-if planner. Not for use by two tasks at once."""

    calls: int
    """Statements planned so far."""
    notes: list[CatalogNote]
    """What weakens its answers, by object."""

    @property
    def name(self) -> str: ...

    @property
    def can_hide(self) -> bool:
        """Whether `Question.off` is supported."""

    async def add(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """Makes candidates known, all absent until a question names them.

        Returns:
            Names of those that PostgreSQL refuses, with its reason.
        """

    async def remove(self, names: Sequence[str]) -> None:
        """Forgets candidates: present or absent, each one makes planning slower."""

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answers in the order of the questions.

        Raises:
            ServerError: the connection is gone.
        """


def nodes(plan: PlanJson) -> Iterator[PlanJson]:
    """A plan's nodes, parents first."""
    stack = [plan]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.get("Plans", ())))


def read_answer(found: Any, names: Mapping[str, str]) -> Answer:
    """An answer from EXPLAIN's JSON.

    Args:
        found: the decoded document.
        names: index names in plans to candidates' names.
    """
    plan: PlanJson = found[0]["Plan"]
    used, existing = set(), set()
    for node in nodes(plan):
        if index := node.get("Index Name"):
            if index in names:
                used.add(names[index])
            else:
                existing.add(index)
    return Answer(cost=plan["Total Cost"], used=frozenset(used), existing=frozenset(existing), plan=plan)
