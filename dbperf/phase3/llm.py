"""A language model as a source of suggestions: pluggable, limited, and off by default."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from dbperf.errors import ConfigError
from dbperf.phase3.schemas import Performance

CALLS_PER_MINUTE = 5


class SuggestionClient(Protocol):
    """Asks a language model."""

    async def suggest(self, case_id: str, performance: Performance) -> list[str]:
        """Suggestions for a case; may raise OSError or TimeoutError when the service does not answer."""


class LimitedClient:
    """Lets at most five calls a minute through, and answers None beyond that or when the service fails."""

    def __init__(self, client: SuggestionClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._calls: deque[float] = deque()

    async def suggest(self, case_id: str, performance: Performance) -> list[str] | None:
        """The client's suggestions; None: use the rules instead."""
        now = self._clock()
        while self._calls and now - self._calls[0] >= 60:
            self._calls.popleft()
        if len(self._calls) >= CALLS_PER_MINUTE:
            return None
        self._calls.append(now)
        try:
            return await self._client.suggest(case_id, performance)
        except OSError:  # TimeoutError is one
            return None


def load_client(spec: str) -> SuggestionClient:
    """Calls ``package.module:callable`` without arguments.

    Raises:
        ConfigError: there is no such thing.
    """
    module, _, name = spec.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(f"the LLM client {spec!r} can't be loaded: {e}", hint="write it as module:callable") from e
    client: SuggestionClient = factory()
    return client
