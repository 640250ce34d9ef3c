"""Reads Locust's own files: `*_stats.csv` (`--csv`) and its JSON (`--json`, `--json-file`).

The CSV is a summary. The JSON holds every latency, rounded to two significant digits above 100 ms, to whole
milliseconds below (locust/stats.py, StatsEntry._log_response_time): a histogram whose bins are up to 5 % wide.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dbperf.errors import RecordError
from dbperf.records.foreign import ForeignEndpoint, ForeignLoad
from dbperf.records.load import ErrorCount, Quantile
from dbperf.records.locate import place_of
from dbperf.records.reading import Where, count, number, read_csv, said
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile

_WRITTEN_BY = "it is written by locust --csv"
_STATS_HEADER = ("Type", "Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%")
_HISTORY_HEADER = ("Timestamp", "User Count", "Type", "Name")
_FAILURES_HEADER = ("Method", "Name", "Error", "Occurrences")
_PERCENTILES = {0.5: "50%", 0.9: "90%", 0.95: "95%", 0.99: "99%", 0.999: "99.9%"}
_TIMES = {
    "mean_ms": "Average Response Time",
    "min_ms": "Min Response Time",
    "max_ms": "Max Response Time",
}
_LONGEST_GAP_S = 60.0
_MESSAGE = 200


def read_locust_csv(path: Path) -> ForeignLoad:
    """What a `*_stats.csv` tells; users and duration are taken from the `*_stats_history.csv` beside it, errors by
    kind from the `*_failures.csv`.

    Raises:
        RecordError: it is not that file, is cut off, or holds impossible figures; file, line and column are named.
    """
    rows = read_csv(path, _STATS_HEADER, hint=_WRITTEN_BY)
    if path.name.endswith("_stats_history.csv"):
        raise RecordError(f"{path} is Locust's history", hint="name the file that ends with _stats.csv")
    if rows and (rows[-1][1]["Name"] != "Aggregated" or rows[-1][1]["Type"]):
        raise RecordError(
            f"{path}, line {rows[-1][0]}: it ends without Locust's row for all requests",
            hint="the file is truncated or was edited",
        )
    failures = _failures(path)
    endpoints: list[ForeignEndpoint] = []
    for line, row in rows:
        if row["Name"] == "Aggregated" and not row["Type"]:
            continue
        endpoint = _of_row(row, f"{path}, line {line}, column ", failures.get((row["Type"], row["Name"]), []))
        _add(endpoints, endpoint, f"{path}, line {line}")
    users, duration_s, ended_at, notes = _history(path)
    return ForeignLoad(
        kind="locust-csv", ended_at=ended_at, duration_s=duration_s, users=users, endpoints=endpoints, notes=notes
    )


def _of_row(row: dict[str, str], where: str, errors: list[ErrorCount]) -> ForeignEndpoint:
    def maybe(column: str) -> float | None:
        text = row.get(column, "N/A")
        return None if text == "N/A" else number(text, where + repr(column))

    requests = count(row["Request Count"], where + "'Request Count'")
    size = maybe("Average Content Size")
    found = {q: maybe(column) for q, column in _PERCENTILES.items() if column in row}
    return ForeignEndpoint(
        method=row["Type"],
        path=row["Name"],
        name=f"{row['Type']} {row['Name']}".strip(),
        requests=requests,
        errors=count(row["Failure Count"], where + "'Failure Count'"),
        errors_by_kind=errors,
        requests_per_s=number(row["Requests/s"], where + "'Requests/s'"),
        response_bytes=None if size is None else round(size * requests),
        quantiles=[Quantile(q=q, value_ms=ms) for q, ms in found.items() if ms is not None],
        **{field: maybe(column) for field, column in _TIMES.items()},  # type: ignore[arg-type]  # all are float | None
    )


def read_locust_json(path: Path, data: bytes, entries: list[Any]) -> ForeignLoad:
    """What Locust's JSON tells, already decoded.

    Raises:
        RecordError: fields are missing or impossible.
    """
    endpoints: list[ForeignEndpoint] = []
    spans: list[tuple[float, float]] = []
    for i, entry in enumerate(entries):

        def where(*field: str, i: int = i) -> Callable[[], str]:
            return lambda: f"{path}, {place_of(data, (i, *field))}{f', field {field[0]}' if field else ''}"

        if not isinstance(entry, dict) or not {"name", "method", "num_requests", "response_times"} <= set(entry):
            raise RecordError(f"{where()()}: it is no entry of Locust's statistics")
        spans.append(_span(entry, where))
        _add(endpoints, _of_entry(entry, where), where())
    known = [span for span in spans if span[0]]  # Locust writes 0 where it has not begun
    start, end = min((s for s, _ in known), default=0.0), max((e for _, e in known), default=0.0)
    seconds = end - start
    return ForeignLoad(
        kind="locust-json",
        ended_at=datetime.fromtimestamp(end, UTC) if end else None,
        duration_s=seconds or None,
        # As Locust counts them: over the whole load, not from an endpoint's own first request to its last.
        endpoints=[_with_rate(e, seconds) for e in endpoints],
        notes=["Locust's JSON does not tell the number of users"],
    )


def _of_entry(entry: dict[str, Any], where: Callable[..., Callable[[], str]]) -> ForeignEndpoint:
    times = entry["response_times"]
    if not isinstance(times, dict):
        raise RecordError(f"{where('response_times')()}: a table of times was expected")
    latency = Latencies()
    for value, n in times.items():
        at = where("response_times", value)
        latency.add_us(np.full(count(n, at), max(number(value, at), 0.001) * 1e3))

    def maybe(field: str) -> float | None:
        return None if entry.get(field) is None else number(entry[field], where(field))

    requests = count(entry["num_requests"], where("num_requests"))
    total_ms, size = maybe("total_response_time"), maybe("total_content_length")
    return ForeignEndpoint(
        method=entry["method"] or "",
        path=entry["name"],
        name=f"{entry['method'] or ''} {entry['name']}".strip(),
        requests=requests,
        errors=count(entry.get("num_failures", 0), where("num_failures")),
        response_bytes=None if size is None else round(size),
        latency=latency.encode() if latency.count else None,
        quantiles=[quantile(latency, q) for q in LOAD_QUANTILES] if latency.count else [],
        mean_ms=total_ms / requests if requests and total_ms is not None else None,
        min_ms=maybe("min_response_time"),
        max_ms=maybe("max_response_time") if requests else None,
    )


def _span(entry: dict[str, Any], where: Callable[..., Callable[[], str]]) -> tuple[float, float]:
    """First and last moment of an entry, in seconds since the epoch."""
    begun = number(entry.get("start_time", 0), where("start_time"))
    last = number(entry.get("last_request_timestamp") or begun, where("last_request_timestamp"))
    if last < begun:
        raise RecordError(f"{where('last_request_timestamp')()}: its last request came before its first: a clock jump")
    return begun, last


def _with_rate(e: ForeignEndpoint, seconds: float) -> ForeignEndpoint:
    assert e.requests is not None
    return msgspec.structs.replace(e, requests_per_s=e.requests / seconds) if seconds else e


def _add(endpoints: list[ForeignEndpoint], one: ForeignEndpoint, where: Where) -> None:
    """Raises:
    RecordError: it is there already, or failed more often than it was asked for.
    """
    assert one.requests is not None
    assert one.errors is not None
    if any(e.name == one.name for e in endpoints):
        raise RecordError(f"{said(where)}: it names {one.name!r} twice", hint="the file was edited or merged")
    if one.errors > one.requests:
        raise RecordError(f"{said(where)}: {one.errors} errors of {one.requests} requests")
    endpoints.append(one)


def _beside(path: Path, ending: str) -> Path | None:
    """Another file of the same `--csv`; None where there is none."""
    if not path.name.endswith("_stats.csv"):
        return None
    beside = path.with_name(path.name.removesuffix("_stats.csv") + ending)
    return beside if beside.is_file() else None


def _failures(path: Path) -> dict[tuple[str, str], list[ErrorCount]]:
    """Errors by method and name, from the failures beside the statistics."""
    found: dict[tuple[str, str], list[ErrorCount]] = {}
    if (beside := _beside(path, "_failures.csv")) is None:
        return found
    for line, row in read_csv(beside, _FAILURES_HEADER, hint=_WRITTEN_BY):
        n = count(row["Occurrences"], f"{beside}, line {line}, column 'Occurrences'")
        error = ErrorCount(kind=_kind(row["Error"]), message=row["Error"][:_MESSAGE], count=n)
        found.setdefault((row["Method"], row["Name"]), []).append(error)
    return found


def _kind(error: str) -> str:
    """ "http 500" from Locust's texts for bad statuses; else the text up to its first bracket."""
    for mark in ("code=", "HTTPError('", "status "):
        at = error.find(mark)
        status = error[at + len(mark) : at + len(mark) + 3]
        if at >= 0 and status.isdigit():
            return f"http {status}"
    return error.partition("(")[0].strip()[:60] or "error"


