"""`dbperf load`: a load suite against an API, judged by gates and service levels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.errors import EXIT_MISSED, UsageError

if TYPE_CHECKING:
    from dbperf.lab.options import RunOptions
    from dbperf.lab.run import Outcome
    from dbperf.load.plan import Fleet, Place
    from dbperf.records.suite import Suite

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Format = Literal["text", "json", "markdown"]
EPILOG = """\b
Examples:
  dbperf load --list                            the ready suites, and how long each takes
  dbperf load spike                             against the reference target
  dbperf load my.toml --url http://127.0.0.1:8000 --api-key K --dsn postgresql://me@/app
  dbperf load loadtests/api.toml --url http://127.0.0.1:8000 --gate 'p95 < 300ms'
  dbperf load ramp --processes 2                past one core; --master and --worker past one machine
  dbperf load ci --out reports/ci               LOAD-001 to 011, each at most a minute
"""


@app.command(epilog=EPILOG)
def load(
    *,
    suite: Annotated[
        str | None, typer.Argument(help="A ready suite, a suite file (.toml), or ci for the whole set.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the ready suites with their expected time.")] = False,
    imported: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Read Locust's *_stats.csv or --json, or a k6 summary, into a run.", metavar="FILE"
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Your HTTP API's base URL.  [default: the reference target]",
            envvar="DBPERF_URL",
            show_envvar=True,
            metavar="URL",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="Sent as X-API-Key.", envvar="DBPERF_API_KEY", show_envvar=True, metavar="KEY"),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with each request; may be repeated.", metavar="'NAME: VALUE'")
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            help="The API's database: watched, and read for the suite's data.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ] = None,
    users: Annotated[int | None, typer.Option(help="Instead of the suite's (one stage only).")] = None,
    duration: Annotated[
        str | None, typer.Option(help="Of each stage, instead of the suite's; no ramp is longer.", metavar="TIME")
    ] = None,
    warm_up: Annotated[str | None, typer.Option(help="Instead of the suite's.", metavar="TIME")] = None,
    ci: Annotated[bool, typer.Option("--ci", help="The suite's CI variant: at most a minute.")] = False,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Beside the suite's; may be repeated. For example 'p95 < 500ms'.", metavar="GATE"),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Reference data: smoke, spec or large.  [default: spec]")] = None,
    implementation: Annotated[
        Literal["naive", "tuned"], typer.Option(help="How the reference target is written.")
    ] = "naive",
    writes: Annotated[
        bool, typer.Option("--apply", help="Also send a suite's requests that write to your API.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory.  [default: reports/runs/<utc>-<suite>]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --out.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration.  [default: dbperf.toml, then pyproject.toml]")
    ] = None,
    locustfile: Annotated[
        Path | None,
        typer.Option(
            help="Your own Locust users, in the suite's stages and judged by its gates; --worker needs it, too."
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Load processes on this machine.")] = 1,
    master: Annotated[
        bool, typer.Option("--master", help="Wait for workers on other machines and make the load with them.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many workers --master waits for.")] = 1,
    worker: Annotated[bool, typer.Option("--worker", help="Be a worker: all else comes from the master.")] = False,
    master_host: Annotated[str, typer.Option(help="Where --worker finds its master.")] = "127.0.0.1",
    master_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the master; so is the next one.")] = 5557,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Label of this worker, or of a process each with --processes; a time is added to every request.",
            metavar="NAME[=TIME]",
        ),
    ] = None,
    staging: Annotated[bool, typer.Option("--staging", help="Allow more than 100 users.")] = False,
    not_production: Annotated[
        bool, typer.Option("--i-know-this-is-not-production", help="Allow a target that is not on this machine.")
    ] = False,
    output_format: Annotated[Format, typer.Option("--format", help="What to print at the end.")] = "text",
) -> None:
    """Put a suite's load on an API and judge it: exit code 1 when a gate or service level is missed.

    Latencies are kept as histograms per stage and endpoint, warm-up and ramp excluded; each verdict is pass, fail or
    can't tell. load.xml (JUnit) and load.md are written beside the report. `dbperf run --suite SUITE` goes on to flame
    graphs, requests with their statements, index advice and its proof.
    """
    from dbperf.config import load_config
    from dbperf.lab.options import resolve
    from dbperf.load.suites import ci_suites
    from dbperf.units import parse_duration_s

    if listing:
        _list(output_format)
        return
    if imported is not None:
        _import(imported, out, gate or [], output_format, force=force)
        return
    places = [_place(r) for r in region or []]
    if worker:
        _work(master_host, master_port, places, locustfile)
        return
    fleet = _fleet(processes, places, master=master, workers=workers, port=master_port)
    if suite is None:
        raise UsageError("which suite?", hint="dbperf load --list shows the ready ones")
    if dsn and not url:
        raise UsageError("--dsn without --url has nothing to send requests to", hint="add --url http://…")

    from dbperf.cli.run import headers_of

    names = [s.name for s in ci_suites()] if suite == "ci" else [suite]

    def options(name: str) -> RunOptions:
        return resolve(
            load_config(config),
            name=Path(name).stem,
            out=(out / name if out and len(names) > 1 else out),
            force=force,
            dsn=dsn,
            url=url,
            api_key=api_key,
            headers=headers_of(header or []),
            suite=name,
            ci=ci or suite == "ci",
            gates=gate or [],
            fleet=fleet,
            locustfile=locustfile,
            scale=scale,
            implementation=implementation,
            users=users,
            duration_s=parse_duration_s(duration) if duration else None,
            warm_up_s=parse_duration_s(warm_up) if warm_up else None,
            writes=writes,
            causes=False,
            staging=staging,
            not_production=not_production,
            command=sys.argv,
        )

    failed = False
    printed = []
    for name in names:
        outcome = _run(options(name))
        printed.append(_shown(outcome, output_format))
        failed |= outcome.verdict == "fail"
        if output_format == "text":
            typer.echo(printed[-1])
    if output_format == "json":
        typer.echo(printed[0] if len(names) == 1 else f"[{','.join(printed)}]")
    elif output_format == "markdown":
        typer.echo("\n".join(printed), nl=False)
    if failed:
        raise typer.Exit(EXIT_MISSED)


def _import(file: Path, out: Path | None, gates: list[str], output_format: Format, *, force: bool) -> None:
    """A run directory with another tool's result in it; the report is written from it as from any other."""
    from dbperf.lab.imported import import_run

    outcome = import_run(file, out, gates=gates, force=force, command=sys.argv)
    typer.echo(_shown(outcome, output_format))
    if outcome.verdict == "fail":
        raise typer.Exit(EXIT_MISSED)


