"""What figures must satisfy before anything is concluded from them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dbperf.errors import RecordError
from dbperf.records.comparison import Measurement
from dbperf.records.load import Load
from dbperf.records.reading import number

_RATE_SLACK = 0.25
"""Requests divided by the window's length may differ from the stated rate by this share."""
_LONGEST_MS = 3_600_000.0


def check(measurements: Sequence[Measurement], source: str) -> None:
    """Raises:
    RecordError: nothing was measured, every request failed, a figure is negative or no number, or a name comes twice.
    """
    if not measurements:
        raise RecordError(f"{source} holds no measurement", hint="the run measured nothing, or was cut short")
    seen: set[tuple[str | None, str]] = set()
    for m in measurements:
        key = (m.stage, m.subject)
        if key in seen:
            raise RecordError(f"{source} names {m.subject!r} twice" + (f" in stage {m.stage!r}" if m.stage else ""))
        seen.add(key)
        names = [c.name for c in m.custom]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise RecordError(f"{source} names the metric {twice!r} of {m.subject!r} twice")
        where = f"{source}, {m.subject}"
        for label, value in (
            ("requests_per_s", m.requests_per_s), ("requests", m.requests), ("errors", m.errors),
            *((f"p{q.q * 100:g}", q.value_ms) for q in m.quantiles), *((c.name, c.value) for c in m.custom),
        ):  # fmt: skip
            if value is not None:
                number(value, f"{where}, {label}")
        for i, value in enumerate(m.samples_ms or []):
            if number(value, f"{where}, sample {i + 1}") > _LONGEST_MS:
                raise RecordError(f"{where}, sample {i + 1}: {value:g} ms is longer than an hour: a clock jump")
        if m.errors is not None and m.requests is not None and m.errors > m.requests:
            raise RecordError(f"{where}: {m.errors} errors of {m.requests} requests")
    counted = [m for m in measurements if m.requests is not None]
    if counted and len(counted) == len(measurements):
        requests = sum(m.requests or 0 for m in counted)
        if requests == 0:
            raise RecordError(f"{source} holds no requests", hint="nothing was sent, or nothing was answered")
        if all(m.errors == m.requests for m in counted if m.requests):
            raise RecordError(
                f"{source}: every one of {requests} requests failed", hint="there is nothing to compare: see its errors"
            )


def check_clock(load: Load, source: str) -> None:
    """Raises:
    RecordError: time ran backwards, or the window's length contradicts the rates: the clock was set.
    """
    if load.ended_at < load.started_at:
        raise RecordError(f"{source}: it ended before it started", hint="the clock was set back during the run")
    for stage in load.stages:
        seconds = (stage.ended_at - stage.started_at).total_seconds()
        if seconds <= 0:
            raise RecordError(f"{source}, stage {stage.name!r}: it ended before it started: a clock jump")
        if stage.requests and stage.requests_per_s:
            implied = stage.requests / stage.requests_per_s
            if abs(implied - seconds) > max(1.0, _RATE_SLACK * seconds):
                raise RecordError(
                    f"{source}, stage {stage.name!r}: {stage.requests} requests at {stage.requests_per_s:.4g}/s take "
                    f"{implied:.1f} s, the window has {seconds:.1f} s: a clock jump"
                )
    ticks = [s.at_s for s in load.seconds_all]
    if any(later < earlier for earlier, later in itertools.pairwise(ticks)):
        raise RecordError(f"{source}: its seconds run backwards: a clock jump")
