"""A profile as text for a terminal, Markdown for a pull request, JSON for scripts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from dbperf.units import format_bytes, format_count, format_ms, format_seconds, format_share

if TYPE_CHECKING:
    from dbperf.records.profile import Profile
    from dbperf.records.statements import OrderBy, Statement
    from dbperf.records.waits import BlockedSession, BlockingChain, Session

Table = tuple[list[str], list[list[str]]]
"""Headings and rows. A heading that starts with < is a column of text, the others are numbers."""
EVENTS = 12
CHAINS = 5
TABLES = 8
CHAIN_MS = 50.0
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), 0x200E, 0x200F, *range(0x202A, 0x202F)], " ")

_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "\\`*_[]<>|#"}


def render(profile: Profile, output_format: str, *, order_by: OrderBy) -> str:
    """The profile in one of the formats "text", "json" and "markdown"."""
    if output_format == "json":
        return msgspec.json.format(msgspec.json.encode(profile.contract()), indent=2).decode()
    markdown = output_format == "markdown"
    # A file or pipe gets whole lines; a terminal gets what fits.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not markdown else 160
    parts = [_head(profile, markdown), _findings(profile, markdown)]
    parts += [_titled("Statements", statement_table(profile, order_by), markdown, width)]
    waits = profile.waits
    if waits is not None and waits.events:
        parts.append(_titled("Active session time", wait_table(profile), markdown, width))
    if waits is not None and (chains := [c for c in waits.blockers if c.longest_wait_ms >= CHAIN_MS][:CHAINS]):
        body = "\n".join(line for c in chains for line in chain_lines(c))
        parts.append(f"## Blocking\n\n```\n{body}\n```" if markdown else f"Blocking\n\n{body}")
    if waits is not None and waits.pools:
        parts.append(_titled("Connections", pool_table(profile), markdown, width))
    if profile.database is not None:
        parts.append(_database(profile, markdown))
        if profile.database.tables:
            parts.append(_titled("Tables", table_table(profile), markdown, width))
    parts.append(_foot(profile))
    return "\n\n".join(p for p in parts if p)


def plain(text: str | None) -> str:
    """Text of a database on one line, without what could drive a terminal.

    >>> plain("a\\x1b[31m\\n  b")
    'a [31m b'
    """
    return " ".join((text or "").translate(_CONTROLS).split())


def statement_table(profile: Profile, order_by: OrderBy) -> Table:
    """The statements, with the column that they are ordered by."""
    columns: dict[str, tuple[str, Callable[[Statement], str]]] = {
        "io": ("I/O", _io),
        "temp": ("temp", lambda s: format_bytes((s.temp_blks_read + s.temp_blks_written) * 8192)),
        "wal": ("WAL", lambda s: format_bytes(s.wal_bytes)),
        "planning": ("planning", lambda s: format_ms(s.planning_ms)),
        "rows": ("rows", lambda s: format_count(s.rows)),
    }
    extra = columns.get(order_by)
    requests = any(s.calls_per_request is not None for s in profile.statements.statements)
    heads = ["share", "total", "mean", "calls", *(["per request"] if requests else []), "rows/call", "hits"]
    heads += [extra[0]] if extra else []
    rows = []
    for s in profile.statements.statements:
        row = [format_share(s.share), format_ms(s.total_ms), format_ms(s.mean_ms), format_count(s.calls)]
        row += [format_count(s.calls_per_request)] if requests else []
        row += [format_count(s.rows_per_call), format_share(s.hit_ratio)]
        row += [extra[1](s)] if extra else []
        rows.append([*row, _marked(s)])
    return [*heads, "<statement"], rows


def _marked(s: Statement) -> str:
    marks = [f"{s.merged} variants"] if s.merged > 1 else []
    marks += [] if s.toplevel else ["nested"]
    marks += [] if s.valid else ["incomplete"]
    return (f"({', '.join(marks)}) " if marks else "") + plain(s.text)


def _io(s: Statement) -> str:
    times = [t for t in (s.blk_read_ms, s.blk_write_ms, s.temp_blk_read_ms, s.temp_blk_write_ms) if t is not None]
    blocks = s.shared_blks_read + s.shared_blks_written + s.temp_blks_read + s.temp_blks_written
    return format_ms(sum(times)) if times else f"{format_count(blocks)} blocks"


def wait_table(profile: Profile) -> Table:
    """Wait events, with the statement that spent most time in each."""
    assert profile.waits is not None
    rows = []
    for event in profile.waits.events[:EVENTS]:
        name = event.wait_event_type
        if event.wait_event != event.wait_event_type:
            name += f": {event.wait_event}"
        spent = [
            (e.session_ms, s.text or f"queryid {s.queryid}")
            for s in profile.waits.by_statement
            for e in s.events
            if (e.wait_event_type, e.wait_event) == (event.wait_event_type, event.wait_event)
        ]
        most = max(spent, default=(0.0, ""))
        rows.append([format_share(event.share), format_ms(event.session_ms), name, plain(most[1])])
    return ["share", "time", "<event", "<mostly"], rows


def pool_table(profile: Profile) -> Table:
    assert profile.waits is not None
    rows = [
        [
            format_count(p.connections_max),
            format_count(p.active_max),
            format_count(p.active_mean),
            format_count(p.idle_in_transaction_max),
            format_share(p.use_mean),
            plain(p.application_name) or "(no name)",
            plain(p.user),
        ]
        for p in profile.waits.pools[:TABLES]
    ]
    return ["connections", "active max", "mean", "idle in transaction", "use", "<application", "<user"], rows


def table_table(profile: Profile) -> Table:
    assert profile.database is not None
    rows = [
        [
            format_count(t.seq_scans),
            format_count(t.seq_rows_per_scan),
            format_count(t.index_scans),
            format_count(t.rows_inserted),
            format_count(t.rows_updated),
            format_share(t.hot_share),
            format_share(t.dead_share),
            plain(t.relation if t.schema == "public" else f"{t.schema}.{t.relation}"),
        ]
        for t in profile.database.tables[:TABLES]
    ]
    heads = ["seq scans", "rows each", "index scans", "inserted", "updated", "HOT", "dead", "<table"]
    return heads, rows


def chain_lines(chain: BlockingChain) -> list[str]:
    """A blocking chain as a tree, root first."""
    held = "  (deadlock)" if chain.cycle else ""
    lines = [f"{_who(chain.root)}{held}"]

    def below(blocked: list[BlockedSession], indent: str) -> None:
        for i, b in enumerate(blocked):
            last = i == len(blocked) - 1
            lock = lock_words(b)
            still = "" if b.ended else ", still waiting"
            lines.append(
                f"{indent}{'└─' if last else '├─'} waits {format_ms(b.waited_ms)}{still} for {lock}: {_who(b.session)}"
            )
            below(b.blocked, indent + ("   " if last else "│  "))

    below(chain.blocked, "")
    return lines


def lock_words(blocked: BlockedSession) -> str:
    """What a session waited for: "a row of orders (transactionid, ShareLock)"."""
    kind, name = blocked.lock_type, plain(blocked.relation)
    lock = ", ".join(x for x in (kind, blocked.lock_mode) if x)
    if kind in ("transactionid", "tuple"):
        return f"a row of {name} ({lock})" if name else f"another transaction's end ({lock})"
    return f"{name} ({lock})" if name else lock


def _who(session: Session) -> str:
    if session.pid == 0:
        return "a prepared transaction"
    parts = [f"pid {session.pid}", plain(session.application_name), plain(session.state)]
    text = plain(session.text)
    return ", ".join(p for p in parts if p) + (f": {text[:100]}" if text else "")


def _head(profile: Profile, markdown: bool) -> str:
    s, v = profile.statements, profile.statements.validity
    name = profile.database.database if profile.database else ""
    title = f"{plain(name) or 'database'} over {format_seconds(s.window.seconds)}"
    lines = [f"# Profile of {title}" if markdown else f"Profile of {title}", ""]
    said = f"{format_count(s.total_calls)} calls took {format_ms(s.total_ms)} of server time"
    if s.attributed_share is not None:
        said += f"; the statements below account for {format_share(s.attributed_share)} of the database's active time"
    lines.append(said + ".")
    if profile.waits is not None:
        w = profile.waits
        lines.append(f"Active sessions: {w.active_sessions_mean:.2f} on average, {w.active_sessions_max} at most.")
    if not v.complete:
        lines.append("The window is not whole:")
    lines += [f"- {_escaped(plain(n), markdown)}" for n in v.notes]
    return "\n".join(lines)


def _findings(profile: Profile, markdown: bool) -> str:
    marks = {"critical": "✗", "warning": "!", "info": "·"}
    lines = []
    for f in profile.summary.findings:
        if markdown:
            lines.append(
                f"- {marks[f.severity]} **{_escaped(plain(f.title), markdown)}**. {_escaped(f.advice, markdown)}"
            )
        else:
            lines += [f"{marks[f.severity]} {plain(f.title)}", f"    {f.advice}"]
    title = "## Findings\n\n" if markdown else "Findings\n\n"
    return title + "\n".join(lines) if lines else ""


def _database(profile: Profile, markdown: bool) -> str:
    d = profile.database
    assert d is not None
    lines = []
    if c := d.counters:
        lines.append(
            f"{format_count(c.commits)} commits, {format_count(c.rollbacks)} rollbacks, {c.deadlocks} deadlocks,"
            f" {c.conflicts} conflicts; cache hits {format_share(c.hit_ratio)};"
            f" {c.temp_files} temporary files ({format_bytes(c.temp_bytes)})"
        )
    if w := d.wal:
        lines.append(f"WAL {format_bytes(w.wal_bytes)}, {format_count(w.wal_fpi)} full-page images (whole server)")
    if k := d.checkpoints:
        lines.append(
            f"checkpoints: {k.timed} timed, {k.requested} requested;"
            f" {format_count(k.buffers_written)} buffers written (whole server)"
        )
    busiest = [i for i in d.io if (i.read_ms or 0) + (i.write_ms or 0) > 1][:3]
    lines += [
        f"I/O of {i.backend_type}, {i.object}, {i.context}: {format_count(i.reads)} reads in {format_ms(i.read_ms)},"
        f" {format_count(i.writes)} writes in {format_ms(i.write_ms)}"
        for i in busiest
    ]
    lines += [
        f"replica {plain(r.application_name)}: {plain(r.state)}, {format_ms(r.replay_lag_ms)} and"
        f" {format_bytes(r.replay_lag_bytes)} behind"
        for r in d.replicas
    ]
    lines += [plain(n) for n in d.notes]
    if not lines:
        return ""
    if markdown:
        return "## Database\n\n" + "\n".join(f"- {_escaped(line, markdown)}" for line in lines)
    return "Database\n\n" + "\n".join(f"  {line}" for line in lines)


def _foot(profile: Profile) -> str:
    c = profile.summary.collectors
    said = f"Collecting took {format_share(c.share)} of one processor"
    if profile.waits is not None:
        s = profile.waits.sampler
        said += f"; {s.samples} samples at {s.rate_hz:g} Hz, {s.missed} missed"
    return said + "."


def _titled(title: str, table: Table, markdown: bool, width: int) -> str:
    heads, rows = table
    if not rows:
        return ""
    if markdown:
        left = [h.startswith("<") for h in heads]
        lines = [
            "| " + " | ".join(h.lstrip("<") for h in heads) + " |",
            "|" + "|".join("---" if x else "---:" for x in left) + "|",
            *("| " + " | ".join(_cell(c, heads[i]) for i, c in enumerate(r)) + " |" for r in rows),
        ]
        return f"## {title}\n\n" + "\n".join(lines)
    widths = [max(len(h.lstrip("<")), *(len(r[i]) for r in rows)) for i, h in enumerate(heads)]
    lines = []
    for row in [[h.lstrip("<") for h in heads], *rows]:
        cells = [c.ljust(widths[i]) if heads[i].startswith("<") else c.rjust(widths[i]) for i, c in enumerate(row)]
        line = "  ".join(cells).rstrip()
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return f"{title}\n\n" + "\n".join(lines)


def _cell(text: str, head: str) -> str:
    if head not in ("<statement", "<mostly"):
        return _escaped(text, True)
    text = text if len(text) <= 200 else text[:199] + "…"
    # A code span shows everything as it is, but a table cell ends at a bar and a span at a backtick.
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`" if text else ""


def _escaped(text: str, markdown: bool) -> str:
    return text.translate(_MARKDOWN) if markdown else text
