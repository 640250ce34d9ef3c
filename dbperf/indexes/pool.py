"""The candidates of one advice: made, sized, and weeded out to those that are worth a search."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from dbperf.indexes import candidates as make
from dbperf.indexes.btree_size import KeyStatistics
from dbperf.indexes.costs import Costs, Mask, Planned, Table, bits
from dbperf.indexes.size import Size, estimate
from dbperf.postgres.whatif import Candidate, Question, WhatIf
from dbperf.records.advice import IndexSpec, Rejected
from dbperf.records.shadow import Relation

ADD_AT_ONCE = 500
_PARTIAL_MOST = 0.6
"""A predicate that keeps more of the rows than this makes no index smaller worth its maintenance."""
_VARIANTS_PER_TABLE = 40
_KEPT, _KEPT_PER_TABLE = 300, 12
_NUMBERS = itertools.count()


class Pool:
    """Candidates by name and by what they are."""

    def __init__(self, relations: Mapping[Table, Relation], planner: WhatIf, costs: Costs) -> None:
        self.sizes: dict[str, Size] = {}
        self.name_of: dict[IndexSpec, str] = {}
        self.rejected: list[Rejected] = []
        self._relations = relations
        self._planner = planner
        self._costs = costs
        self._refused: set[IndexSpec] = set()
        self._columns: dict[tuple[str, str, str], KeyStatistics] = {}
        self._rows: dict[tuple[str, str, str], float] = {}
        """By table and predicate."""

    async def add(self, specs: Sequence[IndexSpec]) -> dict[IndexSpec, str]:
        """Sizes candidates and makes them known to the planner; what it refuses is rejected with its reason."""
        fresh = [s for s in specs if s not in self.name_of and s not in self._refused]
        shares = await self._shares(fresh)
        added: list[Candidate] = []
        for spec in fresh:
            if spec.predicate and not 0 < shares[spec] <= _PARTIAL_MOST:
                continue
            name = f"dbperf_candidate_{next(_NUMBERS):09}"  # names sort as numbers do
            size = estimate(self._relations[spec.schema, spec.table], spec, share=shares[spec], known=self._columns)
            self.name_of[spec], self.sizes[name] = name, size
            added.append(Candidate(name=name, spec=spec, pages=size.pages, tuples=size.tuples))
        for start in range(0, len(added), ADD_AT_ONCE):
            part = added[start : start + ADD_AT_ONCE]
            refused = await self._planner.add(part)
            for c in part:
                if c.name in refused:
                    reason = f"PostgreSQL refuses it: {refused[c.name]}"
                    self.rejected.append(
                        Rejected(sql=c.spec.create_sql("…"), table=f"{c.spec.schema}.{c.spec.table}", reason=reason)
                    )
                    self._refused.add(c.spec)
                    del self.name_of[c.spec]
                else:
                    self._costs.register(c.name, c.spec)
        return {s: self.name_of[s] for s in specs if s in self.name_of}

    async def _shares(self, specs: Sequence[IndexSpec]) -> dict[IndexSpec, float]:
        """The share of a table's rows that each predicate keeps, as the planner estimates it."""
        rows = self._rows
        predicates = sorted({(s.schema, s.table, s.predicate) for s in specs if s.predicate is not None} - rows.keys())
        questions = [
            Question(statement=f"SELECT FROM {make.table_sql(schema, table)} WHERE {predicate}")
            for schema, table, predicate in predicates
        ]
        answers = await self._planner.ask(questions)
        rows.update((p, a.plan["Plan Rows"] if a.plan else 0.0) for p, a in zip(predicates, answers, strict=True))
        return {
            s: 1.0
            if s.predicate is None
            else rows[s.schema, s.table, s.predicate] / max(1.0, self._relations[s.schema, s.table].tuples)
            for s in specs
        }

    def fewer(self, survivors: list[str], benefit: Mapping[str, float], tables: int) -> list[str]:
        """The most useful ones, absolutely and for their size in turns; all would take minutes where there are many."""
        most = max(_KEPT, _KEPT_PER_TABLE * tables)
        if len(survivors) <= most:
            return survivors
        place = {n: i for i, n in enumerate(survivors)}
        by_gain = sorted(survivors, key=lambda n: (-benefit.get(n, 0.0), place[n]))
        by_rate = sorted(survivors, key=lambda n: (-benefit.get(n, 0.0) / self.sizes[n].size_bytes, place[n]))
        kept: dict[str, None] = {}
        for name in itertools.chain.from_iterable(zip(by_gain, by_rate, strict=True)):
            kept[name] = None
            if len(kept) == most:
                break
        return sorted(kept, key=place.__getitem__)

    def benefits(self, statements: Iterable[Planned], coefficients: Mapping[str, float]) -> dict[str, float]:
        """What each candidate gained: of each statement its best plan with it, shared among the plan's indexes."""
        benefit: dict[str, float] = {}
        for s in statements:
            best: dict[Mask, float] = {}
            for known in s.known:
                if known.used and known.cost < s.base:
                    share = coefficients[s.key] * (s.base - known.cost) / known.used.bit_count()
                    for bit in bits(known.used):
                        best[bit] = max(best.get(bit, 0.0), share)
            for bit, gain in best.items():
                name = self._costs.name_of[bit]
                benefit[name] = benefit.get(name, 0.0) + gain
        return benefit

    async def keep(self, names: Sequence[str], statements: Iterable[Planned]) -> None:
        """Forgets the other candidates."""
        await self._planner.remove(sorted(set(self._costs.bits) - set(names)))
        self._costs.keep(names, statements)

    async def variants(self, survivors: Sequence[str], benefit: Mapping[str, float]) -> list[str]:
        """Simpler forms of survivors and what two of them make together, of the most useful ones first."""
        by_table: dict[Table, list[IndexSpec]] = {}
        for name in survivors:
            spec = self._costs.specs[name]
            by_table.setdefault((spec.schema, spec.table), []).append(spec)
        found: dict[IndexSpec, float] = {}
        for table, specs in by_table.items():
            worth = {a: benefit.get(self.name_of[a], 0.0) for a in specs}
            existing = self._relations[table].indexes
            its: dict[IndexSpec, float] = {}
            for a in specs:
                for one in make.simpler(a):
                    its[one] = max(its.get(one, 0.0), worth[a])
            for a, b in itertools.combinations(specs, 2):
                if both := make.merged(a, b):
                    its[both] = max(its.get(both, 0.0), worth[a] + worth[b])
            kept = set(specs)
            its = {s: w for s, w in its.items() if s not in kept and not any(make.covers(i, s) for i in existing)}
            # Of equal worth those that were dropped come last.
            ranked = sorted(its, key=lambda s: (-its[s], s in self.name_of))
            found.update((s, its[s]) for s in ranked[:_VARIANTS_PER_TABLE])
        most = max(_KEPT, _KEPT_PER_TABLE * len(by_table))
        fresh = sorted(found, key=lambda s: (-found[s], s in self.name_of))[:most]
        for spec in fresh:
            self.name_of.pop(spec, None)
        return list((await self.add(fresh)).values())
