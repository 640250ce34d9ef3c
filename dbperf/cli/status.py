"""`dbperf status`: whether the embedded PostgreSQL runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from dbperf.postgres.embedded import Embedded

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf status
  dbperf status --format json
"""


@app.command(epilog=EPILOG)
def status(
    *,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As given to dbperf up.  [default: ~/.cache/dbperf]", metavar="FOLDER")
    ] = None,
    output_format: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Say whether the embedded PostgreSQL runs, with its version, size and databases."""
    import asyncio

    from dbperf.postgres import embedded
    from dbperf.units import format_bytes, format_seconds

    server = embedded.find_running(cache_dir)
    found: dict[str, Any] = {"running": False} if server is None else asyncio.run(_ask(server))
    if output_format == "json":
        typer.echo(json.dumps(found, indent=2))
    elif server is None:
        typer.echo("no embedded PostgreSQL runs (dbperf up starts one)")
    else:
        typer.echo(f"PostgreSQL {found['version']} runs, pid {server.pid}, for {format_seconds(found['uptime_s'])}")
        typer.echo(f"  dsn   {found['dsn']}")
        typer.echo(f"  data  {found['data_dir']}")
        for database in found["databases"]:
            typer.echo(f"  database {database['name']}: {format_bytes(database['size_bytes'])}")


async def _ask(server: Embedded) -> dict[str, Any]:
    from dbperf.postgres.connect import connected

    async with connected(server.dsn()) as connection:
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version,"
            " extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS uptime_s"
        )
        databases = await connection.fetch(
            "SELECT datname::text AS name, pg_database_size(oid) AS size_bytes FROM pg_database"
            " WHERE NOT datistemplate ORDER BY 1"
        )
    assert row is not None
    return {
        "running": True,
        "dsn": server.dsn(),
        "data_dir": str(server.data_dir),
        "pid": server.pid,
        "log": str(server.log),
        **dict(row),
        "databases": [dict(d) for d in databases],
    }
