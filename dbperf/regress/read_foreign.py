"""Figures of files that Locust and k6 wrote."""

from __future__ import annotations

from pathlib import Path

from dbperf.records.comparison import Conditions, CustomFigure, Measurement, Side
from dbperf.records.foreign import ForeignEndpoint, ForeignLoad
from dbperf.regress.checks import check
from dbperf.regress.compare import Figures


def foreign_figures(found: ForeignLoad, path: Path) -> Figures:
    """The figures of another load generator's file. Custom ones go with its first endpoint, which for k6 is all.

    Raises:
        RecordError: nothing was measured, or every request failed.
    """
    conditions = Conditions(
        users=found.users, duration_s=None if found.duration_s is None else round(found.duration_s, 1)
    )
    measurements = [
        _measurement(e, found, conditions, found.custom if i == 0 else []) for i, e in enumerate(found.endpoints)
    ]
    check([m for m in measurements if m.requests is not None] or measurements, str(path))
    side = Side(source=str(path), kind=found.kind, provenance="measured")
    return Figures(side=side, measurements=measurements, notes=found.notes)


def _measurement(
    e: ForeignEndpoint, found: ForeignLoad, conditions: Conditions, custom: list[CustomFigure]
) -> Measurement:
    return Measurement(
        subject=e.name,
        conditions=conditions,
        requests=e.requests,
        errors=e.errors,
        requests_per_s=e.requests_per_s,
        quantiles=e.quantiles,
        latency=e.latency,
        custom=custom,
        rounded_by="locust" if found.kind == "locust-json" else None,
    )
