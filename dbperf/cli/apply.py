"""`dbperf apply`: run the index SQL of a folder on a live server, or undo it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import EXIT_ENVIRONMENT

if TYPE_CHECKING:
    from dbperf.indexes.apply_steps import ApplyOptions
    from dbperf.records.proof import Applied

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Exit code 3 where it could not be finished: running it again continues.

\b
Examples:
  dbperf apply sql/indexes/20261121T101500Z --dsn postgresql://owner@db/app --dry-run
  dbperf apply sql/indexes/20261121T101500Z --dsn postgresql://owner@db/app
  dbperf apply sql/indexes/20261121T101500Z --dsn postgresql://owner@db/app --down
"""
_MARKS = {"done": "✓", "already": "=", "repaired": "✓", "planned": "·", "failed": "✗", "not_reached": "–"}
_SAID = {
    "done": "done", "already": "there already", "repaired": "repaired", "planned": "would run", "failed": "failed",
    "not_reached": "not reached",
}  # fmt: skip


@app.command(epilog=EPILOG)
def apply(
    *,
    folder: Annotated[Path, typer.Argument(help="A folder with up.sql and down.sql.", metavar="DIR")],
    dsn: Annotated[
        str,
        typer.Option(help="The database, as the tables' owner.", envvar="DBPERF_DSN", show_envvar=True, metavar="DSN"),
    ],
    down: Annotated[bool, typer.Option("--down", help="Undo: run down.sql.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look what would be done.")] = False,
    try_: Annotated[
        str | None,
        typer.Option("--try", help="How long to ask for a lock at a time.  [default: the file's]", metavar="DURATION"),
    ] = None,
    wait: Annotated[
        str, typer.Option(help="How long to go on trying, for each statement.", metavar="DURATION")
    ] = "10m",
    production: Annotated[
        bool, typer.Option("--production", help="Also on a target that the configuration marks as production.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Instead of ./dbperf.toml.", show_default=False)] = None,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Make the index changes of a folder on a live database, or undo them.

    Looks before it changes anything, asks for locks in short tries, removes invalid indexes that failed builds leave,
    and validates what it built. Running it again continues where it stopped.
    """
    from dbperf.indexes.apply_steps import ApplyOptions
    from dbperf.units import parse_duration_s

    _check_safety(dsn, config, production=production or dry_run)
    options = ApplyOptions(
        try_s=None if try_ is None else parse_duration_s(try_), wait_s=parse_duration_s(wait), dry_run=dry_run
    )
    done = _run(folder, dsn, options, down=down)
    if output_format == "json":
        text = done.to_json().decode().rstrip("\n")
    else:
        text = "\n".join(_lines(done, markdown=output_format == "markdown"))
    write_result(text, out)
    if done.error is not None:
        typer.echo(f"dbperf: {done.error}", err=True)
        raise typer.Exit(EXIT_ENVIRONMENT)


def _check_safety(dsn: str, config: Path | None, *, production: bool) -> None:
    from dbperf.config import load_config
    from dbperf.errors import UsageError
    from dbperf.lab.safety import marked_production
    from dbperf.postgres.connect import mask_dsn
    from dbperf.postgres.dsn import resolve

    safety = load_config(config).safety
    for host in resolve(dsn).hosts or (None,):
        if not production and marked_production(mask_dsn(dsn), host, safety):
            raise UsageError(
                f"{mask_dsn(dsn)} is marked as production in the configuration",
                hint="look first with --dry-run; --production applies it there",
            )


def _run(folder: Path, dsn: str, options: ApplyOptions, *, down: bool) -> Applied:
    import asyncio
    import signal

    from dbperf.errors import Interrupted
    from dbperf.indexes.apply import apply as run

    async def interruptible() -> Applied:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        return await run(folder, dsn, down=down, options=options, on_event=lambda e: typer.echo(f"  {e}", err=True))

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise Interrupted("interrupted; what was done stays", hint="the same command continues") from None


def _lines(done: Applied, *, markdown: bool) -> list[str]:
    from dbperf.units import format_bytes, format_seconds

    rows = []
    for s in done.statements:
        details = [_SAID[s.outcome]]
        if s.elapsed_s >= 0.05:
            details.append(format_seconds(s.elapsed_s))
        if s.tries > 1:
            details.append(f"{s.tries} tries")
        if s.size_bytes is not None:
            size = format_bytes(s.size_bytes)
            details.append(f"{size} (estimated {format_bytes(s.estimated_bytes)})" if s.estimated_bytes else size)
        if s.note:
            details.append(s.note)
        rows.append((_MARKS[s.outcome], s.sql.split("\n")[0], ", ".join(details)))
    if markdown:
        lines = [f"## Index changes, {done.direction}", "", "| | statement | |", "|---|---|---|"]
        lines += [f"| {m} | `{sql.replace('|', chr(92) + '|')}` | {text} |" for m, sql, text in rows]
    else:
        lines = [line for m, sql, text in rows for line in (f"{m} {sql}", f"    {text}")]
    lines += [f"{'- ' if markdown else ''}note: {n}" for n in done.notes]
    if not rows:
        lines.append("nothing to do")
    return lines
