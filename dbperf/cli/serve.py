"""`dbperf serve`: a Prometheus exporter for a database, the requests that use it, and loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf serve --dsn postgresql://monitor@db/app
  dbperf serve --dsn service=app --every 30s --top 100 --port 9488
  dbperf serve --dsn postgresql://monitor@db/app --traces /var/log/shop/traces --runs reports/runs
  curl http://127.0.0.1:9487/metrics
"""
DEFAULT_PORT = 9487


@app.command(epilog=EPILOG)
def serve(
    *,
    dsn: Annotated[
        str,
        typer.Option(
            help="The database. It is only read; pg_read_all_stats shows other roles' statements.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
    every: Annotated[str, typer.Option(help="How often the database is looked at.", metavar="TIME")] = "15s",
    top: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            help="Statements, tables, indexes and endpoints with metrics of their own; the rest is summed as other.",
        ),
    ] = 50,
    traces: Annotated[
        Path | None,
        typer.Option(help="Folder that TraceMiddleware writes to: requests, N+1, service levels.", metavar="FOLDER"),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            help="A run, or a folder of runs: stages and requests of the load that is on, service levels, the newest "
            "comparison.",
            metavar="FOLDER",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Its service levels hold beside those of the configuration.", metavar="SUITE"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Service levels.  [default: dbperf.toml, then pyproject.toml]", metavar="FILE")
    ] = None,
) -> None:
    """Export a database's statistics, its application's requests and loads to Prometheus until Ctrl-C.

    A scrape is answered from the last look and never asks the database. Counters begin at 0 with the exporter and
    never fall: resets, evictions and restarts are told in metrics of their own. While the database is away, dbperf_up
    is 0.
    """
    from dbperf.config import load_config
    from dbperf.errors import UsageError
    from dbperf.load.suites import load_suite
    from dbperf.monitor.exporter import Exporter, listen
    from dbperf.monitor.exporter import serve as serve_until_interrupted
    from dbperf.postgres.dsn import resolve
    from dbperf.units import parse_duration_s

    every_s = parse_duration_s(every)
    if not 1 <= every_s <= 3600:
        raise UsageError(f"--every {every} does not fit", hint="between 1s and 1h")
    resolve(dsn)  # a DSN that can't be read is an error now, and not one to go on trying
    configured = load_config(config)
    suite = suite or configured.suite
    levels = [*configured.service_levels, *(load_suite(suite).service_levels if suite else [])]
    exporter = Exporter(
        dsn, top=top, every_s=every_s, traces=traces, runs=runs, levels=levels,
        tell=lambda line: typer.echo(f"dbperf: {line}", err=True),
    )  # fmt: skip
    server = listen(exporter, host=host, port=port)
    name = f"[{host}]" if ":" in host else host
    try:
        # Whoever has read this line may end it: Ctrl-C is the way to, and no interruption of work.
        typer.echo(f"http://{name}:{server.server_port}/metrics")
        serve_until_interrupted(exporter)
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        server.server_close()
