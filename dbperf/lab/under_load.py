"""The load, or the watch over a database that somebody else loads, and the database's side of the same window."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from dbperf.lab.context import Asked, Lab
from dbperf.lab.options import OBSERVE_S
from dbperf.lab.safety import check_users
from dbperf.lab.stages import Stage
from dbperf.lab.window import DatabaseWindow
from dbperf.load import run_load
from dbperf.load.data import resolve_data
from dbperf.load.live import LiveView
from dbperf.load.plan import mix, select_endpoints
from dbperf.load.progress import LoadEvent
from dbperf.load.suites import with_overrides
from dbperf.load.telemetry import Watch, watching
from dbperf.records.load import LeftOut, Load
from dbperf.records.run import LoadProfile
from dbperf.records.statements import Statements
from dbperf.records.suite import Suite
from dbperf.units import format_count, format_ms, format_seconds


async def load(lab: Lab) -> None:
    if lab.api is None:
        await observe(lab)
        return
    api = lab.api
    options = lab.options
    suite = with_overrides(api.suite, users=options.users, duration_s=options.duration_s, warm_up_s=options.warm_up_s)
    check_users(max((s.users or 0 for s in suite.stages), default=0), staging=options.staging)
    allow_writes = options.is_reference or options.writes
    data, selected, left_out = await _chosen(lab, suite, allow_writes=allow_writes)
    lab.asked = Asked(suite=suite, data=data)
    left_out = [*api.left_out, *left_out]
    for sentence in left_out_words(left_out):
        lab.stages.note(sentence)
    lab.directory.update(load_profile=load_profile(selected))
    window = DatabaseWindow(lab.dsn) if lab.dsn is not None else None
    expected_s = sum(s.ramp_s + s.warm_up_s + s.duration_s for s in suite.stages) + 2.0
    done: Load | None = None
    watch: Watch | None = None
    view = LiveView(len(suite.stages))
    if lab.preparing is not None:
        await lab.preparing
    whole = False
    with lab.stages.stage("load", f"Load: {suite.name}, {described(suite)}", expected_s) as stage:
        if window is not None:
            lab.stack.push_async_callback(window.close)
            await window.connect()
        try:
            watch = await lab.stack.enter_async_context(
                watching(api.url, dsn=lab.dsn, pool_size=api.pool_size, all_own=options.is_reference)
            )
            done = await run_load(
                suite,
                api.url,
                out_dir=lab.directory.path,
                headers=api.headers,
                data=data,
                allow_writes=allow_writes,
                fleet=options.fleet,
                locustfile=options.locustfile,
                on_event=lambda event: _show(stage, view, event, watch),
                on_measuring=window.opened if window else None,
                on_measured=window.closed if window else None,
                on_partial=lab.directory.write,
            )
            lab.directory.write(done)
            whole = True
        finally:
            if watch is not None:
                lab.directory.write(watch.telemetry())
            if window is not None and window.is_open:
                await window.closed("")
            if window is not None and window.started and not whole:
                await _write_profile(lab, window, requests=None)
        requests = sum(s.requests for s in done.stages)
        errors = sum(s.errors for s in done.stages)
        stage.detail = f"{format_count(requests)} requests, {format_count(errors)} errors"
    if warning := all_failed_words(done):
        lab.stages.note(warning)
    note_end(lab, "the load")
    if window is None:
        lab.stages.skip("statements", "Compare the statement statistics", "no --dsn")
        return
    with lab.stages.stage("statements", "Compare the statement statistics", 1.0) as stage:
        stage.detail = _statements_detail(await _write_profile(lab, window, requests=requests))


async def _chosen(lab: Lab, suite: Suite, *, allow_writes: bool) -> tuple[dict[str, list[Any]], Suite, list[LeftOut]]:
    """The data that the suite's endpoints need, the suite with those that will be called, and the others."""
    if lab.options.locustfile is not None:  # its users know for themselves what to ask
        return {}, msgspec.structs.replace(suite, endpoints=[]), []
    data = await resolve_data(suite, lab.conn.fetch if lab.conn is not None else None)
    return data, *select_endpoints(suite, data, allow_writes=allow_writes)


async def observe(lab: Lab) -> None:
    """No API: watches what the database does anyway."""
    assert lab.conn is not None
    seconds = lab.options.duration_s or OBSERVE_S
    assert lab.dsn is not None
    window = DatabaseWindow(lab.dsn)
    whole = False
    with lab.stages.stage("load", "Watch the database", seconds):
        await window.opened("")
        try:
            await asyncio.sleep(seconds)
            whole = True
        finally:
            await window.closed("")
            if not whole:
                await _write_profile(lab, window, requests=None)
    with lab.stages.stage("statements", "Compare the statement statistics", 1.0) as stage:
        stage.detail = _statements_detail(await _write_profile(lab, window, requests=None))


async def _write_profile(lab: Lab, window: DatabaseWindow, *, requests: int | None) -> Statements:
    profile = await window.profile(requests=requests)
    for document in profile.documents():
        lab.directory.write(document)
    return profile.statements


def left_out_words(left_out: list[LeftOut]) -> list[str]:
    """One sentence a reason, with the endpoints that it keeps out."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.endpoint)
    return [f"left out, because {reason}: {', '.join(names)}" for reason, names in by_reason.items()]


def note_end(lab: Lab, during: str) -> None:
    """An API that dbperf has started and that ended by itself explains all errors behind it."""
    how = lab.api.ended_words() if lab.api is not None and lab.api.ended_words is not None else None
    if how is not None:
        lab.api_ended = how
        lab.stages.note(f"the API's process ended {how} during {during}: every request behind that failed")


def all_failed_words(load: Load) -> str | None:
    """A warning where no request succeeded at all; None where one did, or none was sent."""
    endpoints = [e for stage in load.stages for e in stage.endpoints]
    kinds = [k for e in endpoints for k in e.errors_by_kind]
    if not kinds or any(e.requests > e.errors for e in endpoints):
        return None
    most = max(kinds, key=lambda k: k.count)
    refused = any(k.status in (401, 403) for k in kinds)
    return f"every request failed ({most.kind})" + (": --api-key or --header may be missing" if refused else "")


def load_profile(suite: Suite) -> LoadProfile:
    """What a suite asks of the target, over all its stages."""
    first = suite.stages[0]
    return LoadProfile(
        suite=suite.name,
        model="open" if first.users is None else "closed",
        users=max((s.users for s in suite.stages if s.users is not None), default=None),
        arrival_rate_per_s=max(
            (s.arrival_rate_per_s for s in suite.stages if s.arrival_rate_per_s is not None), default=None
        ),
        duration_s=sum(s.duration_s for s in suite.stages),
        warm_up_s=first.warm_up_s,
        mix=mix(suite),
    )


def described(suite: Suite) -> str:
    """ "10 users for 1 min 00 s"; several stages joined by arrows."""
    parts = []
    for stage in suite.stages:
        rate = format_count(stage.arrival_rate_per_s)
        who = f"{stage.users} users" if stage.users is not None else f"{rate} arrivals/s"
        parts.append(f"{who} for {format_seconds(stage.duration_s)}")
    return " → ".join(parts)


def _statements_detail(statements: Statements) -> str:
    text = f"{len(statements.statements)} statements, {format_ms(statements.total_ms)} of database time"
    return text if statements.validity.complete else text + ", with gaps"


def _show(stage: Stage, view: LiveView, event: LoadEvent, watch: Watch | None) -> None:
    if live := view.after(event, watch.latest if watch else None):
        stage.update(live.line, live.rows)
