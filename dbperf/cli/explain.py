"""`dbperf explain`: what a plan spends its time on, and what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.cli.options import Format, Out, write_result
from dbperf.errors import EXIT_MISSED, PlanError, UsageError

if TYPE_CHECKING:
    from dbperf.records.plans import Explanation

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf explain --dsn postgresql://me@db/app 'SELECT * FROM orders WHERE id = $1'
  dbperf explain --dsn service=app --file orders.sql --analyze --params 1=42
  dbperf explain --plan plan.txt --fail-on critical
  dbperf explain old.json --against new.json
"""


@app.command(epilog=EPILOG)
def explain(
    *,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="A statement, a file with one, or a file with EXPLAIN's output."),
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            help="The database. Without it the PG* variables count, and without those the embedded server if it runs.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="EXPLAIN's output, text or JSON, or a log of auto_explain; - is stdin.", metavar="FILE"),
    ] = None,
    nth: Annotated[int | None, typer.Option(min=1, help="Which plan, where the file has several.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the statement from a file.")] = None,
    queryid: Annotated[int | None, typer.Option(help="A statement of pg_stat_statements.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare with this plan (a file), or statement.", metavar="FILE|SQL")
    ] = None,
    analyze: Annotated[
        bool,
        typer.Option("--analyze", help="Execute it too: only if it is proven to read, and rolled back."),
    ] = False,
    params: Annotated[
        list[str] | None,
        typer.Option(help="A value: 1=42 for $1; 1= is the empty text, 1:null is NULL.", metavar="N=VALUE"),
    ] = None,
    params_log: Annotated[
        Path | None, typer.Option(help="Take the values from a log of slow queries or auto_explain.", metavar="FILE")
    ] = None,
    timeout: Annotated[str, typer.Option(help="Of the execution.", metavar="DURATION")] = "30s",
    fail_on: Annotated[
        Literal["warning", "critical"] | None,
        typer.Option(help="Exit code 1 where a finding is so severe."),
    ] = None,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Show where a plan spends its time, what is wrong in it, and what to do.

    A statement is only planned, unless --analyze is given. With parameters ($1) and no --params it gets its generic
    plan; with --analyze it is executed with common, typical and rare values of its columns.
    """
    from dbperf.cli.explain_text import render, render_comparison
    from dbperf.plans.compare import compare
    from dbperf.units import parse_duration_s

    given = _one_of(what, plan, file, queryid)
    values = _values(params, params_log)
    options = _Options(dsn, analyze, values, parse_duration_s(timeout), nth)
    found = _explained(given, options)
    if against is not None:
        other = _explained(_guess(against), options)
        write_result(render_comparison(compare(found.plan, other.plan), output_format), out)
        found = other
    else:
        write_result(render(found, output_format), out)
    severe = {"warning": ("warning", "critical"), "critical": ("critical",)}.get(fail_on or "", ())
    if any(f.severity in severe for f in found.findings):
        raise typer.Exit(EXIT_MISSED)


class _Options:
    def __init__(
        self, dsn: str | None, analyze: bool, values: dict[int, str | None] | None, timeout_s: float, nth: int | None
    ) -> None:
        self.dsn, self.analyze, self.values, self.timeout_s, self.nth = dsn, analyze, values, timeout_s, nth


class _Given:
    """What is to be explained: the text of a plan, of a statement, or a queryid."""

    def __init__(
        self, *, plan: str | None = None, sql: str | None = None, queryid: int | None = None, source: str = ""
    ) -> None:
        self.plan, self.sql, self.queryid, self.source = plan, sql, queryid, source


def _one_of(what: str | None, plan: str | None, file: Path | None, queryid: int | None) -> _Given:
    ways = [w for w in (what, plan, file, queryid) if w is not None]
    if len(ways) != 1:
        raise UsageError(
            "one statement or plan is needed" if not ways else "only one statement or plan can be explained",
            hint="give SQL, --file, --queryid or --plan",
        )
    if plan is not None:
        return _Given(plan=_read(plan), source=plan)
    if file is not None:
        return _Given(sql=_read(str(file)), source=str(file))
    if queryid is not None:
        return _Given(queryid=queryid)
    return _guess(what or "")


def _guess(text: str) -> _Given:
    """SQL, or a file that holds SQL or a plan."""
    from dbperf.plans.read import read_plans

    try:
        is_file = "\n" not in text and len(text) < 4096 and Path(text).is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        return _Given(sql=text)
    content = _read(text)
    try:
        read_plans(content)
    except PlanError as e:
        # Whatever looks like EXPLAIN's output was meant as such, and its error is worth telling.
        if content.lstrip()[:1] in ("[", "{", "<") or "QUERY PLAN" in content or "(cost=" in content:
            raise PlanError(f"{text}: {e.message}", hint=e.hint) from None
        return _Given(sql=content, source=text)
    return _Given(plan=content, source=text)


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as e:
        raise UsageError(f"{name} can't be read: {e.strerror}", exit_code=3) from e
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Windows' idea of a text file
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8", errors="replace")


def _explained(given: _Given, options: _Options) -> Explanation:
    import asyncio

    from dbperf.postgres.connect import connected
    from dbperf.postgres.explain_api import explain_on, explain_plan, statement_of

    if given.plan is not None:
        try:
            return explain_plan(given.plan, nth=options.nth)
        except PlanError as e:
            raise PlanError(f"{given.source}: {e.message}", hint=e.hint) from None
    dsn = _dsn(options.dsn)

    async def work() -> Explanation:
        async with connected(dsn, statement_timeout_s=max(60, options.timeout_s)) as conn:
            sql = given.sql if given.queryid is None else await statement_of(conn, given.queryid)
            return await explain_on(
                conn, sql or "", analyze=options.analyze, parameters=options.values, timeout_s=options.timeout_s
            )

    return asyncio.run(work())


def _values(params: list[str] | None, log: Path | None) -> dict[int, str | None] | None:
    from dbperf.plans.logged import logged_parameters

    found: dict[int, str | None] = {}
    if log is not None:
        logged = logged_parameters(_read(str(log)))
        if not logged:
            raise UsageError(f"{log} has no parameters", hint='PostgreSQL logs them as "parameters: $1 = ..."')
        found.update(enumerate(logged, 1))
    for text in params or []:
        name, separator, value = text.partition("=")
        if not separator and text.lower().endswith(":null"):
            name, value = text[:-5], ""
            separator = "null"
        number = name.strip().removeprefix("$")
        if not separator or not number.isdigit() or not 1 <= int(number) <= 65535:
            raise UsageError(f"{text!r} is no parameter", hint="write --params 1=42 for $1, --params 1:null for NULL")
        found[int(number)] = None if separator == "null" else value
    return found or None


def _dsn(given: str | None) -> str:
    from dbperf.postgres import embedded

    if given is not None:
        return given
    if any(os.environ.get(v) for v in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT")):
        return ""
    if running := embedded.find_running():
        typer.echo(f"no --dsn given: asking the embedded server (pid {running.pid})", err=True)
        return running.dsn()
    raise UsageError("no database was given", hint="give --dsn, or a plan with --plan")
