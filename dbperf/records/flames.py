"""Where one request of an endpoint spends its time, from the endpoint down to the plan node (`flames.json`)."""

from __future__ import annotations

from typing import ClassVar

from dbperf.records.base import Document, Record
from dbperf.records.stacks import HotSpot, Stacks


class EndpointFlame(Record, frozen=True, kw_only=True):
    """The full-stack profile of an endpoint that was called alone, one request after another."""

    route: str
    requests: int
    request_ms: float
    """Mean duration of those requests, as the application saw it."""
    stacks: Stacks
    """Milliseconds of wall time per request."""
    hot_spots: list[HotSpot]
    """The largest self times, largest first."""


class Flames(Document, frozen=True, kw_only=True):
    """`flames.json`: the heaviest endpoints of the load, heaviest first."""

    kind: ClassVar[str] = "flames"
    file_name: ClassVar[str] = "flames.json"

    endpoints: list[EndpointFlame]
    notes: list[str] = []
