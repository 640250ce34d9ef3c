"""What two sides measured in turns gave: every time, in the order in which it was taken."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record
from dbperf.records.comparison import Machine

Ended = Literal["settled", "plan", "budget", "interrupted", "side_died", "not_comparable"]
"""Settled: every answer was clear; plan: the last planned look; budget: the time was over."""


class TurnsSide(Record, frozen=True, kw_only=True):
    """One of the two."""

    what: str
    """"revision abc of /repo", "http://127.0.0.1:8000", "with the indexes of up.sql"."""
    git_revision: str | None = None
    """"-dirty" appended where tracked files differ from it."""
    rows: dict[str, int] | None = None
    """Of each table, before the first request; estimates for a user's own database. None: nobody told."""


class TurnsEndpoint(Record, frozen=True, kw_only=True):
    """One endpoint's times on both sides."""

    name: str
    run: int
    """Requests in a row to one side; a quad holds two such runs of each side."""
    quads_planned: int
    a_first: list[bool] = []
    """Per complete quad whether it went A B B A; else B A A B."""
    a_ms: list[list[float]] = []
    """Per complete quad, 2 * run times."""
    b_ms: list[list[float]] = []
    looks: list[int] = []
    """Complete quads at each look, ascending; the last is the last look's."""
    starts: list[int] = []
    """At each look, how often both sides had been started anew."""
    took_rest: bool = False
    """The last look used what was left of the error budget: no further one was possible."""
    requests_a: int = 0
    """Those of quads that failed included."""
    requests_b: int = 0
    errors_a: int = 0
    errors_b: int = 0
    first_error_a: str | None = None
    first_error_b: str | None = None
    missing: Literal["A", "B", "both"] | None = None
    """Which side has no such endpoint (404 or 405)."""


class Interleaved(Document, frozen=True, kw_only=True):
    """`interleaved.json`."""

    kind: ClassVar[str] = "interleaved"
    file_name: ClassVar[str] = "interleaved.json"

    started_at: datetime
    ended_at: datetime
    a: TurnsSide
    b: TurnsSide
    machine: Machine = Machine()
    scale: str | None = None
    """Of the reference target's data."""
    seed: int
    """Of the coin that orders the quads."""
    budget_s: float
    ended: Ended
    detail: str | None = None
    """Which side died and how, or what makes the sides incomparable."""
    endpoints: list[TurnsEndpoint]
    notes: list[str] = []
