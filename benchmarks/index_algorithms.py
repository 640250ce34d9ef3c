"""Published index selection algorithms over the same what-if protocol, short and plain, for comparison.

- Extend: Schlosser, Kossmann, Boissier, "Efficient Scalable Multi-Attribute Index Selection Using Recursive
  Strategies", ICDE 2019.
- DB2 Advisor: Valentin, Zuliani, Zilio, Lohman, Skelley, ICDE 2000, without its random variation phase.
- AutoAdmin: Chaudhuri, Narasayya, "An Efficient Cost-Driven Index Selection Tool for Microsoft SQL Server", VLDB 1997:
  per-query candidates, then greedy enumeration, with the budget in bytes in place of a number of indexes.

As in Kossmann et al., "Magic mirror in my hand, which is the best in the land?", VLDB 2020, costs are cached by
statement and the indexes on its tables, and only cache misses count as calls. Indexes are plain B-trees over up to
`width` columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from dbperf.indexes.resolver import Resolver
from dbperf.indexes.size import estimate
from dbperf.indexes.workload import Workload
from dbperf.postgres.whatif import Candidate, Question, WhatIf
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.shadow import Catalog

Columns = tuple[str, str, tuple[str, ...]]
"""Schema, table, key columns."""
_NUMBERS = itertools.count()
_ENOUGH = 1.003
"""Extend makes no step that improves the cost by less."""


class Model:
    """Costs of sets of column lists."""

    def __init__(self, catalog: Catalog, workload: Workload, planner: WhatIf) -> None:
        self.planner = planner
        self.relations = {(r.schema, r.name): r for r in catalog.relations}
        self.statements = workload.statements
        self.calls = 0
        self.columns: list[dict[tuple[str, str], list[str]]] = []
        self._cache: dict[tuple[int, frozenset[Columns]], float] = {}
        self._names: dict[Columns, str] = {}
        resolver = Resolver(catalog)
        for s in self.statements:
            found: dict[tuple[str, str], list[str]] = {}
            for use in resolver.read(s.text).tables:
                keys = [c.key for c in use.conditions] + [o.key for order in use.orders for o in order]
                keys += [k for g in use.groups for k in g]
                names = found.setdefault((use.relation.schema, use.relation.name), [])
                names += [k.text for k in keys if k.is_column and k.text not in names]
            self.columns.append(found)

    def size(self, index: Columns) -> int:
        relation = self.relations[index[:2]]
        return estimate(relation, self.spec(index)).size_bytes

    @staticmethod
    def spec(index: Columns) -> IndexSpec:
        return IndexSpec(schema=index[0], table=index[1], keys=tuple(IndexKey(column=c) for c in index[2]))

    async def _known(self, indexes: Iterable[Columns]) -> None:
        fresh = [i for i in indexes if i not in self._names]
        candidates = []
        for i in fresh:
            self._names[i] = f"plain_{next(_NUMBERS)}"
            size = estimate(self.relations[i[:2]], self.spec(i))
            candidates.append(Candidate(name=self._names[i], spec=self.spec(i), pages=size.pages, tuples=size.tuples))
        refused = await self.planner.add(candidates)
        assert not refused, refused

    async def close(self) -> None:
        await self.planner.remove(sorted(self._names.values()))

    async def costs(self, wanted: Sequence[frozenset[Columns]]) -> list[float]:
        """Weighted cost of the workload under each set."""
        await self._known(sorted({i for w in wanted for i in w}))
        missing: dict[tuple[int, frozenset[Columns]], None] = {}
        keys = [
            [(n, frozenset(i for i in w if i[:2] in self.columns[n])) for n in range(len(self.statements))]
            for w in wanted
        ]
        for row in keys:
            missing.update(dict.fromkeys(k for k in row if k not in self._cache))
        await self._ask(list(missing))
        return [sum(self.statements[n].calls * self._cache[n, cut] for n, cut in row) for row in keys]

    async def _ask(self, missing: Sequence[tuple[int, frozenset[Columns]]]) -> list[frozenset[Columns]]:
        questions = [
            Question(statement=self.statements[n].text, on=frozenset(self._names[i] for i in cut)) for n, cut in missing
        ]
        answers = await self.planner.ask(questions)
        self.calls += len(questions)
        back = {name: i for i, name in self._names.items()}
        for key, answer in zip(missing, answers, strict=True):
            self._cache[key] = answer.cost if answer.cost is not None else 0.0
        return [frozenset(back[u] for u in a.used) for a in answers]

    def syntactic(self, n: int, width: int) -> list[Columns]:
        """All column lists of a statement up to a width."""
        return [
            (*table, columns)
            for table, names in self.columns[n].items()
            for w in range(1, width + 1)
            for columns in itertools.permutations(names, w)
        ]

    async def used_with_all(self, n: int, indexes: Sequence[Columns]) -> tuple[float, frozenset[Columns]]:
        await self._known(indexes)
        [used] = await self._ask([(n, frozenset(indexes))])
        return self._cache[n, frozenset(indexes)], used


async def extend(model: Model, budget: float, width: int) -> frozenset[Columns]:
    """Extend: single columns first, then the best of adding one or appending a column to a chosen one, by ratio."""
    attributes = sorted({(*t, c) for found in model.columns for t, names in found.items() for c in names})
    chosen: frozenset[Columns] = frozenset()
    [cost] = await model.costs([chosen])
    while True:
        steps: list[tuple[frozenset[Columns], int]] = []
        size = sum(map(model.size, chosen))
        for schema, name, c in attributes:
            one = (schema, name, (c,))
            if not any(i[:2] == one[:2] and i[2][0] == c for i in chosen):
                steps.append((chosen | {one}, model.size(one)))
            for i in chosen:
                if i[:2] == (schema, name) and c not in i[2] and len(i[2]) < width:
                    longer = (schema, name, (*i[2], c))
                    steps.append((chosen - {i} | {longer}, max(1, model.size(longer) - model.size(i))))
        steps = [(s, more) for s, more in steps if size + more <= budget]
        if not steps:
            return chosen
        costs = await model.costs([s for s, _ in steps])
        gains = [(cost - c) / more for c, (_, more) in zip(costs, steps, strict=True)]
        enough = [i for i in range(len(steps)) if costs[i] * _ENOUGH < cost]
        if not enough:
            return chosen
        best = max(enough, key=lambda i: gains[i])
        chosen, cost = steps[best][0], costs[best]


async def db2advis(model: Model, budget: float, width: int) -> frozenset[Columns]:
    """Indexes that statements use when offered all, by benefit for size until the budget is full."""
    benefit: dict[Columns, float] = {}
    for n, s in enumerate(model.statements):
        base = (await model.costs([frozenset()]), model._cache[n, frozenset()])[1]
        cost, used = await model.used_with_all(n, model.syntactic(n, width))
        for i in used:
            benefit[i] = benefit.get(i, 0.0) + s.calls * (base - cost)
    chosen: set[Columns] = set()
    left = budget
    for i in sorted(benefit, key=lambda i: (-benefit[i] / model.size(i), i)):
        if model.size(i) <= left and not any(j[:2] == i[:2] and j[2][: len(i[2])] == i[2] for j in chosen):
            chosen.add(i)
            left -= model.size(i)
    return frozenset(chosen)


async def autoadmin(model: Model, budget: float, width: int) -> frozenset[Columns]:
    """Per-statement candidates by width, then greedy enumeration over their union."""
    pool: set[Columns] = set()
    for w in range(1, width + 1):
        found: set[Columns] = set()
        for n in range(len(model.statements)):
            offered = [i for i in model.syntactic(n, w) if len(i[2]) == 1 or (*i[:2], i[2][:-1]) in pool]
            if offered:
                found |= (await model.used_with_all(n, offered))[1]
        pool |= found
    chosen: frozenset[Columns] = frozenset()
    [cost] = await model.costs([chosen])
    while True:
        left = budget - sum(map(model.size, chosen))
        steps = [chosen | {i} for i in sorted(pool - chosen) if model.size(i) <= left]
        if not steps:
            return chosen
        costs = await model.costs(steps)
        best = min(range(len(steps)), key=lambda i: costs[i])
        if costs[best] >= cost * 0.999:
            return chosen
        chosen, cost = steps[best], costs[best]


ALGORITHMS = {"Extend": extend, "DB2 Advisor": db2advis, "AutoAdmin": autoadmin}
