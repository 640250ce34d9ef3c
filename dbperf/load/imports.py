"""Results that Locust or k6 wrote without dbperf, as a Load, so that old results enter comparisons.

Locust's `--json` holds counted response times (rounded by Locust to two digits from 100 ms on), so its percentiles get
intervals. Locust's CSV files and k6's summaries hold percentiles only: they are taken over, and no interval is made up.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dbperf.errors import RecordError
from dbperf.records.load import EndpointLoad, ErrorCount, Generator, Load, Quantile, StageLoad
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile

_NO_SAMPLES = "imported: the file holds no samples"
_CSV_QUANTILES = {0.5: "50%", 0.9: "90%", 0.95: "95%", 0.99: "99%", 0.999: "99.9%"}
_K6_QUANTILES = {0.5: "med", 0.9: "p(90)", 0.95: "p(95)", 0.99: "p(99)", 0.999: "p(99.9)"}


def import_load(path: Path) -> Load:
    """A Load from Locust's ``*_stats.csv`` (failures and history are read beside it), Locust's ``--json`` output, or
    k6's ``--summary-export`` or ``handleSummary`` JSON.

    Raises:
        RecordError: the file can't be read, or is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, UnicodeDecodeError) as e:
        raise RecordError(f"{path} can't be read: {e}") from e
    if path.suffix == ".csv":
        return _locust_csv(path, text, modified)
    try:
        data = json.loads(text)
    except ValueError as e:
        raise RecordError(f"{path} is neither CSV nor JSON: {e}") from e
    try:
        if isinstance(data, list) and data and all("response_times" in x for x in data):
            return _locust_json(path, data)
        if isinstance(data, dict) and "http_reqs" in data.get("metrics", {}):
            return _k6(path, data["metrics"], data.get("state", {}), modified)
    except (KeyError, TypeError, ValueError) as e:
        raise RecordError(f"{path}: {type(e).__name__}: {e}", hint="was the file edited?") from e
    raise RecordError(
        f"{path} is no load result that dbperf knows", hint="Locust's *_stats.csv or --json, or a k6 summary"
    )


def _load(
    path: Path, engine: str, start: datetime, end: datetime, users: int | None, endpoints: list[EndpointLoad]
) -> Load:
    seconds = max((end - start).total_seconds(), 1e-9)
    requests = sum(e.requests for e in endpoints)
    stage = StageLoad(
        name="imported",
        model="closed",
        users=users,
        started_at=start,
        ended_at=end,
        warm_up_s=0.0,
        requests=requests,
        errors=sum(e.errors for e in endpoints),
        requests_per_s=requests / seconds,
        endpoints=endpoints,
    )
    generator = Generator(engine=engine, processes=1, cpu_share_max=None, loop_lag_max_ms=None, saturated=False)
    return Load(
        suite=path.stem,
        url="",
        started_at=start,
        ended_at=end,
        complete=True,
        stages=[stage],
        seconds=[],
        generator=generator,
        notes=[
            f"imported from {path.name}: warm-up and ramp are not left out, latencies count from the actual start, "
            "and the generator's health is not known"
        ],
    )


def _locust_json(path: Path, entries: Sequence[Mapping[str, Any]]) -> Load:
    start = min(e["start_time"] for e in entries)
    end = max(e["last_request_timestamp"] or e["start_time"] for e in entries)
    seconds = max(end - start, 1e-9)
    endpoints = []
    for e in entries:
        times = {float(ms): int(n) for ms, n in e["response_times"].items()}
        latencies = Latencies.of_ms(np.repeat(list(times), list(times.values())) if times else [])
        requests, errors = int(e["num_requests"]), int(e["num_failures"])
        endpoints.append(
            EndpointLoad(
                name=f"{e['method']} {e['name']}".strip(),
                method=e["method"] or "",
                path=e["name"],
                requests=requests,
                errors=errors,
                requests_per_s=requests / seconds,
                response_bytes=int(e["total_content_length"]),
                latency=latencies.encode(),
                quantiles=[quantile(latencies, q) for q in LOAD_QUANTILES],
                mean_ms=e["total_response_time"] / requests if requests else None,
                min_ms=e["min_response_time"],
                max_ms=e["max_response_time"] if requests else None,
            )
        )
    return _load(path, "locust", datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), None, endpoints)


