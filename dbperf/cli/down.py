"""`dbperf down`: stops the embedded PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf down
  dbperf down --all                                   its data too
"""


@app.command(epilog=EPILOG)
def down(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also delete its data, and what crashed runs left in the cache folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As given to dbperf up.  [default: ~/.cache/dbperf]", metavar="FOLDER")
    ] = None,
    output_format: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Stop the embedded PostgreSQL. Its data stays, unless --all is given.

    It is no error that none runs.
    """
    from dbperf.postgres import embedded

    server = embedded.stop(cache_dir)
    deleted = embedded.remove(cache_dir) if everything else []
    if quiet:
        return
    if output_format == "json":
        stopped = None if server is None else server.pid
        typer.echo(json.dumps({"stopped_pid": stopped, "deleted": [str(d) for d in deleted]}))
        return
    if server:
        typer.echo(f"stopped PostgreSQL (pid {server.pid})")
    for folder in deleted:
        typer.echo(f"deleted {folder}")
    if server is None and not deleted:
        typer.echo("no embedded PostgreSQL runs", err=True)
