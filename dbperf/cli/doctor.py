"""`dbperf doctor`: what a database offers, as a checklist."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import EXIT_ENVIRONMENT

if TYPE_CHECKING:
    from dbperf.records.capabilities import Capability

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf doctor                                       the embedded server
  dbperf doctor --dsn postgresql://me@db/app
  dbperf doctor --dsn service=app --format markdown -o doctor.md

Exit code 3 where something required is missing.
"""

_MARKS = {"ok": "✓", "degraded": "~", "missing": "✗"}


@app.command(epilog=EPILOG)
def doctor(
    *,
    dsn: Annotated[
        str | None,
        typer.Option(
            help="The database to look at. Without it the PG* variables count, and without those the embedded server.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ] = None,
    output_format: Format = "text",
    out: Out = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Of the embedded server.  [default: ~/.cache/dbperf]", metavar="FOLDER")
    ] = None,
) -> None:
    """Check what a database offers dbperf: what is missing, why it matters, and the SQL that fixes it.

    Nothing is changed.
    """
    import asyncio

    import msgspec

    found = asyncio.run(_check(dsn, cache_dir))
    if output_format == "json":
        text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    elif output_format == "markdown":
        text = _markdown(found)
    else:
        text = _text(found)
    write_result(text, out)
    if any(c.required and c.status == "missing" for c in found):
        raise typer.Exit(EXIT_ENVIRONMENT)


async def _check(dsn: str | None, cache_dir: Path | None) -> list[Capability]:
    from dbperf.postgres import embedded
    from dbperf.postgres.capabilities import check
    from dbperf.postgres.connect import connected
    from dbperf.postgres.dsn import resolve

    if dsn is not None or any(os.environ.get(v) for v in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")):
        typer.echo(f"checking {resolve(dsn or '').where}", err=True)
        async with connected(dsn or "") as connection:
            return await check(connection)
    if running := embedded.find_running(cache_dir):
        typer.echo(f"no --dsn given: checking the embedded server (pid {running.pid})", err=True)
        async with connected(running.dsn()) as connection:
            return await check(connection)
    typer.echo("no --dsn given: checking the embedded server, started for this", err=True)
    with embedded.start(cache_dir, private=True) as server:
        async with connected(server.dsn()) as connection:
            return await check(connection)


def _text(found: list[Capability]) -> str:
    width = max(len(c.feature) for c in found)
    lines = []
    for c in found:
        mark, optional = _MARKS[c.status], ""
        if c.status == "missing" and not c.required:
            mark, optional = "-", " (optional)"
        lines.append(f"{mark} {c.feature:<{width}}  {c.found}{optional}")
        if c.status != "ok":
            indent = " " * (width + 4)
            lines.append(f"{indent}needed: {c.needed}")
            lines.append(f"{indent}why:    {c.why}")
            lines.append(f"{indent}fix:    {c.fix}")
    lines += ["", _summary(found)]
    return "\n".join(lines)


def _markdown(found: list[Capability]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")

    lines = ["| | feature | found | needed | why | fix |", "|---|---|---|---|---|---|"]
    for c in found:
        fix = f"`{cell(c.fix).replace('&lt;', '<')}`" if c.fix else ""
        row = [_MARKS[c.status] + " " + c.status, c.feature, cell(c.found), cell(c.needed), cell(c.why), fix]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, "", _summary(found)])


def _summary(found: list[Capability]) -> str:
    missing = [c.feature for c in found if c.required and c.status == "missing"]
    if missing:
        return f"Required and missing: {', '.join(missing)}."
    degraded = [c.feature for c in found if c.status == "degraded"]
    return "All that is required is there" + (f"; degraded: {', '.join(degraded)}." if degraded else ".")
