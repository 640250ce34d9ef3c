"""`dbperf advise`: the best set of indexes for a whole workload."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dbperf.cli.options import Format, Out, write_result

if TYPE_CHECKING:
    from dbperf.indexes.advise import Advisor, Request
    from dbperf.records.advice import Advice
    from dbperf.records.shadow import Catalog

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_READ_S, _SEEK_S, _STATEMENT_S = 1.0, 2.0, 0.03
"""What it usually takes (docs/advice.md): 1,000 statements half a minute."""
EPILOG = """\b
Examples:
  dbperf advise --dsn postgresql://me@db/app
  dbperf advise --dsn postgresql://me@db/app --budget 20% --max-indexes 5
  dbperf advise --dsn postgresql://me@db/app --workload queries/ --sql sql/indexes/next
  dbperf advise --dsn postgresql://me@db/app --workload /var/log/postgresql/postgresql.log
  dbperf advise --shadow app.shadow --workload queries/ --format markdown -o advice.md
"""
_WORKLOAD = typer.Option(
    None,
    "--workload",
    help=".sql files, run directory, trace.json or server log (default: pg_stat_statements, or the file's own).",
)
_DSN = typer.Option(
    None,
    "--dsn",
    help="The database; a read-only role is enough.",
    envvar="DBPERF_DSN",
    show_envvar=True,
    metavar="DSN",
)
_SHADOW = typer.Option(None, "--shadow", help="A file of `dbperf shadow export` instead of a database.")

_SQL = typer.Option(
    None,
    "--sql",
    help="Write up.sql, down.sql, an Alembic revision and review.md to this folder (with --dsn).",
    metavar="FOLDER",
)


@app.command(epilog=EPILOG)
def advise(
    dsn: str | None = _DSN,
    shadow: Path | None = _SHADOW,
    workload: Path | None = _WORKLOAD,
    budget: str | None = typer.Option(None, "--budget", help='Bytes ("500MB") or a share of the tables ("20%").'),
    max_indexes: int | None = typer.Option(None, "--max-indexes", min=0, help="How many at most."),
    max_width: int = typer.Option(3, "--max-width", min=1, max=8, help="Key columns of an index."),
    max_write_cost: float | None = typer.Option(
        None, "--max-write-cost", min=0, help="Percent of the workload's cost that maintenance may add."
    ),
    min_gain: float = typer.Option(
        0.5, "--min-gain", min=0, max=100, help="Percent of its statements' cost that an index must gain."
    ),
    time_limit: str | None = typer.Option(
        None, "--time-limit", help='Stop after this long with the best so far ("5s").'
    ),
    planner: str = typer.Option("shadow", "--planner", help="shadow, or hypopg where the target has it."),
    sql: Path | None = _SQL,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Recommend the set of indexes that helps the workload most, from statistics alone.

    Nothing is installed on the target, written to it or locked. Ctrl-C ends the search with the best set so far, a
    second one ends at once.
    --out FOLDER (a name without a suffix, with --dsn) is the same as --sql FOLDER.
    """
    import os

    from dbperf.errors import EXIT_INTERRUPTED, Interrupted, UsageError, did_you_mean
    from dbperf.indexes.advice_text import as_markdown, as_text
    from dbperf.indexes.advise import Request
    from dbperf.indexes.candidates import Options
    from dbperf.units import parse_duration_s

    if shadow is not None and dsn == os.environ.get("DBPERF_DSN"):
        dsn = None  # a file that was named goes before a database that only the environment names
    if planner not in ("shadow", "hypopg"):
        raise UsageError(f"{planner!r} is not a planner", hint=did_you_mean(planner, ["shadow", "hypopg"]))
    request = Request(
        max_indexes=max_indexes,
        max_write_cost=None if max_write_cost is None else max_write_cost / 100,
        minimum_gain=min_gain / 100,
        time_limit_s=None if time_limit is None else parse_duration_s(time_limit),
        options=Options(max_width=max_width),
    )
    if sql is None and out is not None and dsn is not None and not out.suffix and not out.is_file():
        sql, out = out, None
    if sql is not None:
        if dsn is None:
            raise UsageError("--sql looks at the database that will be changed", hint="give --dsn")
        if sql.exists() and (not sql.is_dir() or any(sql.iterdir())):
            raise UsageError(f"{sql} exists and is kept", hint="choose another folder with --sql")
    try:
        advice = asyncio.run(_advise(dsn, shadow, workload, planner, budget, request))
    except KeyboardInterrupt:
        raise Interrupted("interrupted before there was a set of indexes") from None
    if output_format == "json":
        text = advice.to_json().decode()
    else:
        text = as_markdown(advice) if output_format == "markdown" else as_text(advice)
    write_result(text, out)
    if sql is not None and dsn is not None:
        _write_sql(dsn, advice, sql)
    if not advice.complete:
        typer.echo("dbperf: the search was cut short; this is the best set so far", err=True)
        if time_limit is None:
            raise typer.Exit(EXIT_INTERRUPTED)