def _place(text: str) -> Place:
    from dbperf.load.plan import Place
    from dbperf.units import parse_duration_s

    name, _, latency = text.partition("=")
    return Place(region=name, added_latency_s=parse_duration_s(latency) if latency else 0.0)


def _fleet(processes: int, places: list[Place], *, master: bool, workers: int, port: int) -> Fleet | None:
    from dbperf.load.plan import Fleet
    from dbperf.processes import free_port

    if master:
        if processes > 1 or places:
            raise UsageError("--master makes no load itself", hint="--processes and --region belong to its workers")
        typer.echo(
            f"waiting for {workers} workers: dbperf load --worker --master-host … --master-port {port}", err=True
        )
        return Fleet(workers=workers, bind_host="*", port=port, connect_s=600)
    if places and processes not in (1, len(places)):
        raise UsageError(
            f"{processes} processes and {len(places)} regions don't fit", hint="one --region for each process"
        )
    count = max(processes, len(places))
    if count == 1 and not places:
        return None
    return Fleet(workers=count, port=free_port(), local=tuple(places) or (None,) * count)


def _work(host: str, port: int, places: list[Place], locustfile: Path | None) -> None:
    import asyncio
    import tempfile

    from dbperf.errors import DbperfError
    from dbperf.load.runner import run_worker

    if len(places) > 1:
        raise UsageError("a worker is in one region", hint="start one for each")
    with tempfile.TemporaryDirectory(prefix="dbperf-worker-") as folder:
        log = Path(folder) / "worker.log"
        typer.echo(f"working for {host}:{port}", err=True)
        code = asyncio.run(run_worker(host, port, places[0] if places else None, log, locustfile=locustfile))
        if code:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise DbperfError(last[0] if last else f"the worker ended with code {code}", hint="is the master running?")


def _run(options: RunOptions) -> Outcome:
    from dbperf.cli.progress import TerminalProgress
    from dbperf.lab.run import run

    with TerminalProgress() as progress:
        return run(options, progress)


