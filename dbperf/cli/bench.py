"""`dbperf bench`: benchmark tests into a run directory, or two sides measured in turns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.errors import EXIT_MISSED, DbperfError, UsageError

if TYPE_CHECKING:
    from dbperf.records.rundir import RunDirectory

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Format = Literal["text", "json", "markdown", "junit"]
FailOn = Literal["worse", "cant-tell"]
EPILOG = """\b
Examples:
  dbperf bench                                  PERF-001..008 against the reference target
  dbperf bench --url http://127.0.0.1:8000 --api-key K --dsn postgresql://me@/app
  dbperf bench tests/benchmarks -k search       your own benchmark tests
  dbperf bench --save-baseline --reason "new index"
  dbperf bench --against main                   your changes against main, in turns
  dbperf bench --url http://127.0.0.1:8001 --against-url http://127.0.0.1:8000
  dbperf bench --indexes up.sql                 with these indexes against without
"""
_NO_TESTS, _TESTS_FAILED, _INTERRUPTED = 5, 1, 2


@app.command(epilog=EPILOG)
def bench(
    *,
    tests: Annotated[
        list[str] | None, typer.Argument(metavar="[TESTS]...", help="Benchmark tests.  [default: PERF-001..008]")
    ] = None,
    keyword: Annotated[str | None, typer.Option("-k", help="Only tests whose names fit, as in pytest.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Your API.  [default: the reference target]", envvar="DBPERF_URL", metavar="URL")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Sent as X-API-Key.", envvar="DBPERF_API_KEY", metavar="KEY")
    ] = None,
    dsn: Annotated[
        str | None, typer.Option(help="Your database: cases to ask for.", envvar="DBPERF_DSN", metavar="DSN")
    ] = None,
    writes: Annotated[bool, typer.Option("--apply", help="Also benchmarks that write to your API.")] = False,
    scale: Annotated[str, typer.Option(help="Data of the reference target: smoke, spec or large.")] = "smoke",
    implementation: Annotated[
        Literal["naive", "tuned"], typer.Option(help="How the reference target is written.")
    ] = "tuned",
    against: Annotated[
        str | None,
        typer.Option("--against", help="Side A: the reference target at this revision.", metavar="GITREF"),
    ] = None,
    against_url: Annotated[
        str | None, typer.Option("--against-url", help="Side A: another API; B is --url.", metavar="URL")
    ] = None,
    against_dsn: Annotated[
        str | None,
        typer.Option("--against-dsn", help="Side A: another database (also of --against-url).", metavar="DSN"),
    ] = None,
    against_indexes: Annotated[
        Path | None, typer.Option("--against-indexes", help="Side A: with these indexes.", metavar="FILE")
    ] = None,
    indexes: Annotated[
        Path | None, typer.Option("--indexes", help="Side B: with these indexes.", metavar="FILE")
    ] = None,
    against_api_key: Annotated[
        str | None,
        typer.Option(
            "--against-api-key",
            help="For --against-url.  [default: --api-key]",
            envvar="DBPERF_AGAINST_API_KEY",
            metavar="KEY",
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option("--requests", help="Two sides: your own requests, as a JSON list.", metavar="FILE"),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Two sides: for how long at most; it ends when all is clear.", metavar="DURATION")
    ] = "10m",
    samples: Annotated[
        int, typer.Option(help="Two sides: samples of each endpoint and side, at most.", metavar="N")
    ] = 1200,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="Two sides: how much worse a metric may get, as in compare.", metavar="METRIC=TOLERANCE"),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Two sides: what makes the exit code 1, as in compare.")
    ] = "worse",
    config: Annotated[
        Path | None, typer.Option(help="Two sides: configuration with [services].  [default: dbperf.toml]")
    ] = None,
    save_baseline: Annotated[bool, typer.Option("--save-baseline", help="Make the figures the baseline.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why, with --save-baseline.")] = None,
    baseline: Annotated[Path, typer.Option("--baseline", help="The baseline file.", metavar="FILE")] = Path(
        "reports/performance_baseline.json"
    ),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory.  [default: reports/runs/<utc>-bench]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --out.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="What to print at the end.")] = "text",
) -> None:
    """Run benchmark tests and keep every sample: exit code 1 when a test fails or a limit is missed.

    With a second side (--against, --against-url, --against-dsn, --against-indexes) both are measured in turns, A B B A,
    so that drift cancels, until every answer is clear: exit code 1 when B is worse than A.
    """
    from dbperf.cli.bench_against import Against, bench_against

    asked = Against(
        revision=against, url=url, against_url=against_url, api_key=api_key, against_api_key=against_api_key, dsn=dsn,
        against_dsn=against_dsn, indexes=indexes, against_indexes=against_indexes, requests=requests, keyword=keyword,
        writes=writes, scale=scale, implementation=implementation, budget=budget, samples=samples,
        thresholds=threshold or [], fail_on=fail_on, baseline=baseline, config=config, out=out, force=force,
        format=format_,
    )  # fmt: skip
    if asked.kind() is not None:
        if tests or save_baseline:
            raise UsageError("two sides are compared with each other: no TESTS, and no --save-baseline")
        bench_against(asked)
        return
    if format_ == "junit" or requests is not None:
        raise UsageError(f"{'--requests' if requests else '--format junit'} is for two sides", hint="see --against")
    if save_baseline and not (reason or "").strip():
        raise UsageError("--save-baseline needs --reason", hint='--reason "the new index"')
    if url and not tests and writes is False:
        typer.echo("benchmarks that write to your API are left out; --apply adds them", err=True)
    directory = new_run(out, force=force)
    options = ["--dbperf-scale", scale, "--dbperf-implementation", implementation]
    for name, value in (("--dbperf-url", url), ("--dbperf-dsn", dsn)):
        options += [name, value] if value else []
    options += ["--dbperf-apply"] if writes else []
    options += ["-k", keyword] if keyword else []
    code = _pytest(directory, tests or [], options, api_key)
    _finish(directory, code)
    _print(directory, format_)
    if save_baseline:
        from dbperf.regress.baseline import promote

        assert reason is not None
        promote(baseline, directory.path, reason=reason)
        typer.echo(f"baseline: {baseline}", err=True)
    if code == _TESTS_FAILED:
        raise typer.Exit(EXIT_MISSED)


def new_run(out: Path | None, *, force: bool) -> RunDirectory:
    import os
    from datetime import UTC, datetime

    from dbperf import __version__
    from dbperf.lab import provenance
    from dbperf.lab.options import DEFAULT_ROOT
    from dbperf.records.run import Manifest
    from dbperf.records.rundir import RunDirectory, default_path

    now = datetime.now(UTC)
    manifest = Manifest(
        name="bench", status="running", provenance="measured", started_at=now, dbperf_version=__version__,
        command=provenance.masked_command(sys.argv), git_revision=provenance.git_revision(Path.cwd()), pid=os.getpid(),
        host=provenance.host(),
    )  # fmt: skip
    return RunDirectory.create(out or default_path(DEFAULT_ROOT, "bench", now), manifest, force=force)


def _pytest(directory: RunDirectory, tests: list[str], options: list[str], api_key: str | None) -> int:
    """Runs pytest as a child process; its output goes to stderr."""
    import os

    import dbperf.bench.perf
    from dbperf.processes import Child

    arguments = [sys.executable, "-m", "pytest", "-p", "benchmark", "--benchmark-only", "-q", "-p", "no:cacheprovider"]
    # Where a test calls `dbperf bench`, the outer pytest's variables would make the inner one a worker of its own.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST") and k != "PYTEST_CURRENT_TEST"}
    if not tests:
        # Neither the project around the current folder nor the plugins beside dbperf have a part in them: some warn of
        # what they lack, others take seconds to load.
        inherited["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        arguments += ["-p", "dbperf"]
        perf = Path(dbperf.bench.perf.__file__).parent
        empty = directory.path / "pytest.ini"
        empty.write_text("[pytest]\n")
        arguments += ["-c", str(empty), "--rootdir", str(perf), str(perf / "test_phase3.py")]
    arguments += [*tests, *options, "--dbperf-out", str(directory.path.resolve())]
    environment = {**inherited, **({"DBPERF_API_KEY": api_key} if api_key else {})}
    log = directory.path / "pytest.log"
    with Child.start(arguments, env=environment, log=log, name="pytest") as child:
        _follow(child, log)
        code = child.poll()
    assert code is not None
    return code


def _follow(child: object, log: Path) -> None:
    """Shows a child's log on stderr until it ends."""
    import time

    poll = child.poll  # type: ignore[attr-defined]  # a Child, imported where it is used
    with log.open("rb") as f:
        while True:
            ended = poll() is not None
            if chunk := f.read():
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()
            elif ended:
                return
            else:
                time.sleep(0.1)


