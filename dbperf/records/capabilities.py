"""What a database offers dbperf."""

from __future__ import annotations

from typing import Literal

from dbperf.records.base import Record

CapabilityStatus = Literal["ok", "missing", "degraded"]


class Capability(Record, frozen=True, kw_only=True):
    """One feature of a server, as found."""

    feature: str
    status: CapabilityStatus
    """`degraded`: dbperf works, and some figure is absent or weaker; `why` says which."""
    required: bool
    """Without it dbperf can't measure statements; what is not required may be missing."""
    found: str
    needed: str
    why: str
    fix: str | None = None
    """SQL, with what else to do as an SQL comment; None where there is nothing to fix."""
