"""`dbperf profile`: where a database spends its time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, UsageError

if TYPE_CHECKING:
    from dbperf.records.profile import Profile

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf profile --dsn postgresql://me@db/app
  dbperf profile --dsn postgresql://me@db/app --while 'pytest tests/api'
  dbperf profile --dsn service=app --seconds 5m --order-by io --run reports/runs/tuesday
  dbperf profile --format json -o profile.json        the embedded server

Ctrl-C ends the window early: what was measured is shown, and the exit code is 130.
"""

EXIT_CODES = {"complete": 0, "interrupted": EXIT_INTERRUPTED}
DEFAULT_SECONDS = 10.0


@app.command(epilog=EPILOG)
def profile(
    *,
    dsn: Annotated[
        str | None,
        typer.Option(
            help="The database. Without it the PG* variables count, and without those the embedded server if it runs.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(help="How long: 30, 90s, 5m. With --while: at most so long.  [default: 10]", metavar="DURATION"),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            "--while", help="Profile while this shell command runs; its output goes to stderr.", metavar="COMMAND"
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Statements to show.")] = 20,
    order_by: Annotated[
        Literal["total", "mean", "io", "temp", "wal", "planning", "rows"], typer.Option(help="Which come first.")
    ] = "total",
    rate_hz: Annotated[
        float,
        typer.Option("--rate", min=0, max=1000, help="Samples of pg_stat_activity a second; 0: none.", metavar="HZ"),
    ] = 20.0,
    all_databases: Annotated[bool, typer.Option("--all-databases", help="Not only the connection's database.")] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Reset pg_stat_statements first. Everybody's figures are lost.")
    ] = False,
    output_format: Format = "text",
    out: Out = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Keep everything in a run directory as well.", metavar="FOLDER")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --run.")] = False,
) -> None:
    """Profile a database: statements, waits, blocking sessions and counters over one window.

    Nothing is changed on the server, and its statistics are not reset.
    """
    import asyncio

    from dbperf.cli.profile_keep import Keeper
    from dbperf.cli.profile_text import render
    from dbperf.cli.profile_window import run_window
    from dbperf.cli.progress import TerminalProgress
    from dbperf.postgres.profile import Profiler
    from dbperf.units import parse_duration_s

    limit_s = parse_duration_s(seconds) if seconds is not None else None if command else DEFAULT_SECONDS
    if limit_s == 0:
        raise UsageError("--seconds must be more than 0", hint="for example --seconds 10")
    where, embedded = _dsn(dsn)
    profiler = Profiler(
        where, embedded=embedded, rate_hz=rate_hz, all_databases=all_databases, reset=reset, order_by=order_by
    )
    with Keeper(run, force=force) as keeper, TerminalProgress() as progress:
        if command is None and sys.stderr.isatty():  # a command's own output would fight with a live line
            progress.stage_started("Profile: Ctrl-C ends it early", limit_s)
        done = asyncio.run(run_window(profiler, limit_s=limit_s, command=command))
        keeper.write(done)
    text = render(done.first(top), output_format, order_by=order_by)
    write_result(text, out)
    _exit(done)


def _exit(done: Profile) -> None:
    ended, code = done.summary.ended, done.summary.command_exit_code
    said = {
        "command failed": f"the command ended with exit code {code}; the profile covers what it did",
        "time limit": "the command did not end in time and was stopped; the profile covers what it did until then",
        "server lost": "the server was lost; the profile covers what was seen before",
        "interrupted": "interrupted; the profile covers what was measured until then",
    }
    if ended in said:
        typer.echo(f"dbperf: {said[ended]}", err=True)
    if ended != "complete":
        raise typer.Exit(EXIT_CODES.get(ended, EXIT_ENVIRONMENT))


def _dsn(given: str | None) -> tuple[str, bool]:
    from dbperf.postgres import embedded

    if given is not None:
        return given, False
    if any(os.environ.get(v) for v in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")):
        return "", False
    if running := embedded.find_running():
        typer.echo(f"no --dsn given: profiling the embedded server (pid {running.pid})", err=True)
        return running.dsn(), True
    raise UsageError("there is no database to profile", hint="give one with --dsn, or start one with dbperf up")
