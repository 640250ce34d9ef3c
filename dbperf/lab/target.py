"""The API of a run: the reference target, or the user's own with a suite that fits it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from dbperf.lab.options import Implementation, RunOptions
from dbperf.load.openapi import derive_suite
from dbperf.load.probe import checked_url
from dbperf.phase3.launch import start_target
from dbperf.records.load import LeftOut
from dbperf.records.suite import Suite
from dbperf.trace.launch import environment

POOL_SIZE = 20
"""Connections of the reference target's one worker, at most."""


@dataclass(frozen=True)
class Api:
    """Where to send which requests."""

    url: str
    suite: Suite
    headers: dict[str, str]
    pool_size: int | None = None
    """Connections that its pools may open together, where it is known."""
    left_out: tuple[LeftOut, ...] = ()
    """Operations that the API offers and that are not called."""
    stop: Callable[[], None] | None = None
    """Ends an API that dbperf has started."""
    pid: int | None = None
    """The server process of such an API."""
    ended_words: Callable[[], str | None] | None = None
    """How its process ended, where it did so by itself; None while it runs."""


def reference_api(
    dsn: str, implementation: Implementation, suite: Suite | None, stack: AsyncExitStack, *, trace_dir: Path | None
) -> Api:
    """Starts the reference target, under trace where `trace_dir` says where to; it ends with `stack`.

    Raises:
        TargetError: it did not start.
    """
    assert suite is not None
    traced = environment(trace_dir) if trace_dir is not None else None
    target = stack.enter_context(start_target(dsn, implementation, pool_size=POOL_SIZE, environment=traced))
    return Api(
        url=target.url,
        suite=suite,
        headers={"X-API-Key": target.api_key},
        pool_size=POOL_SIZE,
        stop=target.stop,
        pid=target.pid,
        ended_words=target.ended_words,
    )


async def user_api(options: RunOptions, suite: Suite | None) -> Api:
    """The user's API with the given suite, or one derived from its /openapi.json.

    Raises:
        TargetError: the API does not answer, or offers no route that can be requested without more.
    """
    assert options.url is not None
    url = checked_url(options.url)
    if suite is not None:
        return Api(url=url, suite=suite, headers=options.headers)
    derived, left_out = await asyncio.to_thread(derive_suite, url, headers=options.headers)
    return Api(url=url, suite=derived, headers=options.headers, left_out=tuple(left_out))