def _write_sql(dsn: str, advice: Advice, folder: Path) -> None:
    from dbperf.indexes.migration_files import write_proved

    for note in asyncio.run(write_proved(dsn, advice, None, folder)):
        typer.echo(f"  note: {note}", err=True)
    typer.echo(f"written: {folder}/up.sql, down.sql, review.md and an Alembic revision", err=True)


async def _advise(
    dsn: str | None, shadow: Path | None, workload: Path | None, planner: str, budget: str | None, request: Request
) -> Advice:
    from dataclasses import replace

    import msgspec

    from dbperf.cli.progress import in_a_terminal
    from dbperf.errors import UsageError
    from dbperf.indexes.advise import Advisor
    from dbperf.indexes.sessions import hypopg_planner, read_source, shadow_planner

    with in_a_terminal("Read the catalog and the workload", _READ_S):
        catalog, found = await read_source(dsn, shadow, workload)
    for note in catalog.notes:
        typer.echo(f"  {note.object}: {note.reason}", err=True)
    if not found.statements:
        reasons = "; ".join(f"{s.id}: {s.reason}" for s in found.skipped[:3])
        raise UsageError("no statement can be advised on" + (f" ({reasons})" if reasons else ""))
    if planner == "hypopg" and dsn is None:
        raise UsageError("--planner hypopg works on the target", hint="give --dsn, or leave --planner out")
    request = replace(request, budget_bytes=_budget_bytes(budget, catalog))
    session = hypopg_planner(dsn) if planner == "hypopg" and dsn is not None else shadow_planner(catalog)
    count = len(found.statements)
    with in_a_terminal(f"Seek indexes for {count} statements", _SEEK_S + count * _STATEMENT_S) as tell:
        tell("Ctrl-C takes the best set so far")
        async with session as ready:
            advisor = Advisor(catalog, found, ready, request)
            with _stopped_by_interrupt(advisor):
                advice = await advisor.run()
            notes = [f"{n.object}: {n.reason}" for n in ready.notes]
    said = {f"{n.object}: {n.reason}" for n in catalog.notes}
    notes = list(dict.fromkeys([*advice.notes, *notes]))
    for line in notes:
        if line not in said:
            typer.echo(f"  {line}", err=True)
    return msgspec.structs.replace(advice, notes=notes)


@contextmanager
def _stopped_by_interrupt(advisor: Advisor) -> Iterator[None]:
    """The first Ctrl-C ends the search with the best set so far, a second one ends at once.

    Not a handler of the event loop's: that one is only called between two questions to the planner.
    """

    def stop(*_: object) -> None:
        advisor.stop()
        signal.signal(signal.SIGINT, end)

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is to end the server
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:  # behind the first, the second may come while the server is ended
            signal.signal(signal.SIGINT, before)


def _budget_bytes(text: str | None, catalog: Catalog) -> int | None:
    """Bytes of a budget; a share is of all tables' size."""
    from dbperf.errors import UsageError
    from dbperf.units import parse_size_bytes

    if text is None:
        return None
    if text.strip().endswith("%"):
        try:
            share = float(text.strip().rstrip("%"))
        except ValueError:
            raise UsageError(f"{text!r} is no budget", hint='write it as "500MB" or "20%"') from None
        if share < 0:
            raise UsageError(f"{text!r} is no budget: it is negative")
        return int(share / 100 * sum(r.pages for r in catalog.relations) * catalog.block_size_bytes)
    return parse_size_bytes(text)