def _finish(directory: RunDirectory, code: int) -> None:
    """Completes the manifest.

    Raises:
        DbperfError: pytest measured nothing.
    """
    from datetime import UTC, datetime

    from dbperf.records.benchmarks import Benchmarks

    found = directory.maybe(Benchmarks)
    measured = found is not None and bool(found.benchmarks)
    status = "complete" if code in (0, _TESTS_FAILED) and measured else "failed"
    directory.update(status=status, ended_at=datetime.now(UTC), target=found.target if found else None)
    if found is not None:
        directory.update(files={**directory.manifest.files, Benchmarks.kind: Benchmarks.file_name})
    if not measured:
        why = {_NO_TESTS: "no test was found", _INTERRUPTED: "it was interrupted, or a test could not be loaded"}
        raise DbperfError(
            f"nothing was measured: {why.get(code, f'pytest ended with {code}')}",
            hint=f"its output is in {directory.path / 'pytest.log'}",
        )


def _print(directory: RunDirectory, format_: Format) -> None:
    from dbperf.bench.collect import markdown, table
    from dbperf.records.benchmarks import Benchmarks

    found = directory.read(Benchmarks)
    if format_ == "json":
        typer.echo(found.to_json().decode(), nl=False)
    elif format_ == "markdown":
        typer.echo("\n".join(markdown(found.benchmarks)))
    else:
        typer.echo("\n".join([*table(found.benchmarks), f"run: {directory.path}"]))