def _shown(outcome: Outcome, output_format: Format) -> str:
    """The results in a format; JUnit and Markdown are written into the run directory in any case."""
    import json

    from dbperf.load import summary
    from dbperf.load.causes import causes
    from dbperf.records.base import write_atomic
    from dbperf.records.capacity import Capacity
    from dbperf.records.load import Load
    from dbperf.records.rundir import RunDirectory
    from dbperf.records.statements import Statements
    from dbperf.records.telemetry import Telemetry
    from dbperf.records.verdicts import Verdicts

    run = RunDirectory.open(outcome.path)
    load, verdicts, capacity = run.read(Load), run.read(Verdicts), run.maybe(Capacity)
    why = causes(load, verdicts, run.maybe(Telemetry), run.maybe(Statements))
    as_markdown = summary.markdown(load, verdicts, capacity, why)
    write_atomic(outcome.path / "load.xml", summary.junit(load, verdicts).encode())
    write_atomic(outcome.path / "load.md", as_markdown.encode())
    if output_format == "json":
        found = summary.as_json(load, verdicts, capacity, path=str(outcome.path))
        return json.dumps({**found, "causes": why}, indent=2)
    if output_format == "markdown":
        return as_markdown
    lines = []
    for stage in load.stages:
        lines += [summary.title(stage), *_aligned(summary.rows(stage)), ""]
    judged = [(g.expr, g.verdict, g.reason) for g in verdicts.gates]
    judged += [(f"{v.stage} {v.endpoint} {v.metric}", v.verdict, v.reason) for v in verdicts.levels]
    lines += [f"{summary.MARKS[verdict]:10}  {subject}: {reason}" for subject, verdict, reason in judged]
    for name, sentences in why.items():
        lines += [f"in the window of {name!r}:", *(f"  {text}" for text in sentences)]
    lines += summary.capacity_lines(capacity)
    lines += [f"note: {note}" for note in load.notes]
    if load.generator.saturated:
        lines.append(f"the load generator was the bottleneck, latencies are not valid: {load.generator.reason}")
    lines += [summary.one_line(load, verdicts), f"report: {outcome.report.html}"]
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> list[str]:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  " + "  ".join([first.ljust(widths[0]), *cells]))
    return lines


def _list(output_format: Format) -> None:
    import json
    from textwrap import wrap

    from dbperf.cli.options import terminal_width
    from dbperf.load.suites import ci_suites, ci_variant, list_suites
    from dbperf.units import format_seconds

    suites = list_suites()

    def ci_s(suite: Suite) -> float | None:
        return ci_variant(suite).expected_s if suite.ci else None

    entries = [
        {
            "name": s.name,
            "description": s.description,
            "expected_s": s.expected_s,
            "ci_expected_s": ci_s(s),
            "stages": [
                {"name": x.name, "users": x.users, "arrival_rate": x.arrival_rate_per_s, "duration_s": x.duration_s}
                for x in s.stages
            ],
            "endpoints": [e.name for e in s.endpoints],
            "gates": s.gates,
        }
        for s in suites
    ]
    if output_format == "json":
        typer.echo(json.dumps(entries, indent=2))
        return
    rows = [["suite", "takes", "in CI", "what"]]
    for s in suites:
        short = ci_s(s)
        rows.append([s.name, format_seconds(s.expected_s), format_seconds(short) if short else "–", s.description])
    together_s = sum(s.expected_s for s in ci_suites())
    rows.append(["ci", "–", format_seconds(together_s), f"{len(ci_suites())} suites in their CI variants, one by one"])
    if output_format == "markdown":
        header, *lines = ["| " + " | ".join(row) + " |" for row in rows]
        typer.echo("\n".join([header, "|---|---:|---:|---|", *lines]))
        return
    width = [max(len(r[i]) for r in rows) for i in range(3)]
    room = (terminal_width() or 0) - sum(width) - 6
    for name, takes, short_text, what in rows:
        first, *more = wrap(what, room) if room >= 20 else [what]
        typer.echo(f"{name:{width[0]}}  {takes:>{width[1]}}  {short_text:>{width[2]}}  {first}")
        for line in more:
            typer.echo(f"{'':{sum(width) + 6}}{line}")
