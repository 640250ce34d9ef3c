"""`dbperf target up | down | status`: the reference target in the background."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from dbperf.phase3.background import TargetState
    from dbperf.phase3.scales import Scale

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Start and stop the reference target, the Phase 3 API.",
)

UP_EPILOG = """\b
Examples:
  dbperf target up                                    naive, 10,000 cases
  dbperf target up --implementation tuned --scale smoke --port 8000
"""

DOWN_EPILOG = """\b
Examples:
  dbperf target down
  dbperf target down --all
"""

STATUS_EPILOG = """\b
Examples:
  dbperf target status --format json
"""

Dsn = Annotated[
    str | None,
    typer.Option(
        envvar="DBPERF_DSN",
        show_envvar=True,
        metavar="DSN",
        help="PostgreSQL with pgvector.  [default: the embedded one]",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where dbperf keeps what runs.  [default: ~/.cache/dbperf]", metavar="FOLDER"),
]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="How to print the result.")]


@app.command(epilog=UP_EPILOG)
def up(
    *,
    dsn: Dsn = None,
    implementation: Annotated[Literal["naive", "tuned"], typer.Option(help="How the API is written.")] = "naive",
    scale: Annotated[str, typer.Option(help="Size of the data: smoke, spec or large.")] = "spec",
    seed: Annotated[int, typer.Option(help="Fixes the data.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write the data again, even if it is there.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="On 127.0.0.1.  [default: a free one]")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Server processes.")] = 1,
    pool_size: Annotated[int, typer.Option(min=1, max=1000, help="Connections per worker, at most.")] = 20,
    cache_dir: CacheDir = None,
    output_format: Format = "text",
) -> None:
    """Seed a database where needed, and serve the API until `dbperf target down`.

    In a database of yours, dbperf creates its own tables and leaves existing ones alone: it refuses to start where a
    table of the same name exists.
    """
    import asyncio

    from dbperf.phase3 import background
    from dbperf.phase3.scales import scale_named
    from dbperf.phase3.seed import holds

    wanted = scale_named(scale)
    settings = background.new_settings(dsn or _embedded(cache_dir, scale), implementation, pool_size=pool_size)
    folder = _folder(cache_dir)
    used = background.find(folder, settings) is not None and asyncio.run(holds(settings.dsn, scale, seed))
    if used and not fresh:
        typer.echo("it runs already, and keeps the data it has (--fresh: as new)", err=True)
    else:
        _seed(settings.dsn, wanted, seed=seed, fresh=fresh)
    state = background.start(folder, settings, port=port, workers=workers)
    if output_format == "json":
        typer.echo(json.dumps({"url": state.url, "pid": state.pid, "api_key": state.api_key}))
    else:
        typer.echo(f"{state.url}  X-API-Key: {state.api_key}  pid {state.pid}")
        typer.echo(f"documentation: {state.url}/docs", err=True)


def _seed(dsn: str, scale: Scale, *, seed: int, fresh: bool) -> None:
    import asyncio

    from dbperf.phase3.seed import seed as fill

    with typer.progressbar(length=scale.cases + scale.logs, label=f"seeding {scale.name}", file=sys.stderr) as bar:
        before = {"": 0}

        def progress(table: str, done: int, _: int) -> None:
            bar.update(done - before.get(table, 0))
            before[table] = done

        seeded = asyncio.run(fill(dsn, scale.name, seed=seed, reuse=not fresh, on_progress=progress))
    took = "was there" if seeded.reused else f"took {seeded.elapsed_s:.1f} s"
    typer.echo(f"data: {scale.name}, {scale.cases:,} cases, {scale.logs:,} logs, {took}", err=True)


@app.command(epilog=DOWN_EPILOG)
def down(
    *,
    everything: Annotated[bool, typer.Option("--all", help="All targets, not only the newest one.")] = False,
    cache_dir: CacheDir = None,
    output_format: Format = "text",
) -> None:
    """Stop the reference target. Its data stays."""
    from dbperf.phase3 import background

    folder = _folder(cache_dir)
    found = sorted(background.running(folder), key=lambda s: s.started_at_s)
    stopped = found if everything else found[-1:]
    for state in stopped:
        background.stop(folder, state)
    if output_format == "json":
        typer.echo(json.dumps([{"url": s.url, "pid": s.pid} for s in stopped]))
    else:
        for state in stopped:
            typer.echo(f"stopped {state.url} (pid {state.pid})")
        if not stopped:
            typer.echo("no target runs", err=True)
        elif len(found) > len(stopped):
            typer.echo(f"{len(found) - 1} still running; --all stops them too", err=True)


@app.command(epilog=STATUS_EPILOG)
def status(*, cache_dir: CacheDir = None, output_format: Format = "text") -> None:
    """List the reference targets that run."""
    from dbperf.phase3 import background
    from dbperf.phase3.launch import health

    found = background.running(_folder(cache_dir))
    healthy = {s.url: health(s.url, s.api_key) == 200 for s in found}
    if output_format == "json":
        typer.echo(json.dumps([_row(s, healthy[s.url]) for s in found], indent=2))
        return
    for s in found:
        state = "healthy" if healthy[s.url] else "not healthy"
        typer.echo(f"{s.url}  {s.implementation}  {state}  pid {s.pid}  {s.workers} worker(s)  {s.dsn}")
    if not found:
        typer.echo("no target runs", err=True)


def _row(state: TargetState, healthy: bool) -> dict[str, object]:
    return {
        "url": state.url,
        "pid": state.pid,
        "api_key": state.api_key,
        "implementation": state.implementation,
        "workers": state.workers,
        "healthy": healthy,
        "dsn": state.dsn,
        "log": state.log,
    }


def _folder(cache_dir: Path | None) -> Path:
    from dbperf.postgres.embedded import default_cache_dir

    return (cache_dir or default_cache_dir()) / "targets"


def _embedded(cache_dir: Path | None, scale: str) -> str:
    """A database in the embedded server, one per scale."""
    import asyncio

    from dbperf.postgres import embedded
    from dbperf.postgres.connect import connected

    server = embedded.start(cache_dir)
    name = f"phase3_{scale}"

    async def create() -> None:
        async with connected(server.dsn(), read_only=False) as connection:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')

    asyncio.run(create())
    return server.dsn(name)
