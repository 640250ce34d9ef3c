"""The best set of indexes for a workload: from statements and a planner to `records.advice.Advice`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from dbperf.indexes import candidates as make
from dbperf.indexes.clauses import StatementUse
from dbperf.indexes.costs import Costs, Known, Mask, Planned, Table, bits, leading_of, relations_in
from dbperf.indexes.explore import ablate
from dbperf.indexes.pool import ADD_AT_ONCE, Pool
from dbperf.indexes.reading import NO_TIME, read_all, read_dearest
from dbperf.indexes.report import build_advice
from dbperf.indexes.required import with_required
from dbperf.indexes.resolver import Resolver
from dbperf.indexes.search import Point, Search
from dbperf.indexes.variants import Variant, planned_apart
from dbperf.indexes.workload import Workload
from dbperf.indexes.writes import Writes, rows_written, write_cost
from dbperf.postgres.whatif import Answer, WhatIf
from dbperf.records.advice import NO_TABLE, Advice, IndexSpec, Skipped
from dbperf.records.shadow import Catalog, Relation

_DEAR = 200
"""So many statements are planned as often as it takes, the rest a few times."""
_PLANNED_UNTIL, _READ_UNTIL, _CHOSEN_UNTIL = 0.1, 0.25, 0.94
"""Shares of the time limit; what is left is for the text and the server's end."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    budget_bytes: int | None = None
    max_indexes: int | None = None
    max_write_cost: float | None = None
    """Share of the workload's cost that maintenance may add (0..1)."""
    minimum_gain: float = 0.005
    """Share of its statements' cost that an index must gain; below is the noise of the statistics."""
    ratio_weight: float = 0.3
    """How much of the objective is the mean of the statements' own ratios rather than total cost (0..1)."""
    time_limit_s: float | None = None
    must_use_index: frozenset[str] = frozenset()
    """Ids of statements whose service level asks for an index."""
    options: make.Options = field(default_factory=make.Options)


