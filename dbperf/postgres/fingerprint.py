"""Which entries of pg_stat_statements are one statement. It lives in `plans`: tracing needs it too, and no server."""

from __future__ import annotations

from dbperf.plans.fingerprint import fingerprint, literals_masked, shape

__all__ = ["fingerprint", "literals_masked", "shape"]
