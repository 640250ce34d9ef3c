"""Figures of the advisor: quality and what-if calls beside published algorithms, speed, and the shadow's own times.

python benchmarks/bench_advise.py [--large]
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.index_algorithms import ALGORITHMS, Model
from benchmarks.index_workloads import catalog, mixed, ssb, table
from dbperf.indexes.advise import Request, advise
from dbperf.indexes.candidates import Options
from dbperf.indexes.sessions import shadow_planner
from dbperf.indexes.workload import Workload, checked
from dbperf.records.shadow import Catalog, WorkloadStatement

BUDGETS = {"250 MB": 250 << 20, "500 MB": 500 << 20, "1 GB": 1 << 30, "unlimited": None}


async def compare(name: str, source: Catalog, statements: list[WorkloadStatement], *, algorithms: list[str]) -> None:
    found = checked(statements)
    print(f"\n{name}: {len(found.statements)} statements, {len(source.relations)} tables")
    print(f"  {'width':>5} {'budget':>9}  {'algorithm':<12} {'cost':>7} {'size':>8} {'calls':>7} {'time':>8}")
    for width in (2, 3):
        for label, budget in BUDGETS.items():
            async with shadow_planner(source) as planner:
                await ours(source, found, planner, width, label, budget)
                for algorithm in algorithms:
                    await theirs(algorithm, source, found, planner, width, label, budget)


async def ours(source: Catalog, found: Workload, planner, width: int, label: str, budget: int | None) -> None:
    before = planner.calls
    request = Request(budget_bytes=budget, ratio_weight=0, options=Options(max_width=width))
    started = time.perf_counter()
    advice = await advise(source, found, planner, request)
    took = time.perf_counter() - started
    line(
        "dbperf", width, label, advice.cost_after / advice.cost_before, advice.size_bytes, planner.calls - before, took
    )


async def theirs(
    algorithm: str, source: Catalog, found: Workload, planner, width: int, label: str, budget: int | None
) -> None:
    model = Model(source, found, planner)
    started = time.perf_counter()
    chosen = await ALGORITHMS[algorithm](model, math.inf if budget is None else budget, width)
    took = time.perf_counter() - started
    before, after = await model.costs([frozenset(), chosen])
    line(algorithm, width, label, after / before, sum(map(model.size, chosen)), model.calls, took)
    await model.close()


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


async def main() -> None:
    await clones()
    await compare("Star Schema Benchmark", *ssb(), algorithms=list(ALGORITHMS))
    await compare("mixed, 100 statements", *mixed(100, 20), algorithms=list(ALGORITHMS))
    for count in (1000, 10000) if "--large" in sys.argv else (1000,):
        source, statements = mixed(count)
        found = checked(statements)
        print(f"\nmixed, {len(found.statements)} statements, {len(source.relations)} tables")
        async with shadow_planner(source) as planner:
            await ours(source, found, planner, 3, "1 GB", 1 << 30)


if __name__ == "__main__":
    asyncio.run(main())
