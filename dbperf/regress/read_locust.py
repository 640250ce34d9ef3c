"""Figures of Locust's own files: `*_stats.csv` (`--csv`) and its JSON (`--json`, `--json-file`).

The CSV is a summary. The JSON holds every latency, rounded to two significant digits above 100 ms, to whole
milliseconds below (locust/stats.py, StatsEntry._log_response_time): a histogram whose bins are up to 5 % wide.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dbperf.errors import RecordError
from dbperf.records.comparison import Conditions, Measurement, Side
from dbperf.records.load import Quantile
from dbperf.records.locate import place_at, place_of, second_of_its_name
from dbperf.regress.checks import Where, check, number, said
from dbperf.regress.compare import Figures
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import LOAD_QUANTILES, quantile

STATS_HEADER = ("Type", "Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%")
_PERCENTILES = {0.5: "50%", 0.9: "90%", 0.95: "95%", 0.99: "99%", 0.999: "99.9%"}
_LONGEST_GAP_S = 60.0
_HISTORY_HEADER = ("Timestamp", "User Count", "Type", "Name")


def read_locust_csv(path: Path) -> Figures:
    """Figures of a `*_stats.csv`; users and duration are taken from the `*_stats_history.csv` beside it.

    Raises:
        RecordError: it is not that file, is cut off, or holds impossible figures; file, line and column are named.
    """
    rows = _rows(path, STATS_HEADER)
    if path.name.endswith("_stats_history.csv"):
        raise RecordError(f"{path} is Locust's history", hint="name the file that ends with _stats.csv")
    if rows and (rows[-1][1]["Name"] != "Aggregated" or rows[-1][1]["Type"]):
        raise RecordError(
            f"{path}, line {rows[-1][0]}: it ends without Locust's row for all requests",
            hint="the file is truncated or was edited",
        )
    conditions, notes = _history(path)
    measurements = []
    for line, row in rows:
        if row["Name"] == "Aggregated" and not row["Type"]:
            continue
        where = f"{path}, line {line}, column "
        requests, errors = (_count(row[c], where + repr(c)) for c in ("Request Count", "Failure Count"))
        quantiles = [
            Quantile(q=q, value_ms=number(row[c], where + repr(c)))
            for q, c in _PERCENTILES.items()
            if c in row and row[c] != "N/A"
        ]
        measurements.append(
            Measurement(
                subject=f"{row['Type']} {row['Name']}".strip(),
                conditions=conditions,
                requests=requests,
                errors=errors,
                requests_per_s=number(row["Requests/s"], where + "'Requests/s'"),
                quantiles=quantiles,
            )
        )
    check(measurements, str(path))
    side = Side(source=str(path), kind="locust-csv", provenance="measured")
    return Figures(side=side, measurements=measurements, notes=notes)


def read_locust_json(path: Path, data: bytes, entries: list[Any]) -> Figures:
    """Figures of Locust's JSON, already decoded.

    Raises:
        RecordError: fields are missing or impossible.
    """
    measurements = []
    start = end = 0.0
    for i, entry in enumerate(entries):

        def where(*field: str, i: int = i) -> Callable[[], str]:
            return lambda: f"{path}, {place_of(data, (i, *field))}{f', field {field[0]}' if field else ''}"

        if not isinstance(entry, dict) or not {"name", "method", "num_requests", "response_times"} <= set(entry):
            raise RecordError(f"{where()()}: it is no entry of Locust's statistics")
        times = entry["response_times"]
        if not isinstance(times, dict):
            raise RecordError(f"{where('response_times')()}: a table of times was expected")
        latency = Latencies()
        for value, count in times.items():
            n = _count(count, where("response_times", value))
            latency.add_us(np.full(n, max(number(value, where("response_times", value)), 0.001) * 1e3))
        requests = _count(entry["num_requests"], where("num_requests"))
        errors = _count(entry.get("num_failures", 0), where("num_failures"))
        begun = number(entry.get("start_time", 0), where("start_time"))
        last = number(entry.get("last_request_timestamp") or begun, where("last_request_timestamp"))
        if last < begun:
            raise RecordError(
                f"{where('last_request_timestamp')()}: its last request came before its first: a clock jump"
            )
        start, end = min(start or begun, begun), max(end, last)
        seconds = last - begun
        measurements.append(
            Measurement(
                subject=f"{entry['method'] or ''} {entry['name']}".strip(),
                conditions=Conditions(),
                requests=requests,
                errors=errors,
                requests_per_s=requests / seconds if seconds else None,
                quantiles=[quantile(latency, q) for q in LOAD_QUANTILES] if latency.count else [],
                latency=latency.encode() if latency.count else None,
                rounded_by="locust",
            )
        )
    check(measurements, str(path))
    side = Side(source=str(path), kind="locust-json", provenance="measured")
    note = "Locust's JSON does not tell the number of users"
    return Figures(side=side, measurements=_with_duration(measurements, end - start), notes=[note])


def _with_duration(measurements: list[Measurement], seconds: float) -> list[Measurement]:
    conditions = Conditions(duration_s=round(seconds, 1))
    return [msgspec.structs.replace(m, conditions=conditions) for m in measurements]


def _history(path: Path) -> tuple[Conditions, list[str]]:
    """Users and duration from the history beside the statistics."""
    beside = path.with_name(path.name.removesuffix("_stats.csv") + "_stats_history.csv")
    if not path.name.endswith("_stats.csv") or not beside.is_file():
        return Conditions(), ["no _stats_history.csv lies beside it: the number of users and the duration are unknown"]
    rows = _rows(beside, _HISTORY_HEADER)
    users = [_count(r["User Count"], f"{beside}, line {line}, column 'User Count'") for line, r in rows]
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
        return Conditions(), [f"{beside.name} is empty: the number of users and the duration are unknown"]
    notes = (
        [] if len({u for u in users if u}) == 1 else ["the number of users changed during the run: the highest counts"]
    )
    return Conditions(users=max(users), duration_s=at[-1] - at[0] or None), notes


def _rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except UnicodeDecodeError as e:
        raise RecordError(f"{path}, {place_at(data, e.start)}: not UTF-8") from e
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    reader = csv.reader(io.StringIO(text), strict=True)
    found: list[tuple[int, dict[str, str]]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = _checked_header(path, cells, needed)
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                raise RecordError(
                    f"{path}, line {reader.line_num}, column {min(len(cells), len(header)) + 1}: {len(cells)} columns "
                    f"where the header has {len(header)}", hint="the file is truncated or was edited",
                )  # fmt: skip
            found.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as e:
        raise RecordError(f"{path}, line {reader.line_num}: {e}", hint="the file is truncated or was edited") from e
    if not header:
        raise RecordError(f"{path}, line 1: the file is empty")
    return found


def _checked_header(path: Path, cells: list[str], needed: tuple[str, ...]) -> list[str]:
    if missing := next((c for c in needed if c not in cells), None):
        hint = "it is written by locust --csv"
        if len(cells) == 1 and ";" in cells[0]:
            hint = "its columns are separated by ;: a spreadsheet saved it anew; use the file that Locust wrote"
        raise RecordError(f"{path}, line 1: column {missing!r} is missing", hint=hint)
    if twice := next((c for c in cells if cells.count(c) > 1), None):
        raise RecordError(f"{path}, line 1: column {twice!r} comes twice")
    return cells


def _count(text: object, where: Where) -> int:
    value = number(text, where)
    if value != int(value):
        raise RecordError(f"{said(where)}: {text!r} is not a whole number")
    return int(value)


def decode(path: Path) -> tuple[bytes, Any]:
    """The content of a JSON file.

    Raises:
        RecordError: it can't be read or is no JSON; line and column are named.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    try:
        # "NaN" and "Infinity" are no JSON, and Python would read them.
        return data, json.loads(data, parse_constant=_no_constant, object_pairs_hook=_once_each)
    except json.JSONDecodeError as e:
        raise RecordError(
            f"{path}, line {e.lineno}, column {e.colno}: {e.msg}", hint="the file is truncated or was edited"
        ) from e
    except UnicodeDecodeError as e:
        raise RecordError(f"{path}, {place_at(data, e.start)}: not UTF-8") from e
    except RecursionError as e:
        raise RecordError(f"{path}: it is nested too deeply to be a result") from e
    except _Constant as e:
        raise RecordError(f"{path}, {place_at(data, data.find(str(e).encode()))}: {e} is not a number") from e
    except _Twice:
        name, place = second_of_its_name(data) or ("a name", "line 1")
        raise RecordError(f"{path}, {place}: {name!r} comes twice", hint="the file was edited or merged") from None


class _Constant(Exception):
    pass


class _Twice(Exception):
    pass


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _no_constant(name: str) -> Any:
    raise _Constant(name)
