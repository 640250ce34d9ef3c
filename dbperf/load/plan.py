"""What `loadtests/driver.py` is told: one JSON line on its standard input (not a file: it holds the API key)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import ConfigError, UsageError
from dbperf.load.data import without_data
from dbperf.records.base import Record
from dbperf.records.load import LeftOut
from dbperf.records.suite import Suite


class Place(Record, frozen=True, kw_only=True):
    """A region that workers stand for, and the round trip that is added to each of their requests."""

    region: str
    added_latency_s: float = 0.0


class Fleet(Record, frozen=True, kw_only=True):
    """Workers that make a load together, behind a master."""

    workers: int
    """How many the master waits for."""
    bind_host: str = "127.0.0.1"
    port: int
    connect_s: float = 60.0
    """How long it waits."""
    local: tuple[Place | None, ...] = ()
    """The workers that are started here, each with its region if it has one; others come from other machines."""


def worker_plan(host: str, port: int, place: Place | None, locustfile: Path | None = None) -> dict[str, Any]:
    """What a worker is told; the rest comes from its master.

    Raises:
        UsageError: a time is to be added to requests that are not dbperf's own.
    """
    if locustfile is not None and place is not None and place.added_latency_s:
        raise UsageError(
            f"{place.region}: no time can be added to the requests of a locustfile",
            hint=f"--region {place.region} without the time labels them",
        )
    return {
        "role": "worker",
        "locustfile": str(locustfile) if locustfile else None,
        "master_host": host,
        "master_port": port,
        "region": place.region if place else None,
        "added_latency_s": place.added_latency_s if place else 0.0,
    }


def select_endpoints(suite: Suite, data: dict[str, list[Any]], *, allow_writes: bool) -> tuple[Suite, list[LeftOut]]:
    """The suite with the endpoints that will be called, and the others with the reason.

    Raises:
        ConfigError: none is left.
    """
    left_out = without_data(suite, data)
    names = {x.endpoint for x in left_out}
    for endpoint in suite.endpoints:
        if endpoint.writes and not allow_writes and endpoint.name not in names:
            names.add(endpoint.name)
            left_out.append(LeftOut(endpoint=endpoint.name, reason="it writes to the target's data: --apply sends it"))
    kept = [e for e in suite.endpoints if e.name not in names]
    if not kept:
        reasons = "; ".join(f"{x.endpoint}: {x.reason}" for x in left_out)
        raise ConfigError(f"suite {suite.name!r} has no endpoint that may be called", hint=reasons)
    return msgspec.structs.replace(suite, endpoints=kept), left_out


def mix(suite: Suite) -> dict[str, float]:
    """Endpoint name to its share of requests (0..1), as asked for."""
    total = sum(e.weight for e in suite.endpoints)
    return {e.name: e.weight / total for e in suite.endpoints}


def driver_plan(
    suite: Suite,
    url: str,
    data: Mapping[str, list[Any]],
    *,
    headers: Mapping[str, str],
    file: Path,
    handshake: bool,
    verify_tls: bool,
    locust_prefix: str | None,
    fleet: Fleet | None = None,
    locustfile: Path | None = None,
) -> dict[str, Any]:
    """The plan as the driver reads it."""
    sources = {d.name: d for d in suite.data}
    return {
        "role": "driver",
        "workers": fleet.workers if fleet else 0,
        "master_host": fleet.bind_host if fleet else None,
        "master_port": fleet.port if fleet else None,
        "connect_s": fleet.connect_s if fleet else 0.0,
        "locustfile": str(locustfile) if locustfile else None,
        "url": url,
        "seed": suite.seed,
        "stages": msgspec.to_builtins(suite.stages),
        "endpoints": msgspec.to_builtins(suite.endpoints),
        "data": {
            name: {"values": values, "distribution": sources[name].distribution, "skew": sources[name].skew}
            for name, values in data.items()
        },
        "think_time": msgspec.to_builtins(suite.think_time),
        "headers": dict(headers),
        "verify_tls": verify_tls,
        "drain_s": suite.drain_s,
        "max_in_flight": suite.max_in_flight,
        "handshake": handshake,
        "file": str(file),
        "locust_prefix": locust_prefix,
    }
