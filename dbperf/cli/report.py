"""`dbperf report`: writes the report of a run again, or prints it as Markdown, JSON or JUnit XML."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dbperf.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf report reports/runs/20250314T092653Z-naive --open
  dbperf report RUN --format markdown >> $GITHUB_STEP_SUMMARY
  dbperf report RUN --format junit -o junit.xml
  dbperf report RUN --share                     redacted, to hand on
"""


class Format(StrEnum):
    """What to write."""

    html = "html"
    markdown = "markdown"
    json = "json"
    junit = "junit"


@app.command(epilog=EPILOG)
def report(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory (it holds run.json).", show_default=False)
    ],
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Write one format only: html to a file, the others to stdout.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it; - is stdout.", metavar="FILE")
    ] = None,
    redact: Annotated[
        bool | None,
        typer.Option(
            "--redact/--no-redact",
            help="Take out literals, parameters, messages, hosts and paths. On with --share.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Write into RUN/share what can be handed to others: redacted.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the HTML in the browser.")] = False,
) -> None:
    """Write the report of a run again: report.html, summary.md and report.json beside its records."""
    from dbperf.records.base import write_atomic
    from dbperf.records.rundir import RunDirectory
    from dbperf.report import write_report
    from dbperf.report.build import build_report
    from dbperf.report.html import render_html
    from dbperf.report.junit import render_junit
    from dbperf.report.markdown import render_markdown
    from dbperf.report.model import Report

    if open_ and (format_ not in (None, Format.html) or output == Path("-")):
        raise UsageError("--open shows the HTML report", hint="leave out --format and -o -")
    if output is not None and format_ is None:
        raise UsageError("-o needs to know what to write", hint="add --format html, markdown, json or junit")
    if share and format_ is not None:
        raise UsageError("--share writes all formats", hint="leave out --format, or use --redact instead of --share")
    redact = share if redact is None else redact
    directory = RunDirectory.open(run)
    if format_ is None:
        files = write_report(directory, redact=redact, share=share)
        html = files.html
        for path in (files.html, files.markdown, files.json):
            typer.echo(path)
    else:
        render: dict[Format, Callable[[Report], str]] = {
            Format.html: render_html,
            Format.markdown: render_markdown,
            Format.json: lambda r: r.to_json().decode(),
            Format.junit: render_junit,
        }
        text = render[format_](build_report(directory, redact=redact))
        html = output or directory.path / "report.html"
        if output == Path("-") or (output is None and format_ is not Format.html):
            typer.echo(text, nl=False)
        else:
            write_atomic(html, text.encode())
            typer.echo(html)
    if open_:
        webbrowser.open(html.resolve().as_uri())
