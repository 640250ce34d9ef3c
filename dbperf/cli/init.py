"""`dbperf init`: a configuration, a suite and a workflow for a project, to be read and changed by its people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from dbperf.cli.options import Header
from dbperf.errors import OutputError

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf init                                      dbperf.toml only
  dbperf init --url http://127.0.0.1:8000          and a suite of the API's GET endpoints
  dbperf init --url http://127.0.0.1:8000 --ci github --start 'uvicorn shop.main:app --port 8000'
"""
SUITE = Path("loadtests/api.toml")


@app.command(epilog=EPILOG)
def init(
    *,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The project.", show_default=False)] = Path(),
    url: Annotated[
        str | None,
        typer.Option(
            help="Your HTTP API: the suite is made from its /openapi.json.",
            envvar="DBPERF_URL",
            show_envvar=True,
            metavar="URL",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Sent as X-API-Key when the document is read; not written.",
            envvar="DBPERF_API_KEY",
            show_envvar=True,
            metavar="KEY",
        ),
    ] = None,
    header: Header = None,
    ci: Annotated[Literal["github", "gitlab"] | None, typer.Option(help="Also write a workflow for it.")] = None,
    start: Annotated[
        str | None, typer.Option(help="How your API starts, for the workflow.", metavar="COMMAND", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write dbperf.toml, a load suite of your API's endpoints, and a workflow for CI, with comments.

    GitHub's workflow compares a pull request with its base; it uses the composite action, which is written beside it.
    Nothing is overwritten without --force, and no password is written: where DATABASE_URL is set, the file says that
    the connection is read from there.
    """
    from dbperf.cli.init_texts import WORKFLOW_FILES, action_texts, config_text, suite_text, workflow_text
    from dbperf.cli.run import headers_of
    from dbperf.errors import UsageError
    from dbperf.load.openapi import derive_suite
    from dbperf.records.base import write_atomic

    if start is not None and ci is None:
        raise UsageError("--start is for a workflow", hint="add --ci github or --ci gitlab")
    if start is not None and "\n" in start:
        raise UsageError("--start must be one line", hint="write a script and name that")
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder")
    action = action_texts(ci)
    names = [Path("dbperf.toml"), *([SUITE] if url else []), *([WORKFLOW_FILES[ci]] if ci else []), *action]
    there = [str(folder / n) for n in names if (folder / n).exists()]
    if there and not force:
        one = len(there) == 1
        raise OutputError(
            f"{', '.join(there)} {'is' if one else 'are'} there already; nothing was written",
            hint=f"--force replaces {'it' if one else 'them'}",
        )
    texts = {Path("dbperf.toml"): config_text(url=url, suite=SUITE if url else None, dsn_variable=_dsn_variable())}
    if url:
        headers = {**({"X-API-Key": api_key} if api_key else {}), **headers_of(header or [])}
        suite, left_out = derive_suite(url, headers=headers)
        texts[SUITE] = suite_text(suite, left_out, url=url)
        typer.echo(f"{len(suite.endpoints)} endpoints in the suite, {len(left_out)} left out", err=True)
    if ci:
        texts[WORKFLOW_FILES[ci]] = workflow_text(ci, url=url, suite=SUITE if url else None, start=start)
    texts |= action
    for name, text in texts.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"{path.parent} can't be made: {e.strerror}") from e
        write_atomic(path, text.encode())
        typer.echo(path)
    if not url:
        typer.echo("no suite was written: --url names the API to make one from", err=True)


def _dsn_variable() -> str | None:
    """The environment variable that holds the database, where dbperf would not read it by itself."""
    return "DATABASE_URL" if os.environ.get("DATABASE_URL") and not os.environ.get("DBPERF_DSN") else None
