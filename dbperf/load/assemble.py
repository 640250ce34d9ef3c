"""From the driver's lines to a Load: the same way for a finished load, an interrupted one and a killed one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import RecordError
from dbperf.load.generator import Health
from dbperf.load.heat import Heat
from dbperf.records.load import EndpointLoad, ErrorCount, LeftOut, Load, LoadSecond, Quantile, RegionLoad, StageLoad
from dbperf.records.suite import Suite
from dbperf.stats.hdr import Latencies, SparseCounts
from dbperf.stats.quantiles import LOAD_QUANTILES, design_effect, mean_interval, quantile

FILE_NAME = "load.jsonl"


@dataclass
class _Endpoint:
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


@dataclass
class _Window:
    tick_seconds: list[float] = field(default_factory=list)
    """Lengths of the whole ticks inside the window; the first, which began before it, is left out."""
    opened: float | None = None
    closed: float | None = None
    last_seen: float | None = None
    endpoints: dict[tuple[str, str], _Endpoint] = field(default_factory=dict)
    not_started: int = 0
    regions: dict[str, dict[tuple[str, str], _Endpoint]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        end = self.closed or self.last_seen
        return max(end - self.opened, 1e-9) if self.opened is not None and end is not None else 0.0


def read_load(
    path: Path, suite: Suite, url: str, *, left_out: list[LeftOut] | None = None, notes: list[str] | None = None
) -> Load:
    """The load that a driver's file describes; `complete` is False where its end is missing.

    A last line that was cut off (the process was killed while writing it) is passed over.

    Raises:
        RecordError: the file is missing, or broken in the middle.
    """
    windows = [_Window() for _ in suite.stages]
    seconds: list[LoadSecond] = []
    together: list[LoadSecond] = []
    health, heat = Health(), Heat()
    began = ended = None
    complete, engine, processes = False, "locust", 1
    said = list(notes or [])
    for line in _lines(path):
        at = float(line["at"])
        began, ended = began if began is not None else at, at
        if "second" in line:
            _add_second(line, suite, windows, seconds, together, health, heat)
            continue
        event = line["event"]
        if event == "started":
            engine, began = line["engine"], line["began"]
        elif event == "measuring":
            windows[line["stage"]].opened = line["window"]
        elif event == "measured":
            windows[line["stage"]].closed = line["window"]
        elif event == "waiting":
            processes = line["workers"]
        elif event == "lost":
            where = f" ({line['region']})" if line["region"] else ""
            said.append(f"worker {line['worker']}{where} was lost: what it did until then is counted")
        elif event == "ended":
            complete = line["complete"]
            _add_unfinished([*line["unfinished"], *line["not_started"]], windows)
            for stage, *_ in line["not_started"]:
                windows[stage].not_started += 1
            if line["reason"]:
                said.append(f"the load ended early: {line['reason']}")
    if began is None or ended is None:
        raise RecordError(f"{path} holds no load")
    stages = [_stage(suite, i, w) for i, w in enumerate(windows) if w.opened is not None and w.seconds >= 0.5]
    return Load(
        suite=suite.name,
        url=url,
        started_at=_utc(began),
        ended_at=_utc(ended),
        complete=complete,
        stages=stages,
        seconds=seconds,
        seconds_all=together,
        stretches=heat.stretches(),
        generator=health.record(engine, processes),
        left_out=left_out or [],
        notes=[*said, *_notes(stages)],
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield json.loads(line)
        except ValueError as e:
            if number == len(lines):  # no newline after it: the writer was killed
                return
            raise RecordError(f"{path}, line {number}: not JSON", hint="the file was edited") from e


def _add_second(
    line: dict[str, Any],
    suite: Suite,
    windows: list[_Window],
    seconds: list[LoadSecond],
    together: list[LoadSecond],
    health: Health,
    heat: Heat,
) -> None:
    measured = line["phase"] == "measured"
    health.late_starts = line["late_starts"]
    health.requests += sum(row["requests"] for row in line["series"] if row["stage"] >= 0)
    health.add(line["cpu_share"], line["lag_ms"], measured=measured)
    window = windows[line["stage"]]
    tick: int | None = None
    if measured:
        if window.last_seen is not None:
            tick = len(window.tick_seconds)
            window.tick_seconds.append(line["at"] - window.last_seen)
        window.last_seen = line["at"]
    by_endpoint: dict[tuple[str, str], tuple[Latencies, int, int]] = {}
    for row in line["series"]:
        key = (row["method"], row["name"])
        latency = Latencies.decode(row["latency"]) if row["latency"] else Latencies()
        if row["stage"] >= 0:
            _add_row(windows[row["stage"]].endpoints.setdefault(key, _Endpoint(*key)), row, latency)
            if region := row.get("region"):
                of_region = windows[row["stage"]].regions.setdefault(region, {})
                _add_row(of_region.setdefault(key, _Endpoint(*key)), row, latency)
        if tick is not None:
            groups = [window.endpoints]
            if region := row.get("region"):
                groups.append(window.regions.setdefault(region, {}))
            for group in groups:
                ended = group.setdefault(key, _Endpoint(*key)).ended_by_tick
                ended[tick] = ended.get(tick, 0) + row["requests"]
        shown, requests, errors = by_endpoint.get(key, (Latencies(), 0, 0))
        shown.add(latency)
        by_endpoint[key] = (shown, requests + row["requests"], errors + row["errors"])
    total = Latencies()
    for (_, name), (latency, requests, errors) in by_endpoint.items():
        total.add(latency)
        seconds.append(_second(line, suite, name, latency, requests, errors))
        heat.add(int(line["second"]), suite.stages[line["stage"]].name, name, latency)
    requests = sum(x[1] for x in by_endpoint.values())
    errors = sum(x[2] for x in by_endpoint.values())
    together.append(_second(line, suite, "all", total, requests, errors))


def _second(
    line: dict[str, Any], suite: Suite, name: str, latency: Latencies, requests: int, errors: int
) -> LoadSecond:
    extent = latency.range_ms()
    return LoadSecond(
        at_s=float(line["second"]),
        stage=suite.stages[line["stage"]].name,
        phase=line["phase"],
        endpoint=name,
        users=line["users"],
        requests=requests,
        errors=errors,
        p50_ms=_quick(latency, 0.5),
        p95_ms=_quick(latency, 0.95),
        p99_ms=_quick(latency, 0.99),
        max_ms=extent[1] if extent else None,
    )


def _quick(latency: Latencies, q: float) -> float | None:
    """A percentile of a second's few requests, for a picture: no interval."""
    n = latency.count
    return latency.at_rank_ms(max(1, -int(-q * n // 1))) if n else None


def _add_row(e: _Endpoint, row: dict[str, Any], latency: Latencies) -> None:
    e.requests += row["requests"]
    e.errors += row["errors"]
    e.size_bytes += row["bytes"]
    e.latency.add(latency)
    e.by_second.append(latency.sparse())
    if row["failed"]:
        e.failed = e.failed or Latencies()
        e.failed.add(Latencies.decode(row["failed"]))
    e.sum_ms += row["sum_ms"]
    if row["min_ms"] is not None:
        e.min_ms = row["min_ms"] if e.min_ms is None else min(e.min_ms, row["min_ms"])
        e.max_ms = row["max_ms"] if e.max_ms is None else max(e.max_ms, row["max_ms"])
    for kind, status, message, n in row["kinds"]:
        entry = e.kinds.setdefault((kind, status), [message, 0])
        entry[1] += n


def _add_unfinished(unfinished: list[list[Any]], windows: list[_Window]) -> None:
    for stage, method, name in unfinished:
        key = (method, name)
        windows[stage].endpoints.setdefault(key, _Endpoint(*key)).unfinished += 1


def _stage(suite: Suite, index: int, window: _Window) -> StageLoad:
    stage = suite.stages[index]
    assert window.opened is not None
    order = {e.name: i for i, e in enumerate(suite.endpoints)}
    ended = window.closed or window.last_seen or window.opened
    paths = {e.name: e.path for e in suite.endpoints}

    def sorted_parts(group: dict[tuple[str, str], _Endpoint]) -> list[_Endpoint]:
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
        started_at=_utc(window.opened),
        ended_at=_utc(ended),
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


def _endpoint(e: _Endpoint, path: str, window: _Window) -> EndpointLoad:
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


def _quantile(e: _Endpoint, q: float, totals: list[int]) -> Quantile:
    first = quantile(e.latency, q, unfinished=e.unfinished)
    if first.value_ms is None:
        if e.errors and not e.latency.count:
            return msgspec.structs.replace(first, reason="no request succeeded")
        return first
    effect = design_effect([x.count_at_most(first.value_ms) for x in e.by_second], totals)
    return quantile(e.latency, q, unfinished=e.unfinished, design_effect=effect)


def _rate_interval(parts: list[_Endpoint], window: _Window) -> tuple[float, float] | None:
    rates = [sum(e.ended_by_tick.get(i, 0) for e in parts) / s for i, s in enumerate(window.tick_seconds)]
    found = mean_interval(rates)
    return None if found is None else (max(0.0, found[0]), found[1])  # of few, uneven seconds it may reach below 0


def _notes(stages: list[StageLoad]) -> list[str]:
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


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