class Advisor:
    """One advice. `advise` is the way in."""

    def __init__(self, catalog: Catalog, workload: Workload, planner: WhatIf, request: Request) -> None:
        self.catalog = catalog
        self.request = request
        self.planner = planner
        self.costs = Costs(planner, skip_scan=catalog.server_version_num >= 180000 or planner.name == "hypopg")
        self.relations: dict[Table, Relation] = {(r.schema, r.name): r for r in catalog.relations}
        self.skipped: list[Skipped] = list(workload.skipped)
        self.pool = Pool(self.relations, planner, self.costs)
        self.writes: Writes = {}
        self.uses: dict[str, StatementUse] = {}
        self.statements: list[Planned] = []
        self.coefficients: dict[str, float] = {}
        self._write_costs: dict[str, float] = {}
        self.workload = workload
        self.source = workload.statements
        self.started = time.monotonic()
        self.total = 0.0
        self.asked_for: Mapping[str, str] = {}
        """Indexes that are there for a service level, and whose it is."""
        self._search_now: Search | None = None
        self._stopped = False
        self._hurried = False
        """Statements were left out for want of time."""

    def stop(self) -> None:
        """Ends the search soon; `run` then returns the best set so far."""
        self._stopped = True
        if self._search_now is not None:
            self._search_now.stopped = True

    async def run(self) -> Advice:
        await self.plan_base()
        if not self.statements:
            return build_advice(self, Point((), 0, 1.0), [], complete=True)
        search = self._search()
        await self._candidates(search.made_late)
        search = self._search(hurried=search.hurried)
        sizes, tables = search.by_bit(self.costs.bits)
        found = await ablate(self.costs, search.statements, sizes, tables, search.explored_late, search.dear)
        benefit = self.pool.benefits(self.statements, self.coefficients)
        count = len({t for s in self.statements for t in s.tables})
        survivors = self.pool.fewer(self.costs.names(found), benefit, count)
        await self.pool.keep(survivors, self.statements)
        if not search.explored_late():
            survivors += await self.pool.variants(survivors, benefit)
        search = self._search(hurried=search.hurried)
        points = await search.run(survivors)
        chosen, self.asked_for = await with_required(self, search, self._within_budget(points))
        await self._learn_marginals(chosen)
        advice = build_advice(self, chosen, points, complete=not (search.stopped or search.hurried))
        await self.planner.remove(survivors)
        return advice

    async def _learn_marginals(self, chosen: Point) -> None:
        """What each statement would cost without each index of the set."""
        mask = self.costs.mask(chosen.names)
        if self._search_now is None or not self._search_now.late():
            wanted = [(s, mask & ~b) for s in self.statements for b in bits(self.costs.used(s, mask))]
            await self.costs.learn(wanted)

    def _past(self, share: float) -> bool:
        """Whether this share of the time is over, before there is a search that knows."""
        limit = self.request.time_limit_s
        past = self._stopped or (limit is not None and time.monotonic() > self.started + share * limit)
        self._hurried |= past
        return past

    def _search(self, *, hurried: bool = False) -> Search:
        limit = self.request.time_limit_s
        self._search_now = Search(
            costs=self.costs,
            statements=self._by_share(),
            coefficients=self.coefficients,
            sizes={n: self.pool.sizes[n].size_bytes for n in self.costs.bits},
            writes={n: self.write_share(n) for n in self.costs.bits},
            total=self._total,
            minimum_gain=self.request.minimum_gain,
            max_indexes=self.request.max_indexes,
            deadline=None if limit is None else self.started + _CHOSEN_UNTIL * limit,
            budget_bytes=self.request.budget_bytes,
            dear=self._dear(),
            stopped=self._stopped,
            hurried=hurried or self._hurried,
            started=self.started,
        )
        return self._search_now

    def _dear(self) -> frozenset[str]:
        return frozenset(s.key for s in self._by_share()[:_DEAR])

    def _by_share(self) -> list[Planned]:
        """Statements with the largest share of the objective first."""
        return sorted(self.statements, key=lambda s: -self.coefficients[s.key] * s.base)

    async def plan_base(self) -> None:
        """Plans every statement as things are; what can't be planned is skipped by name."""
        resolver = Resolver(self.catalog)
        by_name: dict[str, list[Table]] = {}
        for schema, name in self.relations:
            by_name.setdefault(name, []).append((schema, name))
        planned_late, read_late = partial(self._past, _PLANNED_UNTIL), partial(self._past, _READ_UNTIL)
        if self.request.time_limit_s is None:
            found, unknown = await read_all(self.source, resolver, self.planner, read_late)
        else:
            found, unknown = await read_dearest(self.source, resolver, self.planner, planned_late, read_late)
        self.skipped += [Skipped(id=s.id, reason=NO_TIME) for s in unknown]
        for v, answer in (pair for variants, answers in found for pair in self._planned_apart(variants, answers)):
            tables = {(u.relation.schema, u.relation.name) for u in v.use.tables}
            for table in relations_in(answer.plan, by_name):
                tables.update(self._with_parents(table))
            assert answer.cost is not None
            if not tables:
                # A driver's look at the catalog may cost more than all else, and no index is for it.
                if all(s.id != v.id for s in self.skipped):
                    self.skipped.append(Skipped(id=v.id, reason=NO_TABLE))
                continue
            planned = Planned(
                id=v.id, key=v.key, text=v.text, calls=v.calls, tables=frozenset(tables), base=answer.cost
            )
            planned.plan = answer.plan
            planned.learn(Known(0, 0, 0, answer.cost))
            self.uses[v.key] = v.use
            self.statements.append(planned)
            self._note_writes(planned, v.use, answer)
        self.total = sum(s.calls * s.base for s in self.statements) or 1.0
        share = self.request.ratio_weight
        calls_of: dict[str, float] = {}
        for p in self.statements:
            calls_of[p.id] = calls_of.get(p.id, 0.0) + p.calls
        for p in self.statements:
            self.coefficients[p.key] = (1 - share) * p.calls / self.total
            if p.base > 0 and calls_of[p.id] > 0:
                self.coefficients[p.key] += share / len(calls_of) * p.calls / calls_of[p.id] / p.base

    def _planned_apart(self, variants: list[Variant], answers: list[Answer]) -> list[tuple[Variant, Answer]]:
        """What is kept of a statement's variants; none where it can't be planned, which is entered in `skipped`."""
        if not (kept := planned_apart(variants, answers)):
            self.skipped.append(Skipped(id=variants[0].id, reason=answers[0].error or "it can't be planned"))
        return kept

    def _with_parents(self, table: Table) -> list[Table]:
        relation = self.relations[table]
        return [table, *(t for p in relation.parents if p in self.relations for t in self._with_parents(p))]

    def _note_writes(self, planned: Planned, use: StatementUse, answer: Answer) -> None:
        for table, columns in use.written.items():
            entries = planned.calls * rows_written(answer.plan)
            writes = self.writes.setdefault(table, {})
            writes[columns] = writes.get(columns, 0.0) + entries

    async def _candidates(self, late: Callable[[], bool]) -> None:
        """Makes candidates for each statement, those with the largest share of the objective first."""
        options = _completed(self.request.options, self.catalog)
        owners: dict[IndexSpec, list[Planned]] = {}
        for planned in self._by_share():
            for use in self.uses[planned.key].tables:
                for spec in make.candidates(use, options):
                    owners.setdefault(spec, []).append(planned)
            if len(owners) >= ADD_AT_ONCE:
                await self._enter(owners)
                owners = {}
                if late():
                    return
        await self._enter(owners)

    async def _enter(self, owners: Mapping[IndexSpec, Sequence[Planned]]) -> None:
        names = await self.pool.add(list(owners))
        for spec, name in names.items():
            for planned in owners[spec]:
                planned.own |= self.costs.bits[name]
                planned.leading |= {leading_of(spec)}
                planned.expressions |= {k.expression for k in spec.keys if k.expression}

    def write_cost(self, name: str) -> float:
        if (found := self._write_costs.get(name)) is None:
            spec, size = self.costs.specs[name], self.pool.sizes[name]
            relation = self.relations[spec.schema, spec.table]
            found = write_cost(spec, size.pages, size.tuples, self.writes, relation, self.catalog.settings)
            self._write_costs[name] = found
        return found

    def write_share(self, name: str) -> float:
        """What maintenance adds to the objective."""
        return self.write_cost(name) * (1 - self.request.ratio_weight) / self.total

    def _total(self, mask: Mask) -> float:
        """The workload's cost under a set, maintenance included."""
        reads = sum(s.calls * self.costs.cost(s, mask) for s in self.statements)
        return reads + sum(self.write_cost(n) for n in self.costs.names(mask))

    def _within_budget(self, points: Sequence[Point]) -> Point:
        """The best point that fits all limits; the empty set always does."""
        limit = math.inf if self.request.max_write_cost is None else self.request.max_write_cost * self.total

        def fits(p: Point) -> bool:
            if self.request.budget_bytes is not None and p.size_bytes > self.request.budget_bytes:
                return False
            # The ratios in the objective may not buy a dearer workload.
            return sum(self.write_cost(n) for n in p.names) <= limit and p.cost <= self.total * (1 + 1e-9)

        return min((p for p in points if fits(p)), key=lambda p: (p.objective, p.size_bytes))


def _completed(options: make.Options, catalog: Catalog) -> make.Options:
    """The options with what the catalog decides."""
    return make.Options(
        max_width=options.max_width,
        include=options.include,
        partial=options.partial,
        expressions=options.expressions,
        other_methods=options.other_methods,
        c_collation=catalog.locale_provider == "b" or catalog.collate in ("C", "POSIX"),
        extensions=frozenset(e.name for e in catalog.extensions),
    )


async def advise(catalog: Catalog, workload: Workload, planner: WhatIf, request: Request | None = None) -> Advice:
    """The advice for a workload.

    Args:
        planner: knows the same database as `catalog`.

    Raises:
        ServerError: the planner's connection is gone.
    """
    return await Advisor(catalog, workload, planner, request or Request()).run()
