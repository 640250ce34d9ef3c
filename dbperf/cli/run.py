"""`dbperf run`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.errors import EXIT_MISSED, UsageError

if TYPE_CHECKING:
    from dbperf.lab.run import Outcome

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

EPILOG = """\b
Examples:
  dbperf run                                    the reference target, naive implementation
  dbperf run --quick                            the same, small, in a minute
  dbperf run --url http://127.0.0.1:8000 --dsn postgresql://me@/app
                                                your API under load, your database observed
  dbperf run --url http://127.0.0.1:8000 --suite my.toml
  dbperf run --dsn postgresql://me@/app         observe a database for a minute, no load
"""


@app.command(epilog=EPILOG)
def run(
    *,
    dsn: Annotated[
        str | None,
        typer.Option(
            help="Your PostgreSQL. It is only read, unless --apply is given.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Your HTTP API's base URL.", envvar="DBPERF_URL", show_envvar=True, metavar="URL"),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="Sent as X-API-Key.", envvar="DBPERF_API_KEY", show_envvar=True, metavar="KEY"),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with each request; may be repeated.", metavar="'NAME: VALUE'")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="What to request: a suite's name or file. Default: the GET routes in /openapi.json."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Size of the reference data: smoke, spec or large.  [default: spec]")
    ] = None,
    implementation: Annotated[
        Literal["naive", "tuned"], typer.Option(help="How the reference target is written.")
    ] = "naive",
    seed: Annotated[int, typer.Option(help="Seed of the reference data.")] = 1,
    users: Annotated[int | None, typer.Option(help="Concurrent users.  [default: 10]")] = None,
    duration: Annotated[
        str | None, typer.Option(help="How long to measure, after the warm-up.  [default: 60s]", metavar="TIME")
    ] = None,
    warm_up: Annotated[
        str | None, typer.Option(help="Load that is not measured.  [default: 5s]", metavar="TIME")
    ] = None,
    top: Annotated[int | None, typer.Option(help="Statements that get a plan.  [default: 10]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smoke scale, 5 users, 10 s: a minute in all.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory.  [default: reports/runs/<utc>-<name>]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --out.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration.  [default: dbperf.toml, then pyproject.toml]")
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace/--no-trace", help="Trace the reference target's requests to their statements.")
    ] = True,
    traces: Annotated[
        Path | None,
        typer.Option(
            help="Where your API's TraceMiddleware writes: its requests are joined with their statements.",
            metavar="FOLDER",
        ),
    ] = None,
    writes: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Also send requests that write, and build the advised indexes to measure them (dropped again).",
        ),
    ] = False,
    staging: Annotated[bool, typer.Option("--staging", help="Allow more than 100 users.")] = False,
    not_production: Annotated[
        bool, typer.Option("--i-know-this-is-not-production", help="Allow a target that is not on this machine.")
    ] = False,
    output_format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="What to print at the end.")
    ] = "text",
) -> None:
    """Measure an API on PostgreSQL and write a report.

    With nothing else said it brings everything along: an embedded PostgreSQL, the Phase 3 API with its data, and a
    load. --url and --dsn, either or both, point it at your own.
    """
    from dbperf.cli.progress import TerminalProgress
    from dbperf.config import load_config
    from dbperf.lab.options import resolve
    from dbperf.lab.run import run as run_job
    from dbperf.units import parse_duration_s

    options = resolve(
        load_config(config),
        name=name,
        out=out,
        force=force,
        dsn=dsn,
        url=url,
        api_key=api_key,
        headers=headers_of(header or []),
        suite=suite,
        scale=scale,
        implementation=implementation,
        seed=seed,
        users=users,
        duration_s=parse_duration_s(duration) if duration else None,
        warm_up_s=parse_duration_s(warm_up) if warm_up else None,
        top=top,
        quick=quick,
        trace=trace,
        traces=traces,
        writes=writes,
        staging=staging,
        not_production=not_production,
        command=sys.argv,
    )
    with TerminalProgress() as progress:
        outcome = run_job(options, progress)
    _print(outcome, output_format)
    if outcome.verdict == "fail":
        raise typer.Exit(EXIT_MISSED)


def headers_of(given: list[str]) -> dict[str, str]:
    """Headers from ``Name: value`` texts.

    Raises:
        UsageError: a text is none.
    """
    headers = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError("--header does not fit", hint="write it as 'Authorization: Bearer …'")
        headers[name.strip()] = value.strip()
    return headers


def _print(outcome: Outcome, output_format: str) -> None:
    import json

    from dbperf.records.proof import Proof
    from dbperf.records.rundir import RunDirectory
    from dbperf.records.verdicts import Verdicts
    from dbperf.report.proof_view import proof_sentences

    if output_format == "json":
        files = {"run": str(outcome.path / "run.json"), "report": str(outcome.report.html)}
        typer.echo(json.dumps({"path": str(outcome.path), "verdict": outcome.verdict, **files}))
        return
    verdicts = RunDirectory.open(outcome.path).maybe(Verdicts)
    if verdicts is not None:
        missed = [v for v in verdicts.levels if v.verdict == "fail"]
        unsure = [v for v in verdicts.levels if v.verdict == "cant_tell"]
        typer.echo(f"{len(verdicts.levels)} service levels: {len(missed)} missed, {len(unsure)} can't be told")
        for level in missed:
            typer.echo(f"  missed: {level.endpoint} {level.metric}: {level.reason}")
    proof = RunDirectory.open(outcome.path).maybe(Proof)
    for sentence in proof_sentences(proof) if proof is not None else []:
        typer.echo(sentence)
    typer.echo(f"report: {outcome.report.html}")
