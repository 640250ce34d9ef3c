"""Results that Locust or k6 wrote without dbperf, as a Load, so that old results are judged and reported as others are.

Locust's `--json` holds counted response times (rounded by Locust to two digits from 100 ms on), so its percentiles get
intervals. Locust's CSV files and k6's summaries hold percentiles only: they are taken over, and no interval is made up.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dbperf.errors import RecordError
from dbperf.load.read_k6 import read_k6
from dbperf.load.read_locust import read_locust_csv, read_locust_json
from dbperf.records.foreign import ForeignEndpoint, ForeignLoad
from dbperf.records.load import EndpointLoad, Generator, Load, Quantile, StageLoad
from dbperf.records.reading import read_json
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES

_NO_SAMPLES = "imported: the file holds no samples"


def read_foreign(path: Path) -> ForeignLoad:
    """Locust's ``*_stats.csv`` (failures and history are read beside it), Locust's ``--json`` output, or k6's
    ``--summary-export`` or ``handleSummary`` JSON.

    Raises:
        RecordError: the file can't be read, is none of these, or holds impossible figures; file, line and column are
            named.
    """
    if path.suffix.lower() == ".csv":
        return read_locust_csv(path)
    data, content = read_json(path)
    if (found := foreign_of(path, data, content)) is None:
        raise RecordError(
            f"{path} is no load result that dbperf knows", hint="Locust's *_stats.csv or --json, or a k6 summary"
        )
    return found


def foreign_of(path: Path, data: bytes, content: Any) -> ForeignLoad | None:
    """What a JSON file tells, already decoded; None where it is neither Locust's nor k6's.

    Raises:
        RecordError: it is one of them and holds impossible figures.
    """
    if isinstance(content, list):
        if not content:
            raise RecordError(f"{path} holds no measurement", hint="the run measured nothing")
        return read_locust_json(path, data, content)
    if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
        return read_k6(path, data, content)
    return None


def as_load(found: ForeignLoad, path: Path) -> Load:
    """A Load of one stage. What the file does not tell is estimated and noted: the end is the file's own time, the
    duration follows from requests and rates.

    Raises:
        RecordError: nothing was requested.
    """
    counted = [e for e in found.endpoints if e.requests is not None]
    if not counted:
        raise RecordError(f"{path} holds no measurement", hint="the run measured nothing, or was cut short")
    requests = sum(e.requests or 0 for e in counted)
    if not requests:
        raise RecordError(f"{path} holds no requests", hint="nothing was sent, or nothing was answered")
    rate = sum(e.requests_per_s or 0.0 for e in counted)
    # A single moment counts as a second, as Locust counts it.
    seconds = found.duration_s or (requests / rate if rate else 1.0)
    end = found.ended_at or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    start = end - timedelta(seconds=seconds)
    stage = StageLoad(
        name="imported",
        model="closed",
        users=found.users,
        started_at=start,
        ended_at=end,
        warm_up_s=0.0,
        requests=requests,
        errors=sum(e.errors or 0 for e in counted),
        requests_per_s=requests / seconds,
        endpoints=[_endpoint(e, seconds) for e in counted],
    )
    engine = found.kind.partition("-")[0]
    generator = Generator(engine=engine, processes=1, cpu_share_max=None, loop_lag_max_ms=None, saturated=False)
    return Load(
        suite=path.stem,
        url="",
        started_at=start,
        ended_at=end,
        complete=True,
        imported_from=found.kind,
        stages=[stage],
        seconds=[],
        generator=generator,
        notes=[
            f"imported from {path.name}: warm-up and ramp are not left out, latencies count from the actual start, "
            "and the generator's health is not known",
            *found.notes,
        ],
    )


def _endpoint(e: ForeignEndpoint, seconds: float) -> EndpointLoad:
    assert e.requests is not None
    told = {q.q: q for q in e.quantiles}
    quantiles = e.quantiles if e.latency is not None else [_taken_over(q, told.get(q)) for q in LOAD_QUANTILES]
    return EndpointLoad(
        name=e.name,
        method=e.method,
        path=e.path,
        requests=e.requests,
        errors=e.errors or 0,
        errors_by_kind=e.errors_by_kind,
        requests_per_s=e.requests / seconds if e.requests_per_s is None else e.requests_per_s,
        response_bytes=e.response_bytes,
        latency=e.latency or Latencies().encode(),
        quantiles=quantiles,
        mean_ms=e.mean_ms,
        min_ms=e.min_ms,
        max_ms=e.max_ms,
    )


def _taken_over(q: float, told: Quantile | None) -> Quantile:
    if told is None:
        return Quantile(q=q, value_ms=None, reason="not in the file")
    return Quantile(q=q, value_ms=told.value_ms, reason=_NO_SAMPLES)
