"""Figures of the advisor: quality and what-if calls beside published algorithms, speed, and the shadow's own times.

python benchmarks/bench_advise.py [SECTION ...]

Sections: clones, ssb, mixed-100, mixed-1000, mixed-10000, reference-spec, reference-large; all of them by default.
"""

from __future__ import annotations

import asyncio
import math
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.index_algorithms import ALGORITHMS, Model
from benchmarks.index_reference import enlarged, reference
from benchmarks.index_workloads import catalog, mixed, ssb, table
from dbperf.indexes.advise import Advisor, Request, advise
from dbperf.indexes.candidates import Options
from dbperf.indexes.sessions import shadow_planner
from dbperf.indexes.size import estimate
from dbperf.indexes.workload import Workload, checked
from dbperf.indexes.writes import write_cost
from dbperf.records.shadow import Catalog, WorkloadStatement

BUDGETS = {"250 MB": 250 << 20, "500 MB": 500 << 20, "1 GB": 1 << 30, "unlimited": None}


LEFT: dict[str, list[dict[str, float]]] = {}
"""By workload: for each width and budget the cost left by each algorithm."""


async def compare(name: str, source: Catalog, found: Workload, *, algorithms: list[str]) -> None:
    print(f"\n{name}: {len(found.statements)} statements, {len(source.relations)} tables")
    print(f"  {'width':>5} {'budget':>9}  {'algorithm':<12} {'cost':>7} {'size':>8} {'calls':>7} {'time':>8}")
    for width in (2, 3):
        for label, budget in BUDGETS.items():
            async with shadow_planner(source) as planner:
                left = {"dbperf": await ours(source, found, planner, width, label, budget)}
                for algorithm in algorithms:
                    left[algorithm] = await theirs(algorithm, source, found, planner, width, label, budget)
                LEFT.setdefault(name, []).append(left)


def totals() -> None:
    """The cost left over all widths and budgets: dbperf's beside that of the best of the others in each of them."""
    print("\ncost left, summed over widths and budgets")
    for name, cells in [*LEFT.items(), ("all workloads", list(chain.from_iterable(LEFT.values())))]:
        mine = sum(c["dbperf"] for c in cells)
        best = sum(min(cost for who, cost in c.items() if who != "dbperf") for c in cells)
        worse = sum(round(c["dbperf"], 3) > round(min(c.values()), 3) for c in cells)
        print(f"  {name}: {mine:.3f}, the best of the others {best:.3f} ({100 * (mine / best - 1):+.1f} %);", end=" ")
        print(f"worse in {worse} of {len(cells)}")


async def ours(source: Catalog, found: Workload, planner, width: int, label: str, budget: int | None) -> float:
    before = planner.calls
    request = Request(budget_bytes=budget, ratio_weight=0, options=Options(max_width=width))
    started = time.perf_counter()
    advice = await advise(source, found, planner, request)
    took = time.perf_counter() - started
    left = advice.cost_after / advice.cost_before
    line("dbperf", width, label, left, advice.size_bytes, planner.calls - before, took)
    return left


async def theirs(
    algorithm: str, source: Catalog, found: Workload, planner, width: int, label: str, budget: int | None
) -> float:
    # The same statements with the same values as dbperf plans, and the same cost of maintenance.
    base = Advisor(source, found, planner, Request())
    await base.plan_base()
    planned = [WorkloadStatement(id=s.key, text=s.text, calls=s.calls) for s in base.statements]
    model = Model(source, replace(found, statements=planned), planner)
    started = time.perf_counter()
    chosen = await ALGORITHMS[algorithm](model, math.inf if budget is None else budget, width)
    took = time.perf_counter() - started
    before, after = await model.costs([frozenset(), chosen])
    for i in sorted(chosen):
        relation = model.relations[i[:2]]
        size = estimate(relation, model.spec(i))
        after += write_cost(model.spec(i), size.pages, size.tuples, base.writes, relation, source.settings)
    line(algorithm, width, label, after / before, sum(map(model.size, chosen)), model.calls, took)
    await model.close()
    return after / before


def line(who: str, width: int, label: str, cost: float, size: int, calls: int, took: float) -> None:
    print(
        f"  {width:>5} {label:>9}  {who:<12} {cost:>7.3f} {size / (1 << 20):>5.0f} MB {calls:>7} {took:>6.2f} s",
        flush=True,
    )


async def clones() -> None:
    """How long a shadow takes to make."""
    for count, columns in ((100, 10), (5000, 8)):
        defs = [("id", "bigint", -1.0), *((f"c{i}", "integer", 1000.0) for i in range(columns - 1))]
        source = catalog(f"clone-{count}", [table(f"t{n}", 100000, defs, "id") for n in range(count)])
        async with shadow_planner(source) as planner:
            print(f"shadow of {count} tables, {count * columns} columns: {planner.shadow.build_s:.2f} s", flush=True)


async def reference_target(scale: str) -> None:
    """DB-001 to DB-006 and the statements of the naive API."""
    source, found = await reference()
    source = enlarged(source) if scale == "large" else source
    await compare(source.source, source, found, algorithms=list(ALGORITHMS))


async def alone(count: int) -> None:
    """A workload that is too large for most of the published algorithms to end in sensible time."""
    source, statements = mixed(count)
    found = checked(statements)
    print(f"\nmixed, {len(found.statements)} statements, {len(source.relations)} tables")
    async with shadow_planner(source) as planner:
        await ours(source, found, planner, 3, "1 GB", 1 << 30)
        if count <= 1000:
            await theirs("DB2 Advisor", source, found, planner, 3, "1 GB", 1 << 30)
    print(f"  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB of memory at most")


SECTIONS: dict[str, Callable[[], Awaitable[None]]] = {
    "clones": clones,
    "ssb": lambda: compare("Star Schema Benchmark", *with_workload(ssb()), algorithms=list(ALGORITHMS)),
    "mixed-100": lambda: compare("mixed, 100 statements", *with_workload(mixed(100, 20)), algorithms=list(ALGORITHMS)),
    "mixed-1000": lambda: alone(1000),
    "mixed-10000": lambda: alone(10000),
    "reference-spec": lambda: reference_target("spec"),
    "reference-large": lambda: reference_target("large"),
}


def with_workload(made: tuple[Catalog, list[WorkloadStatement]]) -> tuple[Catalog, Workload]:
    return made[0], checked(made[1])


async def main(names: Sequence[str]) -> None:
    if unknown := [n for n in names if n not in SECTIONS]:
        sys.exit(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    for name in names or SECTIONS:
        await SECTIONS[name]()
    if LEFT:
        totals()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
