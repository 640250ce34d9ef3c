"""`dbperf history`: figures over many runs, and since when they are what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import EXIT_MISSED, UsageError

if TYPE_CHECKING:
    from dbperf.records.history import HistoryReport, StoredRun
    from dbperf.regress.series import Store

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Figures over many runs: trends, and steps with the commits that they lie between.",
)

DEFAULT = Path("reports/history.sqlite3")
_STORE = Annotated[
    str,
    typer.Option(
        "--store", help="An SQLite file, or postgresql://… for a team.", envvar="DBPERF_HISTORY", show_envvar=True,
        metavar="STORE",
    ),
]  # fmt: skip
_METRIC = Annotated[
    list[str] | None,
    typer.Option("--metric", help="Only this metric; may be repeated.  [default: those that can fail a gate]"),
]
_ENDPOINT = Annotated[
    str | None, typer.Option("--endpoint", help="Only endpoints that fit; * stands for anything.", metavar="PATTERN")
]
_LEAST = Annotated[str, typer.Option("--least", help="Smaller steps are left out.", metavar="SHARE")]
_PLOT = Annotated[Path | None, typer.Option("--plot", help="Also draw the series into an SVG file.", metavar="FILE")]
_REPOSITORY = Annotated[Path, typer.Option("--repo", help="Where git knows the commits.", metavar="FOLDER")]
_ADD = """\b
Examples:
  dbperf history add reports/runs/20261121T101500Z-run
  dbperf history add reports/runs/*
  dbperf history add RUN --store postgresql://perf@db/perf --apply
"""
_SHOW = """\b
Examples:
  dbperf history show
  dbperf history show --metric p95 --endpoint 'POST *' --plot trend.svg
"""
_STEPS = """\b
Examples:
  dbperf history steps
  dbperf history steps --metric p95 --fail-on worse --format markdown
"""


@app.command(epilog=_ADD)
def add(
    *,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, or pytest-benchmark's JSON.")],
    store: _STORE = str(DEFAULT),
    apply: Annotated[bool, typer.Option("--apply", help="Write to the PostgreSQL server of --store.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also runs that were cut short.")] = False,
) -> None:
    """Add runs to the history. A run that is there already is left alone.

    A PostgreSQL store is only written to with --apply, which also makes its schema (dbperf_history) where it is
    missing.
    """
    from dbperf.regress.series import stored_run

    opened = _open(store)
    found = [stored_run(r, force=force) for r in runs]  # all are read before anything is written
    _check_apply(opened, found, apply=apply)
    added = opened.add(found)
    known = f", {len(found) - added} known already" if added < len(found) else ""
    typer.echo(f"{opened.name}: {added} of {len(found)} runs added{known}")


@app.command(epilog=_SHOW)
def show(
    *,
    store: _STORE = str(DEFAULT),
    metric: _METRIC = None,
    endpoint: _ENDPOINT = None,
    least: _LEAST = "5%",
    plot: _PLOT = None,
    repository: _REPOSITORY = Path(),
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Show each figure over the runs that are comparable: same load, data, target and machine."""
    from dbperf.regress.history_text import render_show

    report = _report(store, metric, endpoint, least, repository)
    _plot(report, plot, with_steps_only=False)
    text = report.to_json().decode() if format_ == "json" else render_show(report, markdown=format_ == "markdown")
    write_result(text, out)


@app.command(epilog=_STEPS)
def steps(
    *,
    store: _STORE = str(DEFAULT),
    metric: _METRIC = None,
    endpoint: _ENDPOINT = None,
    least: _LEAST = "5%",
    fail_on: Annotated[
        Literal["never", "worse"],
        typer.Option("--fail-on", help="worse: exit code 1 where the newest step of a series is for the worse."),
    ] = "never",
    plot: _PLOT = None,
    repository: _REPOSITORY = Path(),
    format_: Format = "text",
    out: Out = None,
) -> None:
    """Show since when each figure is what it is: steps, each with the commits that it lies between.

    E-divisive with a permutation test. The chance of a false step is below 1 % for a series of 100 runs
    (docs/statistics.md).
    """
    from dbperf.regress.history_text import render_steps

    report = _report(store, metric, endpoint, least, repository)
    _plot(report, plot, with_steps_only=True)
    text = report.to_json().decode() if format_ == "json" else render_steps(report, markdown=format_ == "markdown")
    write_result(text, out)
    if fail_on == "worse" and any(s.steps and s.steps[-1].verdict == "worse" for s in report.series):
        raise typer.Exit(EXIT_MISSED)


def _open(store: str) -> Store:
    if "://" in store and not store.startswith(("postgresql://", "postgres://")):
        raise UsageError(
            f"--store {store.split('://', maxsplit=1)[0]}://… is not supported", hint="a file, or postgresql://…"
        )
    if "://" in store:
        from dbperf.postgres.history_store import PostgresHistory

        return PostgresHistory(store)
    from dbperf.regress.history_sqlite import SqliteHistory

    return SqliteHistory(Path(store.removeprefix("sqlite:")))


def _check_apply(store: Store, runs: list[StoredRun], *, apply: bool) -> None:
    from dbperf.postgres.history_store import SCHEMA, PostgresHistory

    if not isinstance(store, PostgresHistory):
        return
    there = store.exists()
    if not apply:
        makes = "" if there else f"make the schema {SCHEMA} (sql/history/postgresql.sql) and "
        raise UsageError(
            f"nothing is written to {store.name} without --apply", hint=f"--apply would {makes}add {len(runs)} runs"
        )
    if not there:
        typer.echo(f"making the schema {SCHEMA} (sql/history/postgresql.sql)", err=True)


def _report(store: str, metrics: list[str] | None, endpoint: str | None, least: str, repository: Path) -> HistoryReport:
    from dbperf.records.history import HistoryReport
    from dbperf.regress.series import series_of, with_steps

    opened = _open(store)
    runs = opened.runs()
    found = series_of(runs, metrics=metrics, subject=endpoint)
    if runs and not found:
        known = sorted({f.metric for r in runs for f in r.figures})
        raise UsageError("no figure fits --metric and --endpoint", hint=f"metrics here: {', '.join(known)}")
    share = _share(least)
    return HistoryReport(
        store=opened.name, runs=len(runs),
        series=[with_steps(s, least_change=share, repository=repository) for s in found],
    )  # fmt: skip


def _plot(report: HistoryReport, path: Path | None, *, with_steps_only: bool) -> None:
    if path is None:
        return
    from dbperf.records.base import write_atomic
    from dbperf.regress.history_text import conditions_in_words
    from dbperf.report.history_plot import history_svg

    series = [s for s in report.series if s.steps or not with_steps_only]
    if not series:
        typer.echo(f"there is nothing to draw: {path} is not written", err=True)
        return
    subtitles = [conditions_in_words(s.conditions) for s in series]
    write_atomic(path, history_svg(series, subtitles).encode())
    typer.echo(path, err=True)


def _share(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(f"--least {text!r} is not a share", hint="write it as 5% or 0.05")
    return value
