"""Assertions about plans, for tests of applications.

plan = dbperf.explain("SELECT * FROM orders WHERE customer_id = $1", dsn=dsn)
dbperf.assert_index_used(plan, "orders_customer_id_idx")
dbperf.assert_no_seq_scan(plan, relation="orders")
"""

from __future__ import annotations

from dbperf.plans.read import read_plans
from dbperf.plans.render import render_tree
from dbperf.plans.tree import label, walk
from dbperf.records.plans import Explanation, Plan, PlanNode, StatementPlan

AnyPlan = Plan | Explanation | StatementPlan | str
"""A plan, what `dbperf.explain` returns, or EXPLAIN's output as text or JSON."""


def assert_index_used(plan: AnyPlan, name: str) -> None:
    """Fails unless the plan reads an index of this name.

    Raises:
        AssertionError: it does not; the message lists the indexes that it reads, and the plan.

    >>> text = '''Index Scan using orders_pkey on orders  (cost=0.29..8.31 rows=1 width=50)
    ...   Index Cond: (id = 5)'''
    >>> assert_index_used(text, "orders_pkey")
    >>> assert_index_used(text, "orders_customer")
    Traceback (most recent call last):
    ...
    AssertionError: the plan does not use the index orders_customer, but orders_pkey
               cost 8.31  Index Scan using orders_pkey on orders  (about 1 rows)
                            Index Cond: (id = 5)
    """
    found = _plan(plan)
    used = sorted({n.index_name for n in walk(found.root) if n.index_name})
    if name not in used:
        instead = f"but {', '.join(used)}" if used else "and no other"
        raise AssertionError(f"the plan does not use the index {name}, {instead}\n{render_tree(found)}")


def assert_no_seq_scan(plan: AnyPlan, relation: str | None = None, min_rows: float = 0) -> None:
    """Fails if the plan reads a table from start to end.

    Args:
        relation: only this table counts.
        min_rows: scans that read fewer rows don't count (those filtered away included; the estimate of what is returned
            for a plan without ANALYZE).

    Raises:
        AssertionError: it does; the message names the scans and shows the plan.

    >>> text = '''Seq Scan on few  (cost=0.00..1.60 rows=60 width=9) (actual time=0.1..0.2 rows=60 loops=1)'''
    >>> assert_no_seq_scan(text, min_rows=1000)
    >>> assert_no_seq_scan(text, relation="orders")
    >>> assert_no_seq_scan(text)
    Traceback (most recent call last):
    ...
    AssertionError: Seq Scan on few reads 60 rows
          200 µs   100 %  Seq Scan on few  (60 rows)
    """
    found = _plan(plan)
    scans = [
        (n, rows)
        for n in walk(found.root)
        if n.node_type == "Seq Scan"
        and n.loops != 0
        and relation in (None, n.relation)
        and (rows := _read(n)) >= min_rows
    ]
    if scans:
        said = "; ".join(f"{label(n)} reads {rows:,.0f} rows" for n, rows in scans)
        raise AssertionError(f"{said}\n{render_tree(found)}")


def _plan(given: AnyPlan) -> Plan:
    if isinstance(given, str):
        return read_plans(given)[0]
    if isinstance(given, Plan):
        return given
    if given.plan is None:
        raise AssertionError(f"there is no plan: {given.error}")
    return given.plan


def _read(node: PlanNode) -> float:
    """Rows that a scan read, over all loops."""
    if node.actual_rows is None:
        return node.plan_rows or 0.0
    removed = node.extra.get("Rows Removed by Filter")
    return (node.actual_rows + (removed if isinstance(removed, int | float) else 0)) * (node.loops or 1.0)
