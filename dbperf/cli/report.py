"""`dbperf report`: writes the report of a run again, or prints it as Markdown, JSON or JUnit XML."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.errors import RecordError, UsageError

if TYPE_CHECKING:
    from dbperf.records.rundir import RunDirectory
    from dbperf.report.changes import Against

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf report reports/runs/20250314T092653Z-naive --open
  dbperf report RUN --against reports/runs/20250301T081500Z-naive
  dbperf report RUN --against reports/performance_baseline.json
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
    against: Annotated[
        Path | None,
        typer.Option(
            help="Also say what changed since this run, or against a baseline: verdicts, statements, flame graphs.",
            metavar="RUN",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Configuration with [services], for --against.  [default: dbperf.toml, then pyproject.toml]"),
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
    from dbperf import vega

    if format_ in (None, Format.html):
        vega.start()  # it starts while the rest is imported
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
    other = other_side(directory, against, config) if against is not None else None
    if format_ is None:
        files = write_report(directory, redact=redact, share=share, against=other)
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
        text = render[format_](build_report(directory, redact=redact, against=other))
        html = output or directory.path / "report.html"
        if output == Path("-") or (output is None and format_ is not Format.html):
            typer.echo(text, nl=False)
        else:
            write_atomic(html, text.encode())
            typer.echo(html)
    if open_:
        webbrowser.open(html.resolve().as_uri())


def other_side(run: RunDirectory, path: Path, config: Path | None) -> Against:
    """What `--against` names, compared with the run by the rules of `dbperf compare`. Figures that can't be compared
    are a reason in the report, not an end of it.

    Raises:
        RecordError: there is nothing at `path`, or nothing known.
    """
    from dbperf.config import load_config
    from dbperf.records.rundir import RunDirectory
    from dbperf.regress.compare import compare
    from dbperf.regress.judge import Rules
    from dbperf.regress.sources import read_side
    from dbperf.report.changes import Against, against_run

    other = RunDirectory.open(path) if path.is_dir() else None
    if other is None and not path.exists():
        raise RecordError(f"{path} does not exist", hint="--against names a run directory or a baseline")
    comparison, reason = None, None
    try:
        comparison = compare(
            read_side(path), read_side(run.path), Rules(services=load_config(config).services, overrides={})
        )
    except RecordError as e:
        if other is None:
            raise
        reason = e.message
    if other is not None:
        return against_run(other, comparison, reason)
    return Against(name=str(path), comparison=comparison, reason=reason)
