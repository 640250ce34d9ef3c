"""A workload from server logs: each execution counts, and the values that were logged are planned for.

An execution that both log_min_duration_statement and auto_explain logged is one: of the two counts the larger holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import postgast

from dbperf.errors import RecordError, StatementError, UsageError
from dbperf.indexes.cases import GENERIC_SHARE, sampled, with_values
from dbperf.plans.server_log import LoggedStatement, Unreadable, entries, format_of, statements
from dbperf.postgres.collect import is_own
from dbperf.postgres.fingerprint import literals_masked, shape
from dbperf.postgres.sql_text import parameters_of, plannable
from dbperf.records.advice import Skipped
from dbperf.records.plans import Plan, StatementPlan
from dbperf.records.shadow import StatementCase, WorkloadStatement

SUFFIXES = (".json", ".csv", ".log")
"""What the logging collector names its files; of one name the first holds all that the others do."""
_HEAD_BYTES = 64 << 10
_CASES = 5
_DISTINCT_MOST = 1000
"""Different values kept of a statement; later ones count as calls, and are not planned for."""
_LONGEST_BYTES = 1 << 20


@dataclass
class _Group:
    """Executions of one statement."""

    id: str
    text: str
    database: str | None
    logged: float = 0.0
    explained: float = 0.0
    total_ms: float = 0.0
    timed: float = 0.0
    prepared: bool = False
    seen: dict[str, list[float]] = field(default_factory=dict)
    """Texts with their values, to how often they were logged and explained."""
    slowest: tuple[float, Plan, list[str | None]] | None = None


@dataclass
class LoggedWorkload:
    statements: list[WorkloadStatement]
    skipped: list[Skipped]
    plans: list[StatementPlan]
    """auto_explain's plan of each statement's longest execution."""


def is_log(path: Path) -> bool:
    """Whether a file begins as a server log does.

    Raises:
        RecordError: it can't be read.
    """
    return format_of(_head(path)) is not None


def log_files(folder: Path) -> list[Path]:
    """The server logs of a folder, each entry once: of one name in several formats the richest."""
    best: dict[Path, Path] = {}
    for suffix in SUFFIXES:
        for path in sorted(folder.glob(f"*{suffix}")):
            if is_log(path):
                best.setdefault(path.with_suffix(""), path)
    return sorted(best.values())


def read_logs(files: Iterable[Path]) -> LoggedWorkload:
    """The statements of server logs, weighted by their executions.

    Raises:
        RecordError: a file can't be read, or a line is no part of a log; the message names it.
        UsageError: no statement was logged.
    """
    groups: dict[tuple[str | None, str], _Group] = {}
    skipped: list[Skipped] = []
    names = []
    for path in files:
        names.append(str(path))
        for s in _of_file(path):
            where = f"{path.name}:{s.line}"
            if isinstance(s, Unreadable):
                skipped.append(Skipped(id=where, reason=s.reason))
            elif not is_own(s.text):
                _count(groups, s, where)
    if not groups and not skipped:
        raise UsageError(
            f"no statement is logged in {', '.join(names)}",
            hint="set log_min_duration_statement, or load auto_explain; messages must be English (lc_messages = 'C')",
        )
    found = list(groups.values())
    return LoggedWorkload([_statement(g) for g in found], skipped, [p for g in found for p in _plan(g)])


def _head(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return f.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e


def _of_file(path: Path) -> Iterator[LoggedStatement | Unreadable]:
    form = format_of(_head(path))
    if form is None:
        raise RecordError(
            f"{path}, line 1: not a server log", hint="stderr format, csvlog and jsonlog of PostgreSQL are read"
        )
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as f:
            yield from statements(entries(f, form, source=str(path)))
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e


def _count(groups: dict[tuple[str | None, str], _Group], s: LoggedStatement, where: str) -> None:
    for text, weight in _single(s):
        long = len(text) > _LONGEST_BYTES  # what is refused later need not be parsed
        key = (s.database, text if long else shape(literals_masked(text) or text))
        group = groups.setdefault(key, _Group(where, text, s.database))
        if s.plan is None:
            group.logged += weight
        else:
            group.explained += weight
            if group.slowest is None or (s.duration_ms or 0.0) > group.slowest[0]:
                group.slowest = (s.duration_ms or 0.0, s.plan, s.parameters)
        if s.duration_ms is not None:
            group.total_ms += s.duration_ms * weight
            group.timed += weight
        if not long and parameters_of(text):
            group.prepared, group.text = True, text
            found = with_values(text, dict(enumerate(s.parameters, 1))) if s.parameters else None
        else:
            found = text
        if found is not None and (found in group.seen or len(group.seen) < _DISTINCT_MOST):
            group.seen.setdefault(found, [0.0, 0.0])[0 if s.plan is None else 1] += weight


def _single(s: LoggedStatement) -> list[tuple[str, float]]:
    """The statements of a text. auto_explain logs the whole text for the plan of each."""
    if ";" not in s.text or len(s.text) > _LONGEST_BYTES:
        return [(s.text, 1.0)]
    try:
        parts = [p.strip() for p in postgast.split(s.text) if p.strip()]
    except postgast.PgQueryError:
        return [(s.text, 1.0)]
    if s.plan is None or len(parts) < 2:
        return [(p, 1.0) for p in parts]
    planned = [p for p in parts if _has_plan(p)]
    return [(p, 1 / len(planned)) for p in planned]


def _has_plan(text: str) -> bool:
    try:
        plannable(text)
    except StatementError:
        return False
    return True


def _statement(g: _Group) -> WorkloadStatement:
    calls = max(g.logged, g.explained)
    picked = sampled([(text, max(n)) for text, n in g.seen.items()], _CASES)
    text, share = g.text, 1 - GENERIC_SHARE
    if not g.prepared and picked:
        # Constants in the text: one of them stands for the statement, the others are its cases.
        text, share = picked[0][0], 1.0
    total = sum(n for _, n in picked) or 1.0
    return WorkloadStatement(
        id=g.id,
        text=text,
        calls=calls,
        mean_ms=g.total_ms / g.timed if g.timed else None,
        database=g.database,
        cases=[StatementCase(name="logged values", text=t, share=share * n / total) for t, n in picked if t != text],
    )


def _plan(g: _Group) -> Iterator[StatementPlan]:
    if g.slowest is not None:
        yield StatementPlan(queryid=None, text=g.text, how="logged", parameters=g.slowest[2], plan=g.slowest[1])
