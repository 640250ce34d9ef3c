"""Time that is spent outside of reading and joining: planning, compiling, waiting, triggers, functions."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.plans.rules.base import Context, Seen, count, rows_out, rule
from dbperf.plans.tree import GATHERS
from dbperf.units import format_ms


@rule("planning-above-execution", "Planning takes longer than execution")
def planning_above_execution(context: Context) -> Iterator[Seen]:
    """Many joins or partitions, bloated catalogs, or a lock that planning waited for."""
    planning, execution = context.plan.planning_ms, context.plan.execution_ms
    if planning is None or execution is None or planning < max(5 * context.at.min_ms, execution):
        return
    scans = sum(1 for n in context.nodes if n.relation)
    yield Seen(
        None,
        {"planning_ms": planning, "execution_ms": execution, "relations": scans},
        planning,
        f"planning took {format_ms(planning)}, execution {format_ms(execution)}: prepare the statement once and"
        " execute it"
        " often; fewer joins or partitions plan faster",
    )


def _jit_ms(context: Context) -> float:
    timing = (context.plan.jit or {}).get("Timing")
    total = timing.get("Total") if isinstance(timing, dict) else None
    return float(total) if isinstance(total, int | float) else 0.0


@rule("jit-costs-more", "JIT compilation costs more than it gains")
def jit_costs_more(context: Context) -> Iterator[Seen]:
    """Compiling pays for minutes of computing, not for milliseconds; wrong costs switch it on."""
    spent = _jit_ms(context)
    share = context.share(spent)
    if share is not None and share >= 0.2 and spent >= 5 * context.at.min_ms:
        yield Seen(
            None,
            {"jit_ms": spent, "functions": (context.plan.jit or {}).get("Functions"), "execution_ms": context.total_ms},
            spent,
            f"compiling took {format_ms(spent)} of {format_ms(context.total_ms)}: raise jit_above_cost or switch"
            " jit off",
            "SET jit = off;",
        )


@rule("workers-not-launched", "Planned workers that were not there")
def workers_not_launched(context: Context) -> Iterator[Seen]:
    """All of max_parallel_workers were busy, and the plan was made for help that did not come."""
    for node in context.of_type(*GATHERS):
        planned, launched = node.workers_planned or 0, node.workers_launched
        if launched is not None and launched < planned and context.matters(node.total_ms):
            yield Seen(
                node,
                {"workers_planned": planned, "workers_launched": launched},
                node.total_ms * (1 - (launched + 1) / (planned + 1)) if node.total_ms is not None else None,
                f"{launched} of {planned} workers could be started: raise max_parallel_workers and"
                " max_worker_processes,"
                " or let fewer queries ask for workers",
            )


@rule("trigger-time", "Time in triggers")
def trigger_time(context: Context) -> Iterator[Seen]:
    """Foreign keys and triggers run once per row."""
    for trigger in context.plan.triggers:
        share = context.share(trigger.total_ms)
        if trigger.total_ms is None or share is None or share < 0.2 or not context.matters(trigger.total_ms):
            continue
        foreign_key = trigger.constraint is not None
        yield Seen(
            None,
            {"trigger": trigger.name, "calls": trigger.calls, "relation": trigger.relation},
            trigger.total_ms,
            f"{trigger.constraint or trigger.name} took {format_ms(trigger.total_ms)} in {count(trigger.calls)} calls: "
            + (
                "a foreign key needs an index on the referencing column, or each deleted row scans that table"
                if foreign_key
                else "do in one statement what it does per row (FOR EACH STATEMENT with transition tables)"
            ),
        )


@rule("function-scan-time", "Time in a function")
def function_scan_time(context: Context) -> Iterator[Seen]:
    """What a function does is a closed box to the planner, and all its rows are stored before the first is read."""
    for node in context.of_type("Function Scan"):
        share = context.share(node.self_ms)
        if share is not None and share >= 0.3 and context.matters(node.self_ms) and (node.self_ms or 0) >= 5:
            yield Seen(
                node,
                {"function": str(node.extra.get("Function Name")), "rows": rows_out(node)},
                node.self_ms,
                f"{format_ms(node.self_ms)} in {node.extra.get('Function Name')}: look inside it (auto_explain with"
                " log_nested_statements), or write it in SQL so that it can be inlined",
            )


@rule("lock-wait", "Waiting for a lock")
def lock_wait(context: Context) -> Iterator[Seen]:
    """Changing or locking a row takes microseconds; much longer means that another transaction held it."""
    for node in context.of_type("ModifyTable", "LockRows"):
        below = sum(rows_out(c) for c in node.children)
        own = node.self_ms
        if own is None or below < 1 or own / below < context.at.wait_ms or not context.matters(own):
            continue
        yield Seen(
            node,
            {"rows": below, "ms_per_row": round(own / below, 1)},
            own,
            f"{format_ms(own / below)} per row is waiting, not work: find the transaction that held the rows"
            " (pg_blocking_pids, log_lock_waits), keep transactions short and lock rows in one order",
        )
