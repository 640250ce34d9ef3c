"""dbperf: what is slow in an HTTP API on PostgreSQL, why, what would fix it, and did it?

async with dbperf.profile("postgresql://…") as window:
    ...
window.profile.statements

plan = dbperf.explain("SELECT * FROM orders WHERE customer_id = $1", dsn="postgresql://…")
dbperf.assert_index_used(plan, "orders_customer_id_idx")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbperf.plans.assertions import assert_index_used, assert_no_seq_scan
    from dbperf.postgres.explain_api import explain
    from dbperf.postgres.profile import Profiler as profile

__version__ = "0.1.0"
__all__ = ["__version__", "assert_index_used", "assert_no_seq_scan", "explain", "profile"]

_LAZY = {
    "assert_index_used": ("dbperf.plans.assertions", "assert_index_used"),
    "assert_no_seq_scan": ("dbperf.plans.assertions", "assert_no_seq_scan"),
    "explain": ("dbperf.postgres.explain_api", "explain"),
    "profile": ("dbperf.postgres.profile", "Profiler"),
}


def __getattr__(name: str) -> object:
    """Imports what is asked for only then: `import dbperf` costs nothing."""
    if name in _LAZY:
        from importlib import import_module

        module, attribute = _LAZY[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'dbperf' has no attribute {name!r}")
