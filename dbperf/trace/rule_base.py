"""What a rule looks at, and what rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from dbperf.plans.fingerprint import fingerprint
from dbperf.records.trace import EndpointTrace, LoopBlock, Spread, TraceFinding
from dbperf.trace.measures import RequestMeasures
from dbperf.trace.reader import Stream
from dbperf.trace.state import Event

MIN_REPEATS = 5
"""A statement that runs fewer times in a request is no loop over data: pages have a handful of look-ups."""
MIN_SAVED_MS = 0.5
"""Below it a finding is noise: two loopback round trips."""


@dataclass(frozen=True)
class Context:
    """One endpoint with its measured requests."""

    endpoint: EndpointTrace
    requests: list[RequestMeasures]
    stream: Stream
    places: list[str | None]
    """"file:line" of every source number."""
    is_write: list[bool]
    """Of every text number, whether it changes data."""
    blocks: Sequence[LoopBlock]

    @property
    def request_ms(self) -> float:
        """The mean request."""
        return self.endpoint.per_request.duration_ms

    def shape(self, text_id: int) -> str:
        """What makes two texts the same statement."""
        text = self.stream.texts[text_id].text
        return fingerprint(text) or text


Rule = Callable[[Context], list[TraceFinding]]


def severity_of(saved_ms: float, request_ms: float) -> Literal["info", "warning", "critical"]:
    """By the share of a request that would be saved: critical from a fifth, warning from a twentieth."""
    share = saved_ms / request_ms if request_ms else 0.0
    return "critical" if share >= 0.2 else "warning" if share >= 0.05 else "info"


def spread_of(values: Sequence[float]) -> Spread:
    """Median and maximum; zeros where there are no values."""
    return Spread(median=float(median(values)), max=float(max(values))) if values else Spread(median=0.0, max=0.0)


def event_ms(e: Event) -> float:
    return (e.ended_ns - e.started_ns) / 1e6