def _locust_csv(path: Path, text: str, modified: datetime) -> Load:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"Type", "Name", "Request Count", "50%"} <= rows[0].keys():
        raise RecordError(f"{path} is not Locust's *_stats.csv", hint="Locust writes it with --csv")
    prefix = path.name.removesuffix("_stats.csv")
    failures = _beside(path, f"{prefix}_failures.csv")
    history = _beside(path, f"{prefix}_stats_history.csv")
    stamps = [float(r["Timestamp"]) for r in history if r.get("Timestamp", "").isdigit()]
    users = max((int(r["User Count"]) for r in history if r.get("User Count", "").isdigit()), default=None)
    endpoints = []
    try:
        for row in (r for r in rows if r["Name"] != "Aggregated"):
            errors = [
                ErrorCount(kind=_kind(f["Error"]), message=f["Error"][:200], count=int(f["Occurrences"]))
                for f in failures
                if (f["Method"], f["Name"]) == (row["Type"], row["Name"])
            ]
            endpoints.append(_from_percentiles(row, _CSV_QUANTILES, errors))
    except (KeyError, ValueError) as e:
        raise RecordError(f"{path}: {type(e).__name__}: {e}", hint="was the file edited?") from e
    total = sum(e.requests for e in endpoints)
    rate = sum(float(r["Requests/s"]) for r in rows if r["Name"] != "Aggregated")
    end = datetime.fromtimestamp(max(stamps), UTC) if stamps else modified
    length = max(stamps) - min(stamps) if len(set(stamps)) > 1 else (total / rate if rate else 0.0)
    return _load(path, "locust", end - timedelta(seconds=length), end, users, endpoints)


def _from_percentiles(row: Mapping[str, str], columns: Mapping[float, str], errors: list[ErrorCount]) -> EndpointLoad:
    requests = int(row["Request Count"])
    return EndpointLoad(
        name=f"{row['Type']} {row['Name']}".strip(),
        method=row["Type"],
        path=row["Name"],
        requests=requests,
        errors=int(row["Failure Count"]),
        errors_by_kind=errors,
        requests_per_s=float(row["Requests/s"]),
        response_bytes=round(float(row["Average Content Size"]) * requests),
        latency=Latencies().encode(),
        quantiles=[_taken_over(q, _number(row.get(column))) for q, column in columns.items()],
        mean_ms=_number(row.get("Average Response Time")),
        min_ms=_number(row.get("Min Response Time")),
        max_ms=_number(row.get("Max Response Time")),
    )


def _k6(path: Path, metrics: Mapping[str, Any], state: Mapping[str, Any], modified: datetime) -> Load:
    def values(name: str) -> Mapping[str, Any]:
        metric = metrics.get(name, {})
        found: Mapping[str, Any] = metric.get("values", metric)  # handleSummary nests, --summary-export does not
        return found

    counted, duration, failed = values("http_reqs"), values("http_req_duration"), values("http_req_failed")
    requests = int(counted["count"])
    errors = round(float(failed.get("rate", failed.get("value", 0.0))) * requests)
    seconds = state["testRunDurationMs"] / 1e3 if "testRunDurationMs" in state else requests / float(counted["rate"])
    users = values("vus_max").get("max", values("vus_max").get("value"))
    endpoint = EndpointLoad(
        name="all",
        method="*",
        path="*",
        requests=requests,
        errors=errors,
        requests_per_s=float(counted["rate"]),
        response_bytes=int(values("data_received").get("count", 0)),
        latency=Latencies().encode(),
        quantiles=[_taken_over(q, duration.get(key)) for q, key in _K6_QUANTILES.items()],
        mean_ms=duration.get("avg"),
        min_ms=duration.get("min"),
        max_ms=duration.get("max"),
    )
    start = modified - timedelta(seconds=seconds)
    return _load(path, "k6", start, modified, int(users) if users is not None else None, [endpoint])


def _taken_over(q: float, value_ms: float | None) -> Quantile:
    return Quantile(q=q, value_ms=value_ms, reason=_NO_SAMPLES if value_ms is not None else "not in the file")


def _number(text: str | None) -> float | None:
    return None if text in (None, "", "N/A") else float(text)


def _kind(error: str) -> str:
    """ "http 500" from Locust's texts for bad statuses; else the text up to its first bracket."""
    for mark in ("code=", "HTTPError('", "status "):
        at = error.find(mark)
        status = error[at + len(mark) : at + len(mark) + 3]
        if at >= 0 and status.isdigit():
            return f"http {status}"
    return error.partition("(")[0].strip()[:60] or "error"


def _beside(path: Path, name: str) -> list[dict[str, str]]:
    file = path.with_name(name)
    return list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())) if file.is_file() else []