def _history(path: Path) -> tuple[int | None, float | None, datetime | None, list[str]]:
    """Users, duration and end from the history beside the statistics, and what weakens them."""
    if (beside := _beside(path, "_stats_history.csv")) is None:
        missing = "no _stats_history.csv lies beside it: the number of users and the duration are unknown"
        return None, None, None, [missing]
    rows = read_csv(beside, _HISTORY_HEADER, hint=_WRITTEN_BY)
    users = [count(r["User Count"], f"{beside}, line {line}, column 'User Count'") for line, r in rows]
    at = [number(r["Timestamp"], f"{beside}, line {line}, column 'Timestamp'") for line, r in rows]
    for i in range(1, len(at)):
        if at[i] < at[i - 1]:
            raise RecordError(
                f"{beside}, line {rows[i][0]}, column 'Timestamp': time runs backwards: the clock was set",
            )
    # Rows of one second share their time; Locust's interval between seconds can be set.
    gaps = [later - earlier for earlier, later in itertools.pairwise(at) if later > earlier]
    longest = max(_LONGEST_GAP_S, 10 * float(np.median(gaps))) if gaps else _LONGEST_GAP_S
    for i in range(1, len(at)):
        if at[i] - at[i - 1] > longest:
            raise RecordError(
                f"{beside}, line {rows[i][0]}, column 'Timestamp': a clock jump of {at[i] - at[i - 1]:.0f} s",
                hint="the clock was set, or the machine slept",
            )
    if not users:
        return None, None, None, [f"{beside.name} is empty: the number of users and the duration are unknown"]
    changed = len({u for u in users if u}) != 1
    notes = ["the number of users changed during the run: the highest counts"] if changed else []
    return max(users), at[-1] - at[0] or None, datetime.fromtimestamp(at[-1], UTC), notes
