"""A PostgreSQL server log into executed statements: stderr format, csvlog and jsonlog.

Read are the entries of log_min_duration_statement and its like ("duration: … ms  statement: …", "execute …: …" with
"parameters:" in the detail), of log_statement, and of auto_explain ("duration: … ms  plan:"). Messages must be English
(lc_messages). Formats: PostgreSQL's manual, "Error Reporting and Logging".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from dbperf.errors import PlanError, RecordError
from dbperf.plans.logged import logged_parameters
from dbperf.plans.read import read_plans
from dbperf.records.plans import Plan

LogFormat = Literal["stderr", "csv", "json"]


class LogEntry(NamedTuple):
    """One message of any kind."""

    line: int
    """Where it starts, from 1."""
    message: str
    detail: str
    database: str | None
    """None: the format does not say."""


class LoggedStatement(NamedTuple):
    """One execution."""

    line: int
    text: str
    parameters: list[str | None]
    duration_ms: float | None
    database: str | None
    plan: Plan | None
    """Of auto_explain; such an execution may be in the log a second time, without a plan."""


class Unreadable(NamedTuple):
    line: int
    reason: str


_ENTRY = re.compile(
    r"^.*?\b(?P<kind>LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]?|DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION"
    r"|BACKTRACE):  (?P<text>.*)$"
)
_NOT_NEW = frozenset({"HINT", "STATEMENT", "CONTEXT", "QUERY", "LOCATION", "BACKTRACE"})
_STATEMENT = re.compile(
    r"(?:duration: (?P<ms>[\d.]+) ms  )?(?:statement|execute (?!fetch from )(?:(?!: ).)+): (?P<text>.*)$", re.DOTALL
)
_PLAN = re.compile(r"duration: (?P<ms>[\d.]+) ms  plan:\s*\S", re.DOTALL)
# csvlog's columns (PostgreSQL's manual, "Using CSV-Format Log Output").
_CSV_DATABASE, _CSV_SEVERITY, _CSV_MESSAGE, _CSV_DETAIL = 2, 11, 13, 14
_CSV_COLUMNS = (23, 24, 25, 26)
_CSV_FIELD_MOST = 1 << 30
"""Python's own limit of 128 kB is less than a statement may have."""
_SEVERITIES = ("LOG", "ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "INFO", "DEBUG")


def format_of(head: str) -> LogFormat | None:
    """The format of a log by its beginning; None: no log of PostgreSQL.

    >>> format_of('2026-01-01 10:00:00 UTC [7] LOG:  duration: 3.1 ms  statement: SELECT 1')
    'stderr'
    >>> format_of('{"timestamp":"2026-01-01","error_severity":"LOG","message":"x"}'), format_of("SELECT 1;")
    ('json', None)
    """
    lines = [line for line in head.splitlines() if line.strip()]
    if not lines:
        return None
    if lines[0].startswith("{") and '"error_severity"' in head:
        return "json"
    try:
        if len(row := next(csv.reader(lines))) in _CSV_COLUMNS and row[_CSV_SEVERITY].startswith(_SEVERITIES):
            return "csv"
    except (csv.Error, StopIteration):
        pass
    return "stderr" if any((m := _ENTRY.match(x)) and not x.startswith("\t") and m["text"] for x in lines) else None


def entries(lines: Iterable[str], form: LogFormat, *, source: str) -> Iterator[LogEntry]:
    """All entries of a log. A last line that is cut off is left out: the server may be writing it.

    Raises:
        RecordError: a line that is no part of such a log; the message names it.
    """
    readers = {"stderr": _stderr_entries, "csv": _csv_entries, "json": _json_entries}
    return readers[form](lines, source)


def _stderr_entries(lines: Iterable[str], _source: str) -> Iterator[LogEntry]:
    at, message, detail, filling = 0, [""], [""], "other"
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n")
        if line[:1] in ("\t", " ") or not line:
            {"message": message, "detail": detail}.get(filling, []).append(line.removeprefix("\t"))
        elif (m := _ENTRY.match(line)) is None:
            filling = "other"  # an archive command's output, or a start-up script's
        elif m["kind"] == "DETAIL":
            detail, filling = [m["text"]], "detail"
        elif m["kind"] in _NOT_NEW:
            filling = "other"
        else:
            if at:
                yield LogEntry(at, "\n".join(message), "\n".join(detail), None)
            at, message, detail, filling = number, [m["text"]], [""], "message"
            if m["kind"] != "LOG":
                message, filling = [""], "other"
    if at:
        yield LogEntry(at, "\n".join(message), "\n".join(detail), None)


def _csv_entries(lines: Iterable[str], source: str) -> Iterator[LogEntry]:
    csv.field_size_limit(max(_CSV_FIELD_MOST, csv.field_size_limit()))
    reader = csv.reader(lines, strict=True)
    end = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            if "unexpected end of data" in str(e):
                return
            raise RecordError(f"{source}, line {end + 1}: not a row of a csvlog ({e})") from None
        start, end = end + 1, reader.line_num
        if len(row) not in _CSV_COLUMNS:
            raise RecordError(
                f"{source}, line {start}: {len(row)} columns, and a csvlog has {_CSV_COLUMNS[0]} to {_CSV_COLUMNS[-1]}"
            )
        if row[_CSV_SEVERITY] == "LOG":
            yield LogEntry(start, row[_CSV_MESSAGE], row[_CSV_DETAIL], row[_CSV_DATABASE] or None)


def _json_entries(lines: Iterable[str], source: str) -> Iterator[LogEntry]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = decoder.decode(line)
        except msgspec.DecodeError as e:
            if not line.endswith("\n"):
                return
            raise RecordError(f"{source}, line {number}: not a line of a jsonlog ({e})") from None
        if item.get("error_severity") == "LOG":
            message, detail = (str(item.get(key) or "") for key in ("message", "detail"))
            yield LogEntry(number, message, detail, item.get("dbname"))


def statements(log: Iterable[LogEntry]) -> Iterator[LoggedStatement | Unreadable]:
    """The executions that a log tells of. "parse" and "bind", and what an error says of its statement, are none."""
    for e in log:
        if m := _PLAN.match(e.message):
            yield _of_plan(e, float(m["ms"]))
        elif m := _STATEMENT.match(e.message):
            values = logged_parameters(e.detail)
            ms = float(m["ms"]) if m["ms"] else None
            yield LoggedStatement(e.line, m["text"].strip(), values, ms, e.database, None)


def _of_plan(e: LogEntry, duration_ms: float) -> LoggedStatement | Unreadable:
    head, *rest = e.message.split("\n")
    # As it stands in a stderr log: the reader of plans takes lines with a tab as the entry's own.
    text = "\n".join([f"LOG:  {head}", *(f"\t{line}" for line in rest)])
    try:
        plan = read_plans(text)[0]
    except PlanError as error:
        return Unreadable(e.line, f"the logged plan can't be read: {error.message}")
    asked = plan.extra.get("Query Text")
    if not isinstance(asked, str):
        return Unreadable(e.line, "the logged plan has no Query Text")
    values = logged_parameters(f"Query Parameters: {plan.extra.get('Query Parameters', '')}")
    return LoggedStatement(e.line, asked.strip(), values, duration_ms, e.database, plan)
