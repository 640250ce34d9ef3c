"""The database over exactly the load's measured window: statements, waits, counters."""

from __future__ import annotations

from dbperf.postgres.profile import Profiler
from dbperf.records.profile import Profile


class DatabaseWindow:
    """Opens with the first measured stage and closes with the last; the methods fit `run_load`'s callbacks."""

    def __init__(self, dsn: str) -> None:
        self._profiler = Profiler(dsn)
        self.started = False
        self.is_open = False

    async def connect(self) -> None:
        """Connects ahead, so that opening the window takes no longer than reading the statistics."""
        await self._profiler.connect()

    async def close(self) -> None:
        """Closes the connections, also of a window that was never opened."""
        await self._profiler.close()

    async def opened(self, stage: str) -> None:  # noqa: ARG002 - the callback's signature
        """Begins; a later stage continues the window."""
        if self.started:
            self._profiler.resume()
        else:
            await self._profiler.start()
            self.started = True
        self.is_open = True

    async def closed(self, stage: str) -> None:  # noqa: ARG002 - the callback's signature
        """Ends the window, unless another stage is opened."""
        await self._profiler.pause()
        self.is_open = False

    async def profile(self, *, requests: int | None) -> Profile:
        """What the database did in the window; `requests` were answered in it."""
        self._profiler.requests = requests
        return await self._profiler.stop()
