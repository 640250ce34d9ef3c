"""A workload from a path: .sql files, a run directory, an application's trace, or the server's log.

In a .sql file a comment line ``-- calls: 1200`` before a statement gives its weight; without one it is 1. A file
`weights.json` beside the files ({"db-001": 1200}) does the same by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import postgast

from dbperf.errors import RecordError, UsageError
from dbperf.indexes.workload import LONGEST_BYTES, Workload, checked
from dbperf.indexes.workload_log import is_log, log_files, read_logs
from dbperf.indexes.workload_trace import loops_of_trace, statements_of_trace
from dbperf.records.base import read_document
from dbperf.records.plans import Plans
from dbperf.records.shadow import WorkloadStatement
from dbperf.records.statements import Statements
from dbperf.records.trace import Trace

_CALLS = re.compile(r"^\s*--\s*calls:\s*(\d+(?:\.\d+)?)\s*$", re.MULTILINE)
_WEIGHTS = "weights.json"
_TAKEN = (
    "--workload takes .sql files, a run directory, a trace (dbperf trace --format json) or a server log "
    "(log_min_duration_statement or auto_explain; stderr format, csvlog or jsonlog)"
)


class _Kind(msgspec.Struct):
    kind: object = None


def read_workload(path: Path) -> Workload:
    """A folder of .sql files, one .sql file, a run directory, a trace, a server log or a folder of such.

    A run directory's statements.json goes before its trace.json.

    Raises:
        UsageError: the path does not exist or holds no statement at all.
        RecordError: a file can't be read; the message names the line.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist", hint=_TAKEN)
    if path.is_dir():
        for name in (Statements.file_name, Trace.file_name):
            if (path / name).is_file():
                return read_workload(path / name)
        files = sorted(path.rglob("*.sql"))
        if not files and any(path.glob("*.trace.jsonl")):
            raise UsageError(
                f"{path} holds an application's raw trace",
                hint=f"summarise it first: dbperf trace --read {path} --format json -o trace.json",
            )
        if not files and (logs := log_files(path)):
            return _from_logs(logs)
    else:
        files = [path]
        if path.suffix != ".sql":
            if is_log(path):
                return _from_logs(files)
            if (document := _document(path)) is not None:
                return document
    if not files:
        raise UsageError(
            f"{path} holds neither {Statements.file_name} nor .sql files, a trace or a server log", hint=_TAKEN
        )
    weights = _weights(path / _WEIGHTS if path.is_dir() else path.with_name(_WEIGHTS))
    base = path if path.is_dir() else path.parent
    found = checked(s for f in files for s in _from_file(f, base, weights))
    if not found.statements and not found.skipped:
        raise UsageError(f"the .sql files in {path} are empty")
    return found


def _document(path: Path) -> Workload | None:
    """A record of dbperf's own that holds statements; None: it is none.

    Raises:
        RecordError: it is a record of another kind, or can't be read.
    """
    kind = _kind(path)
    if kind not in (Statements.kind, Trace.kind):
        if kind is not None:
            raise RecordError(f"{path} is a {kind} of dbperf's: it holds no statements", hint=_TAKEN)
        return None
    beside = path.with_name(Trace.file_name)
    trace = read_document(Trace, beside) if kind == Statements.kind and beside.is_file() else None
    if kind == Statements.kind:
        found = checked(_from_run(read_document(Statements, path)))
    else:
        trace = read_document(Trace, path)
        found = checked(statements_of_trace(trace))
        if not found.statements and not found.skipped:
            raise UsageError(f"no endpoint in {path} ran a statement")
    plans = path.with_name(Plans.file_name)
    return replace(
        found,
        plans=read_document(Plans, plans).plans if plans.is_file() else [],
        rewrites=loops_of_trace(trace, found.statements) if trace is not None else [],
    )


def _kind(path: Path) -> object:
    """A record's kind; None where a file holds no JSON object.

    Raises:
        RecordError: it begins as one and is none.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        return msgspec.json.decode(data, type=_Kind).kind
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read_document(Trace, path).kind  # which names the line


def _from_logs(files: list[Path]) -> Workload:
    logged = read_logs(files)
    found = checked(logged.statements)
    return Workload(found.statements, logged.skipped + found.skipped, logged.plans)


def _from_run(document: Statements) -> Iterator[WorkloadStatement]:
    for s in document.statements:
        yield WorkloadStatement(id=str(s.queryid), text=s.text, calls=float(s.calls), mean_ms=s.mean_ms)


def _weights(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (msgspec.DecodeError, OSError) as e:
        raise RecordError(f"{path}: {e}", hint='write it as {"file name without .sql": calls}') from e


def _from_file(path: Path, base: Path, weights: dict[str, float]) -> Iterator[WorkloadStatement]:
    stem = path.relative_to(base).with_suffix("").as_posix()
    raw = path.read_bytes()
    text = raw.decode("utf-8", errors="replace")
    if len(raw) > LONGEST_BYTES:
        # One huge statement or a dump: not worth splitting.
        yield WorkloadStatement(id=stem, text=text, calls=1.0)
        return
    try:
        parts = [p for p in postgast.split(text) if p.strip()]
    except postgast.PgQueryError:
        parts = [text] if text.strip() else []
    start = 0
    for n, part in enumerate(parts, 1):
        name = stem if len(parts) == 1 else f"{stem}:{n}"
        # Comments before a statement belong to it, whether the splitter keeps them or not.
        at = text.find(part, start)
        before = text[start : at + len(part)] if at >= 0 else part
        start = at + len(part) if at >= 0 else start
        calls = weights.get(name, float(m[1]) if (m := _CALLS.search(before)) else 1.0)
        yield WorkloadStatement(id=name, text=part, calls=calls)
