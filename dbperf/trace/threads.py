"""Thread pools inherit the request: `ThreadPoolExecutor.submit` runs the call in a copy of the caller's context.

asyncio.to_thread and anyio do so themselves; loop.run_in_executor and a bare executor do not.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from dbperf.trace.asyncpg_hooks import Patches
from dbperf.trace.state import traced_request


def install() -> Patches:
    """Hooks ThreadPoolExecutor; returns what it replaced."""
    original = ThreadPoolExecutor.submit

    def submit(self: Any, fn: Any, /, *args: Any, **options: Any) -> Any:
        if traced_request() is None:
            return original(self, fn, *args, **options)
        return original(self, copy_context().run, fn, *args, **options)

    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]  # the same signature, for mypy too general
    return [(ThreadPoolExecutor, "submit", original)]
