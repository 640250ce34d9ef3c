"""The statements that advice is for, with their weights: from .sql files, a run directory, an application's trace, the
server's log, or pg_stat_statements.

In a .sql file a comment line ``-- calls: 1200`` before a statement gives its weight; without one it is 1. A file
`weights.json` beside the files ({"db-001": 1200}) does the same by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import postgast

from dbperf.errors import RecordError, StatementError, UsageError
from dbperf.indexes.workload_log import is_log, log_files, read_logs
from dbperf.indexes.workload_trace import statements_of_trace
from dbperf.postgres.collect import is_own
from dbperf.postgres.fingerprint import fingerprint, literals_masked
from dbperf.postgres.sql_text import plannable, repair_normalised
from dbperf.postgres.statements import snapshot
from dbperf.records.advice import Skipped
from dbperf.records.base import read_document
from dbperf.records.plans import Plans, StatementPlan
from dbperf.records.shadow import WorkloadStatement
from dbperf.records.statements import Statements
from dbperf.records.trace import Trace

LONGEST_BYTES = 1 << 20
_CALLS = re.compile(r"^\s*--\s*calls:\s*(\d+(?:\.\d+)?)\s*$", re.MULTILINE)
_WEIGHTS = "weights.json"
_TAKEN = (
    "--workload takes .sql files, a run directory, a trace (dbperf trace --format json) or a server log "
    "(log_min_duration_statement or auto_explain; stderr format, csvlog or jsonlog)"
)


class _Kind(msgspec.Struct):
    kind: object = None


@dataclass(frozen=True)
class Workload:
    """What can be planned, and what can't with the reason."""

    statements: list[WorkloadStatement]
    skipped: list[Skipped]
    plans: list[StatementPlan] = field(default_factory=list)
    """Plans that were executed and kept beside the statements, by a run or by auto_explain."""

    def of_database(self, name: str) -> Workload:
        """Without statements that ran elsewhere. A log of one database alone is taken, whatever that is called."""
        named = {s.database for s in self.statements} - {None}
        if len(named) < 2 and name not in named:
            return self
        elsewhere = [s for s in self.statements if s.database not in (None, name)]
        skipped = [Skipped(id=s.id, reason=f"it ran in the database {s.database}") for s in elsewhere]
        kept = [s for s in self.statements if s.database in (None, name)]
        return replace(self, statements=kept, skipped=self.skipped + skipped)


def checked(candidates: Iterable[WorkloadStatement]) -> Workload:
    """Keeps what has a plan; equal statements (by fingerprint and text) are one with their calls added."""
    kept: dict[tuple[str | None, str], WorkloadStatement] = {}
    skipped: list[Skipped] = []
    for s in candidates:
        try:
            text = _checked_text(s.text)
        except StatementError as e:
            skipped.append(Skipped(id=s.id, reason=e.message))
            continue
        key = (s.database, text)
        if (first := kept.get(key)) is not None:
            kept[key] = msgspec.structs.replace(first, calls=first.calls + s.calls)
        else:
            kept[key] = msgspec.structs.replace(s, text=text)
    return Workload(statements=list(kept.values()), skipped=skipped)


def _checked_text(sql: str) -> str:
    if len(sql.encode(errors="replace")) > LONGEST_BYTES:
        raise StatementError(f"longer than {LONGEST_BYTES >> 20} MB")
    if "\0" in sql:
        raise StatementError("it contains a NUL character")
    text = repair_normalised(sql)
    try:
        postgast.parse(text)
    except postgast.PgQueryError as e:
        raise StatementError(f"it does not parse: {str(e).splitlines()[0]}") from e
    return plannable(text)


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
        if (path / Statements.file_name).is_file():
            plans = _plans_beside(path / Statements.file_name)
            return checked_with_plans(_from_run(read_document(Statements, path / Statements.file_name)), plans)
        if (path / Trace.file_name).is_file():
            return read_workload(path / Trace.file_name)
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
    if kind == Statements.kind:
        return checked_with_plans(_from_run(read_document(Statements, path)), _plans_beside(path))
    if kind == Trace.kind:
        found = checked(statements_of_trace(read_document(Trace, path)))
        if not found.statements and not found.skipped:
            raise UsageError(f"no endpoint in {path} ran a statement")
        return replace(found, plans=_plans_beside(path))
    if kind is not None:
        raise RecordError(f"{path} is a {kind} of dbperf's: it holds no statements", hint=_TAKEN)
    return None


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


def _plans_beside(path: Path) -> list[StatementPlan]:
    beside = path.with_name(Plans.file_name)
    return read_document(Plans, beside).plans if beside.is_file() else []


def checked_with_plans(statements: Iterable[WorkloadStatement], plans: list[StatementPlan]) -> Workload:
    return replace(checked(statements), plans=plans)


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


async def workload_of_server(conn: asyncpg.Connection[Any], *, top: int | None = 1000) -> Workload:
    """The statements that pg_stat_statements has of the connection's database, the longest in total first.

    Raises:
        CapabilityError: pg_stat_statements is missing or not preloaded.
    """
    now = await snapshot(conn, texts=True)
    rows = sorted(now.entries.items(), key=lambda x: (-x[1].total_ms, x[0]))
    found: dict[str, WorkloadStatement] = {}
    for key, entry in rows:
        text = now.texts.get(key)
        if text is None or is_own(text) or not entry.toplevel or entry.calls == 0:
            continue
        same = fingerprint(text) or text
        if (first := found.get(same)) is not None:
            found[same] = msgspec.structs.replace(first, calls=first.calls + entry.calls)
        else:
            mean = entry.total_ms / entry.calls
            found[same] = WorkloadStatement(id=str(key.queryid), text=text, calls=float(entry.calls), mean_ms=mean)
    return checked(list(found.values())[:top])


def masked(statements: Iterable[WorkloadStatement]) -> list[WorkloadStatement]:
    """The same statements with constants replaced by parameters, without values; those that don't parse are dropped."""
    texts = ((s, literals_masked(s.text)) for s in statements)
    return [msgspec.structs.replace(s, text=repair_normalised(t), cases=[]) for s, t in texts if t is not None]
