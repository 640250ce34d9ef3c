"""cProfile, correct under asyncio: the clock is the thread's CPU time, so that awaiting costs nothing.

With the usual wall clock, a coroutine's own time is right (cProfile sees every resume and suspend), but the event
loop's select would be the most expensive function of every server.
"""

from __future__ import annotations

import asyncio
import cProfile
import inspect
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from dbperf.errors import UsageError
from dbperf.flame.pstats_stacks import stacks_of_stats
from dbperf.flame.sampler import Sampler
from dbperf.records.stacks import Stacks

GREENLET_NOTE = (
    "greenlets switched (SQLAlchemy's asyncio extension, gevent): cProfile charges the wrong functions, so the stacks "
    "are the in-process sampler's"
)
CPU_NOTE = "CPU time of one thread: waiting is not in it"


def new_profiler(*, wall: bool = False) -> cProfile.Profile:
    """A profiler on the thread's CPU clock, or on the wall clock."""
    return cProfile.Profile(time.perf_counter if wall else time.thread_time)


def stacks_of(profiler: cProfile.Profile, *, name: str, wall: bool = False) -> Stacks:
    """What a profiler saw, in milliseconds."""
    profiler.create_stats()
    stats: Any = profiler.stats  # made by create_stats, as pstats reads it
    return stacks_of_stats(stats, name=name, notes=[] if wall else [CPU_NOTE])


def profile_callable(work: Callable[[], Any], *, wall: bool = False) -> cProfile.Profile:
    """Profiles one call; a coroutine function runs in an event loop of its own. What it raises passes through."""
    profiler = new_profiler(wall=wall)
    if inspect.iscoroutinefunction(work):

        async def run() -> None:
            profiler.enable()
            try:
                await work()
            finally:
                profiler.disable()

        asyncio.run(run())
    else:
        profiler.enable()
        try:
            work()
        finally:
            profiler.disable()
    return profiler


def profile_app(
    app: Any,
    calls: Callable[[Any], Any],
    warm: Callable[[Any], Any],
    around: Callable[[Any], Any],
    *,
    wall: bool = False,
) -> tuple[cProfile.Profile, Stacks | None]:
    """Profiles requests to an ASGI application in this process.

    cProfile does not know of greenlets, in which SQLAlchemy's asyncio extension runs: it takes one's returns for
    another's, and charges the wrong functions. Where greenlets switched, the requests are sent a second time under
    the in-process sampler, and its stacks come with the profile; they are right.

    Args:
        calls: returns the coroutine that sends the requests to profile.
        warm: the same for requests before: connections, caches.
        around: an asynchronous context manager of the application's lifespan.
    """
    profiler = new_profiler(wall=wall)
    sampled: Stacks | None = None

    async def run() -> None:
        nonlocal sampled
        async with around(app):
            await warm(app)
            with GreenletSwitches() as switches:
                profiler.enable()
                try:
                    await calls(app)
                finally:
                    profiler.disable()
            if switches.count:
                sampler = Sampler(rate=1000, wall=wall)
                sampler.start()
                try:
                    await calls(app)
                finally:
                    sampled = sampler.stop()

    asyncio.run(run())
    return profiler, sampled


class GreenletSwitches:
    """Counts switches between greenlets in its block; without the greenlet library there are none."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> GreenletSwitches:
        if (greenlet := sys.modules.get("greenlet")) is not None:
            self._before = greenlet.settrace(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        if (greenlet := sys.modules.get("greenlet")) is not None:
            greenlet.settrace(self._before)

    def _count(self, _event: str, _greenlets: Any) -> None:
        self.count += 1


def top_list(s: Stacks, functions: int = 20) -> str:
    """The functions with the most self time, as text."""
    from dbperf.flame.drawing import place_of, quantity
    from dbperf.flame.ops import costs, total

    whole = total(s) or 1.0
    rows = sorted(costs(s).items(), key=lambda kv: -kv[1].self_value)[:functions]
    lines = [f"{'itself':>10}  {'share':>6}  {'in all':>10}  function"]
    for f, cost in rows:
        lines.append(
            f"{quantity(cost.self_value, s.unit):>10}  {100 * cost.self_value / whole:5.1f} %"
            f"  {quantity(cost.total_value, s.unit):>10}  {f.name}  {place_of(f)}"
        )
    return "\n".join(lines) + "\n"


def is_asgi(found: Any) -> bool:
    """Whether an object looks like an ASGI application: called with scope, receive and send."""
    if inspect.isclass(found):
        return False
    call = found if inspect.isfunction(found) else getattr(found, "__call__", None)  # noqa: B004 - its signature is asked for
    try:
        parameters: Sequence[str] = list(inspect.signature(call).parameters) if call else []
    except (TypeError, ValueError):
        return False
    return list(parameters)[-3:] == ["scope", "receive", "send"]


def load_callable(name: str) -> Any:
    """The object that "module:callable" names.

    Raises:
        UsageError: there is none, or it can't be called.
    """
    from importlib import import_module

    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{name!r} names no callable", hint='write it as "package.module:function"')
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and (module_name == e.name or module_name.startswith(e.name + ".")):
            raise UsageError(f"there is no module {e.name!r}", hint="start from the folder that holds it") from e
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{name} can't be called: it is {type(found).__name__}")
    return found
