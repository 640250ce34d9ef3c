"""Which line of the application a stack is charged to, where greenlets make several stacks of one."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from greenlet import greenlet  # type: ignore[import-untyped]  # its types are a package of their own

from dbperf.trace.source import awaits_here, source_id
from dbperf.trace.state import texts


def here() -> FrameType:
    frame = inspect.currentframe()
    assert frame
    assert frame.f_back
    return frame.f_back


def test_code_in_a_greenlet_has_its_caller_outside() -> None:
    found = greenlet(source_id).switch(None)
    line = here().f_lineno - 1
    assert texts.sources[found][:2] == (__file__, line)


def test_a_greenlet_in_a_greenlet() -> None:
    middle = greenlet(lambda: greenlet(source_id).switch(None))
    assert texts.sources[middle.switch()][0] == __file__


def test_no_application_anywhere() -> None:
    # On the thread's own stack is the standard library only, on the greenlet's nothing.
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(source_id, None).result() == 0


async def test_awaited_there_and_then() -> None:
    seen: list[bool] = []

    def call(*_: object, **__: object) -> Any:
        caller = here().f_back
        assert caller
        seen.append(awaits_here(caller))
        return asyncio.sleep(0)

    await call()
    await call(*[1], **{"a": 2})
    for _ in range(30):  # also when CPython has specialised the call
        await call()
    assert seen == [True] * 32
    later = call()
    await later
    await asyncio.gather(call(), call())
    await asyncio.wait_for(call(), 60)
    assert seen[32:] == [False] * 4
