"""A planner in memory with a simple cost model, for properties of the search. Real planners have tests of their own."""

from __future__ import annotations

from collections.abc import Sequence

from dbperf.indexes.clauses import TableUse
from dbperf.indexes.resolver import Resolver
from dbperf.postgres.whatif import Answer, Candidate, Question
from dbperf.records.shadow import Catalog, CatalogNote


class ModelPlanner:
    """Scans one table by the cheapest of: all rows, an existing index, a candidate. More indexes never cost more."""

    name = "shadow"
    can_hide = True

    def __init__(self, catalog: Catalog) -> None:
        self.calls = 0
        self.notes: list[CatalogNote] = []
        self._resolver = Resolver(catalog)
        self._candidates: dict[str, Candidate] = {}
        self._uses: dict[str, TableUse] = {}

    async def add(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        self._candidates.update({c.name: c for c in candidates})
        return {}

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            del self._candidates[name]

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        self.calls += len(questions)
        return [self._answer(q) for q in questions]

    def _answer(self, question: Question) -> Answer:
        if question.statement not in self._uses:
            [self._uses[question.statement]] = self._resolver.read(question.statement).tables
        use = self._uses[question.statement]
        relation = use.relation
        found: list[tuple[float, str]] = [(relation.pages + 0.01 * relation.tuples, "")]
        for index in relation.indexes:
            found.append((_cost(use, index.keys, index.include, index.pages), ""))
        for name in sorted(question.on):
            c = self._candidates[name]
            if (c.spec.schema, c.spec.table) == (relation.schema, relation.name):
                keys = [k.column or "" for k in c.spec.keys]
                found.append((_cost(use, keys, c.spec.include, c.pages), name))
        cost, name = min(found)
        plan = {"Node Type": "Index Scan" if name else "Seq Scan", "Relation Name": relation.name, "Plan Rows": 1}
        return Answer(cost=cost, used=frozenset({name} if name else ()), plan=plan)


def _cost(use: TableUse, keys: Sequence[str], include: Sequence[str], pages: int) -> float:
    """A descent, the index's pages that match and, unless it covers the statement, a visit for each row."""
    columns = {c.name: c for c in use.relation.columns}
    equal = {c.key.text for c in use.conditions if c.kind == "equal"}
    ranges = {c.key.text for c in use.conditions if c.kind == "range"}
    share = 1.0
    for key in keys:
        if key in equal:
            share /= columns[key].statistics[0].n_distinct
        elif key in ranges:
            share *= 0.3
            break
        else:
            break
    covers = not use.all_columns and use.columns <= {*keys, *include}
    rows = use.relation.tuples * share
    return 5 + pages * share + 0.005 * rows + (0 if covers else 0.5 * rows)
