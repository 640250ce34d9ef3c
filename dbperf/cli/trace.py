"""`dbperf trace`: which statements each endpoint of an ASGI application runs, and what is wrong with them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import UsageError

if TYPE_CHECKING:
    from dbperf.records.trace import Trace

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf trace --app shop.main:app --requests requests.txt
  dbperf trace --app 'shop.main:create_app()' --requests requests.txt --rounds 5
  dbperf trace --read /var/tmp/traces --format markdown -o trace.md
"""


@app.command(epilog=EPILOG)
def trace(
    target: Annotated[
        str | None, typer.Option("--app", help='The ASGI application, "package.module:app" or "…:create_app()".')
    ] = None,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="Requests, one per line: GET /path, or a JSON object.")
    ] = None,
    read: Annotated[Path | None, typer.Option("--read", help="Summarise a folder that TraceMiddleware wrote.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often the whole file is sent.")] = 1,
    warm_up: Annotated[int, typer.Option(min=0, help="Rounds before the trace: connections, caches.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that one request may take.")] = 60.0,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Call an application in this process and show what every endpoint asks the database.

    With --read, show what a running server wrote through dbperf.trace.TraceMiddleware instead.
    """
    from dbperf.trace.collect import collect
    from dbperf.trace.render import markdown, text

    if (read is None) == (target is None):
        raise UsageError("say what to trace", hint="--app module:app --requests FILE, or --read FOLDER")
    if read is not None:
        result = collect(read)
    else:
        if requests is None or target is None:
            raise UsageError("--app needs --requests FILE", hint="one request per line, like: GET /health")
        result = _in_process(target, requests, rounds, warm_up, concurrency, timeout)
    render = {"json": lambda t: t.to_json().decode(), "markdown": markdown, "text": text}[output_format]
    write_result(render(result), out)


def _in_process(target: str, requests: Path, rounds: int, warm_up: int, concurrency: int, timeout_s: float) -> Trace:
    from datetime import UTC, datetime

    from dbperf.trace.asgi import load
    from dbperf.trace.collect import collect
    from dbperf.trace.hooks import install
    from dbperf.trace.inprocess import call_all, lifespan, read_requests
    from dbperf.trace.middleware import TraceMiddleware

    todo = read_requests(requests)
    install()
    inner = load(target)
    with tempfile.TemporaryDirectory(prefix="dbperf-trace-") as folder:
        traced = TraceMiddleware(inner, folder)

        async def run() -> datetime:
            async with lifespan(inner):
                await call_all(traced, todo, rounds=warm_up, concurrency=concurrency, timeout_s=timeout_s)
                since = datetime.now(UTC)
                answers = await call_all(traced, todo, rounds=rounds, concurrency=concurrency, timeout_s=timeout_s)
            for error in dict.fromkeys(a.error for a in answers if a.error):
                typer.echo(f"dbperf: a request failed: {error}", err=True)
            if traced.watch is not None:
                traced.watch.stop()
            return since

        since = asyncio.run(run())
        traced.recorder.close()
        return collect(Path(folder), since=since)
