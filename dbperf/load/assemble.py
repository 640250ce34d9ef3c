"""From what a driver recorded in a measured window to the stage that it makes, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import msgspec

from dbperf.records.load import EndpointLoad, ErrorCount, Quantile, RegionLoad, StageLoad
from dbperf.records.suite import Suite
from dbperf.stats.hdr import Latencies, SparseCounts
from dbperf.stats.quantiles import LOAD_QUANTILES, design_effect, mean_interval, quantile


@dataclass
class EndpointSum:
    """An endpoint in one measured window, while it is summed up."""

    method: str
    name: str
    requests: int = 0
    errors: int = 0
    size_bytes: int = 0
    latency: Latencies = field(default_factory=Latencies)
    failed: Latencies | None = None
    sum_ms: float = 0.0
    min_ms: float | None = None
    max_ms: float | None = None
    kinds: dict[tuple[str, int | None], list[Any]] = field(default_factory=dict)
    by_second: list[SparseCounts] = field(default_factory=list)
    unfinished: int = 0
    ended_by_tick: dict[int, int] = field(default_factory=dict)

    def add(self, row: dict[str, Any], latency: Latencies) -> None:
        """One row of a second; `latency` is its histogram, decoded."""
        self.requests += row["requests"]
        self.errors += row["errors"]
        self.size_bytes += row["bytes"]
        self.latency.add(latency)
        self.by_second.append(latency.sparse())
        if row["failed"]:
            self.failed = self.failed or Latencies()
            self.failed.add(Latencies.decode(row["failed"]))
        self.sum_ms += row["sum_ms"]
        if row["min_ms"] is not None:
            self.min_ms = row["min_ms"] if self.min_ms is None else min(self.min_ms, row["min_ms"])
            self.max_ms = row["max_ms"] if self.max_ms is None else max(self.max_ms, row["max_ms"])
        for kind, status, message, n in row["kinds"]:
            entry = self.kinds.setdefault((kind, status), [message, 0])
            entry[1] += n


@dataclass
class Window:
    tick_seconds: list[float] = field(default_factory=list)
    """Lengths of the whole ticks inside the window; the first, which began before it, is left out."""
    opened: float | None = None
    closed: float | None = None
    last_seen: float | None = None
    endpoints: dict[tuple[str, str], EndpointSum] = field(default_factory=dict)
    not_started: int = 0
    regions: dict[str, dict[tuple[str, str], EndpointSum]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        end = self.closed or self.last_seen
        return max(end - self.opened, 1e-9) if self.opened is not None and end is not None else 0.0

    def endpoint(self, key: tuple[str, str], region: str | None = None) -> EndpointSum:
        """The sum for a method and name; it is there from the first call on."""
        group = self.endpoints if region is None else self.regions.setdefault(region, {})
        if (found := group.get(key)) is None:
            found = group[key] = EndpointSum(*key)
        return found


def stage_of(suite: Suite, index: int, window: Window) -> StageLoad:
    """The stage that a window makes; it must have been opened."""
    stage = suite.stages[index]
    assert window.opened is not None
    order = {e.name: i for i, e in enumerate(suite.endpoints)}
    ended = window.closed or window.last_seen or window.opened
    paths = {e.name: e.path for e in suite.endpoints}

    def sorted_parts(group: dict[tuple[str, str], EndpointSum]) -> list[EndpointSum]:
        return sorted(group.values(), key=lambda e: order.get(e.name, len(order)))

    parts = sorted_parts(window.endpoints)
    endpoints = [_endpoint(e, paths.get(e.name, e.name), window) for e in parts]
    regions = [
        _region(name, [_endpoint(e, paths.get(e.name, e.name), window) for e in sorted_parts(group)], window.seconds)
        for name, group in sorted(window.regions.items())
    ]
    requests = sum(e.requests for e in endpoints)
    return StageLoad(
        name=stage.name,
        model=stage.model,
        users=stage.users,
        arrival_rate_per_s=stage.arrival_rate_per_s,
        started_at=utc(window.opened),
        ended_at=utc(ended),
        warm_up_s=stage.warm_up_s,
        requests=requests,
        errors=sum(e.errors for e in endpoints),
        requests_per_s=requests / window.seconds,
        requests_per_s_ci=_rate_interval(parts, window),
        not_started=window.not_started,
        endpoints=endpoints,
        regions=regions,
    )


def _region(name: str, endpoints: list[EndpointLoad], seconds: float) -> RegionLoad:
    requests = sum(e.requests for e in endpoints)
    errors = sum(e.errors for e in endpoints)
    return RegionLoad(
        region=name, requests=requests, errors=errors, requests_per_s=requests / seconds, endpoints=endpoints
    )


def _endpoint(e: EndpointSum, path: str, window: Window) -> EndpointLoad:
    n = e.latency.count
    totals = [x.count for x in e.by_second]
    quantiles = [_quantile(e, q, totals) for q in LOAD_QUANTILES]
    return EndpointLoad(
        name=e.name,
        method=e.method,
        path=path,
        requests=e.requests,
        errors=e.errors,
        errors_by_kind=[
            ErrorCount(kind=kind, status=status, message=message, count=count)
            for (kind, status), (message, count) in sorted(e.kinds.items(), key=lambda x: -x[1][1])
        ],
        requests_per_s=e.requests / window.seconds,
        requests_per_s_ci=_rate_interval([e], window),
        response_bytes=e.size_bytes,
        unfinished=e.unfinished,
        latency=e.latency.encode(),
        failed_latency=e.failed.encode() if e.failed else None,
        quantiles=quantiles,
        mean_ms=e.sum_ms / n if n else None,
        min_ms=e.min_ms,
        max_ms=e.max_ms,
    )


def _quantile(e: EndpointSum, q: float, totals: list[int]) -> Quantile:
    first = quantile(e.latency, q, unfinished=e.unfinished)
    if first.value_ms is None:
        if e.errors and not e.latency.count:
            return msgspec.structs.replace(first, reason="no request succeeded")
        return first
    effect = design_effect([x.count_at_most(first.value_ms) for x in e.by_second], totals)
    return quantile(e.latency, q, unfinished=e.unfinished, design_effect=effect)


def _rate_interval(parts: list[EndpointSum], window: Window) -> tuple[float, float] | None:
    """How far the rate varies from second to second, around what was counted.

    Each second has those that ended in it; some that began in the window end after it, and others end in it.
    """
    rates = [sum(e.ended_by_tick.get(i, 0) for e in parts) / s for i, s in enumerate(window.tick_seconds)]
    found = mean_interval(rates)
    if found is None:
        return None
    shift = sum(e.requests for e in parts) / window.seconds - fmean(rates)
    return max(0.0, found[0] + shift), found[1] + shift  # of few, uneven seconds it may reach below 0


def notes_on(stages: list[StageLoad]) -> list[str]:
    """What weakens the stages' figures."""
    notes = []
    for stage in stages:
        if stage.not_started:
            notes.append(f"{stage.not_started} requests were due and never started: too many under way ({stage.name})")
        for e in stage.endpoints:
            if e.requests and all(x.status == 404 for x in e.errors_by_kind) and e.errors == e.requests:
                notes.append(f"{e.name} was answered 404 every time ({stage.name}): the target lacks it, or its data")
            elif e.requests and e.errors == e.requests:
                notes.append(f"{e.name} failed every time ({stage.name}): {e.errors_by_kind[0].kind}")
            if e.unfinished:
                notes.append(f"{e.unfinished} requests of {e.name} had not finished when the load ended ({stage.name})")
    return notes


def utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
