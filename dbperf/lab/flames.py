"""Full-stack flame graphs of the endpoints that weigh most: each is called alone for a moment, under py-spy.

Under a mixed load a sampled stack can't be told apart by endpoint where the ORM switches greenlets; alone it can.
This comes after the measured load, so that nothing of it is in the run's figures.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from dbperf.flame.fullstack import full_stack
from dbperf.flame.hotspots import hot_spots
from dbperf.flame.pyspy import record
from dbperf.lab.context import Lab
from dbperf.load import run_load
from dbperf.load.data import resolve_data
from dbperf.records.flames import EndpointFlame, Flames
from dbperf.records.plans import StatementPlan
from dbperf.records.stacks import Stacks
from dbperf.records.statements import Statements
from dbperf.records.suite import Endpoint, Stage, Suite, ThinkTime
from dbperf.records.trace import Trace
from dbperf.trace.collect import collect, join

ENDPOINTS = 4
SECONDS, SECONDS_SMOKE = 2.0, 1.0
_PLACEHOLDER = re.compile(r"\{[^}]*\}")


async def heaviest(
    lab: Lab, trace: Trace, plans: list[StatementPlan], on_endpoint: Callable[[str], None] | None = None
) -> Flames:
    """Profiles the endpoints with the most total time in the load, each for `seconds_of` the scale.

    Raises:
        DbperfError: the target is gone, or can't be sampled (the hint says what to allow).
    """
    assert lab.api is not None
    by_shape = {_shape(e.name): e for e in lab.api.suite.endpoints}
    routes = [e.route for e in trace.endpoints if _shape(e.route) in by_shape][:ENDPOINTS]
    flames, notes = [], []
    for route in routes:
        if on_endpoint is not None:
            on_endpoint(route)
        found = await _alone(lab, by_shape[_shape(route)], route, plans)
        if found is None:
            notes.append(f"{route} answered no request while it was called alone")
        else:
            flames.append(found)
    return Flames(endpoints=flames, notes=notes)


def seconds_of(scale: str) -> float:
    """How long each endpoint is called alone."""
    return SECONDS_SMOKE if scale == "smoke" else SECONDS


async def _alone(lab: Lab, endpoint: Endpoint, route: str, plans: list[StatementPlan]) -> EndpointFlame | None:
    assert lab.api is not None
    assert lab.api.pid is not None
    assert lab.trace_dir is not None
    seconds = seconds_of(lab.options.scale)
    suite = msgspec.structs.replace(
        lab.api.suite,
        endpoints=[endpoint],
        stages=[Stage(name="alone", users=1, duration_s=seconds)],
        think_time=ThinkTime(min_s=0.0, max_s=0.0),
        service_levels=[],
        gates=[],
    )
    samples: list[asyncio.Task[Stacks]] = []
    pid = lab.api.pid

    async def sample(stage: str) -> None:  # noqa: ARG001 - the callback's signature
        samples.append(asyncio.create_task(asyncio.to_thread(record, pid, seconds)))

    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="dbperf-alone-") as scratch:
        try:
            await run_load(
                suite,
                lab.api.url,
                out_dir=Path(scratch),
                headers=lab.api.headers,
                data=await _data(lab, suite),
                allow_writes=True,
                locust_files=False,
                on_measuring=sample,
            )
        finally:
            if samples:  # also where the load failed: its error is the one to tell, but py-spy must have ended
                await asyncio.wait(samples)
    trace = collect(lab.trace_dir, since=began, until=datetime.now(UTC))
    if (statements := lab.directory.maybe(Statements)) is not None:
        trace = join(trace, statements)
    traced = next((e for e in trace.endpoints if e.route == route and e.requests), None)
    if traced is None:
        return None
    stacks = full_stack(traced, samples=samples[0].result() if samples else None, alone=True, plans=plans)
    return EndpointFlame(
        route=route,
        requests=traced.requests,
        request_ms=traced.per_request.duration_ms,
        stacks=stacks,
        hot_spots=hot_spots(stacks, limit=5),
    )


async def _data(lab: Lab, suite: Suite) -> dict[str, list[Any]]:
    return await resolve_data(suite, lab.conn.fetch if lab.conn is not None else None)


def _shape(name: str) -> str:
    """An endpoint's name with its parameters unnamed: a suite and a router call them differently."""
    return _PLACEHOLDER.sub("{}", name)
