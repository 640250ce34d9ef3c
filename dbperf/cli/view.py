"""`dbperf view`: the runs of a folder in the browser, with trends."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf view
  dbperf view /data/runs --port 0 --open
"""

DEFAULT_PORT = 8787


@app.command(epilog=EPILOG)
def view(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="A folder of run directories.")] = Path(
        "reports/runs"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = DEFAULT_PORT,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show the runs of a folder, their trends and reports, to this machine only. Changes nothing. Ctrl-C ends it."""
    from dbperf.report.view import Viewer

    viewer = Viewer(folder, port=port)
    typer.echo(viewer.url)
    if open_:
        webbrowser.open(viewer.url)
    try:
        viewer.serve()
    except KeyboardInterrupt:
        # The way to end it, not an interruption of work.
        typer.echo("stopped", err=True)
    finally:
        viewer.close()
