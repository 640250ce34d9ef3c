"""pytest-benchmark for coroutines: each call is awaited on a loop that runs already, and only the await is timed."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

AsyncFunction = Callable[..., Awaitable[Any]]


class AsyncBenchmark:
    """The `abenchmark` fixture.

    In an async test: ``result = await abenchmark(fetch, 5)``. In a sync test: ``result = abenchmark(fetch, 5)``, on a
    loop of its own that is made before and closed after the measurement. The options of pytest-benchmark
    (--benchmark-max-time, -min-rounds, -warmup, -disable-gc, -timer, -disable) hold.
    """

    def __init__(self, benchmark: Any) -> None:
        self._benchmark = benchmark

    @property
    def extra_info(self) -> dict[str, Any]:
        info: dict[str, Any] = self._benchmark.extra_info
        return info

    @property
    def group(self) -> str | None:
        group: str | None = self._benchmark.group
        return group

    @group.setter
    def group(self, name: str | None) -> None:
        self._benchmark.group = name

    def __call__(self, function: AsyncFunction, *args: Any, **kwargs: Any) -> Any:
        """The result of the last call; in an async test, an awaitable of it."""
        return self._start(self._measure(function, args, kwargs, rounds=None, warmup_rounds=None))

    def pedantic(
        self,
        function: AsyncFunction,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        rounds: int = 1,
        warmup_rounds: int = 0,
    ) -> Any:
        """The same with a fixed number of rounds."""
        return self._start(self._measure(function, args, kwargs or {}, rounds=rounds, warmup_rounds=warmup_rounds))

    def _start(self, measuring: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with asyncio.Runner() as runner:
                return runner.run(measuring)
        return measuring

    async def _measure(
        self, function: AsyncFunction, args: Any, kwargs: Any, *, rounds: int | None, warmup_rounds: int | None
    ) -> Any:
        benchmark = self._benchmark
        if benchmark._mode:
            benchmark.has_error = True
            raise RuntimeError(f"the fixture can be used once; it was used as {benchmark._mode}")
        benchmark._mode = "abenchmark(...)"
        if not benchmark.enabled:
            return await function(*args, **kwargs)
        try:
            return await self._rounds(function, args, kwargs, rounds, warmup_rounds)
        except BaseException:
            benchmark.has_error = True
            raise

    async def _rounds(
        self, function: AsyncFunction, args: Any, kwargs: Any, rounds: int | None, warmup_rounds: int | None
    ) -> Any:
        benchmark, timer = self._benchmark, self._benchmark._timer
        result = None
        for _ in range(warmup_rounds if warmup_rounds is not None else max(1, int(benchmark._warmup or 1))):
            result = await function(*args, **kwargs)
        stats = benchmark._make_stats(1)
        collecting = gc.isenabled()
        if benchmark._disable_gc:
            gc.disable()
        try:
            deadline = time.perf_counter() + benchmark._max_time
            done = 0
            while (
                done < rounds if rounds is not None else done < benchmark._min_rounds or time.perf_counter() < deadline
            ):
                start = timer()
                result = await function(*args, **kwargs)
                stats.update(timer() - start)
                done += 1
        finally:
            if collecting:
                gc.enable()
        return result
