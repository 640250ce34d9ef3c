"""The generator's own health: a loop that is late, or a core that is full, measures itself and not the target."""

from __future__ import annotations

import gc
import time

import gevent

_STEP_S = 0.02


def settle() -> None:
    """Before the load: what was imported stays, so that no collection walks through it while answers come in.

    Locust and what it imports are some 57,000 objects, 30 ms and more for each collection of the oldest generation:
    every answer of that moment would be noticed that much later.
    """
    gc.collect()
    gc.freeze()


class Health:
    def __init__(self) -> None:
        self._lag_s = 0.0
        self._cpu_s = time.process_time()
        self._at = time.perf_counter()

    def watch(self) -> None:
        """How late this greenlet wakes up is how late every answer is noticed."""
        while True:
            asleep = time.perf_counter()
            gevent.sleep(_STEP_S)
            self._lag_s = max(self._lag_s, time.perf_counter() - asleep - _STEP_S)

    def take(self) -> tuple[float, float]:
        """CPU share of one core and the largest lag in ms since the last call."""
        cpu_s, at = time.process_time(), time.perf_counter()
        share = (cpu_s - self._cpu_s) / max(at - self._at, 1e-9)
        lag_ms = self._lag_s * 1e3
        self._cpu_s, self._at, self._lag_s = cpu_s, at, 0.0
        return share, lag_ms
