"""The stages of the main job, in order. Each leaves its records in the run directory before the next begins."""

from __future__ import annotations

import asyncio

from dbperf.lab import after, again, before, under_load
from dbperf.lab.context import Lab
from dbperf.report.html import prepare


async def measure(lab: Lab) -> None:
    """All stages.

    Raises:
        DbperfError: a stage failed.
        asyncio.CancelledError: the run was interrupted.
    """
    # Ctrl-C in a load must end within 3 s with a report: what can be done of it before is done while the servers start.
    lab.preparing = asyncio.get_running_loop().run_in_executor(None, prepare)
    try:
        await before.database(lab)
        await before.seed_reference(lab)
        await before.target(lab)
        await under_load.load(lab)
        await after.plans(lab)
        if lab.options.causes:
            await after.flames(lab)
            after.trace(lab)
            await after.advice(lab)
            await again.proof(lab)
            await again.load(lab)
        after.verdicts(lab)
    finally:
        await asyncio.gather(lab.preparing, return_exceptions=True)
