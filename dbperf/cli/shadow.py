"""`dbperf shadow`: export what the planner knows of a database, and check that a copy plans like it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dbperf.cli.options import Format, Out, write_result

if TYPE_CHECKING:
    from dbperf.records.advice import ShadowCosts

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Schema and statistics of a database as one file, and what it is worth.",
)
EXPORT_EPILOG = """\b
Examples:
  dbperf shadow export --dsn postgresql://me@db/app -o app.shadow
  dbperf shadow export --dsn service=app --redact -o app.shadow
  dbperf advise --shadow app.shadow
"""
COSTS_EPILOG = """\b
Examples:
  dbperf shadow costs --dsn postgresql://me@db/app
  dbperf shadow costs --dsn service=app --workload queries/ --format json -o costs.json
"""

_DSN = typer.Option(
    ...,
    "--dsn",
    help="The database; a read-only role is enough.",
    envvar="DBPERF_DSN",
    show_envvar=True,
    metavar="DSN",
)
_OUT = typer.Option(..., "--out", "-o", help="The file to write.", metavar="FILE")
_WORKLOAD = typer.Option(
    None, "--workload", help=".sql files, run directory, trace.json or server log (default: pg_stat_statements)."
)


@app.command(epilog=EXPORT_EPILOG)
def export(
    dsn: str = _DSN,
    out: Path = _OUT,
    workload: Path | None = _WORKLOAD,
    redact: bool = typer.Option(False, "--redact", help="Leave out values of rows and literals of statements."),
) -> None:
    """Write schema, statistics, settings and workload to one file, for `dbperf advise --shadow FILE`."""
    from dbperf.errors import OutputError, UsageError
    from dbperf.indexes.redact import redact as redacted
    from dbperf.indexes.sessions import read_source, with_workload
    from dbperf.records.base import write_atomic
    from dbperf.units import format_bytes

    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out.absolute().parent} is no folder")
    try:
        catalog, found = asyncio.run(read_source(dsn, None, workload))
    except UsageError:
        if workload is not None:
            raise
        catalog, found = asyncio.run(_without_workload(dsn))
        typer.echo("dbperf: pg_stat_statements can't be read; the file holds no workload", err=True)
    catalog = with_workload(catalog, found)
    data = (redacted(catalog) if redact else catalog).to_json()
    write_atomic(out, data)
    for note in catalog.notes:
        typer.echo(f"  {note.object}: {note.reason}", err=True)
    typer.echo(
        f"{out}: {len(catalog.relations)} tables, {len(catalog.workload)} statements, {format_bytes(len(data))}"
        f"{', redacted' if redact else ''}"
    )


async def _without_workload(dsn: str):  # type: ignore[no-untyped-def] # (Catalog, Workload), imported when called
    from dbperf.indexes.workload import Workload
    from dbperf.postgres.connect import connected, mask_dsn
    from dbperf.postgres.shadow_catalog import read_catalog

    async with connected(dsn) as conn:
        return await read_catalog(conn, source=mask_dsn(dsn)), Workload([], [])


@app.command(epilog=COSTS_EPILOG)
def costs(
    dsn: str = _DSN,
    workload: Path | None = _WORKLOAD,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Compare the shadow's EXPLAIN costs with the target's own, statement by statement."""
    found = asyncio.run(_costs(dsn, workload))
    if output_format == "json":
        write_result(found.to_json().decode(), out)
        return
    for note in found.notes:
        typer.echo(f"  {note}", err=True)
    write_result(_table(found, markdown=output_format == "markdown"), out)


async def _costs(dsn: str, workload: Path | None) -> ShadowCosts:
    from dbperf.errors import StatementError
    from dbperf.indexes.sessions import read_source, shadow_planner
    from dbperf.postgres.connect import connected
    from dbperf.postgres.explain import explain
    from dbperf.postgres.whatif import Question
    from dbperf.records.advice import ShadowCost, ShadowCosts

    catalog, found = await read_source(dsn, None, workload)
    async with shadow_planner(catalog) as planner:
        answers = await planner.ask([Question(statement=s.text) for s in found.statements])
        notes = [f"{n.object}: {n.reason}" for n in planner.shadow.notes]
    rows = [ShadowCost(id=s.id, source_cost=None, shadow_cost=None, ratio=None, reason=s.reason) for s in found.skipped]
    async with connected(dsn) as conn:
        for s, answer in zip(found.statements, answers, strict=True):
            source, reason = None, answer.error
            try:
                source = (await explain(conn, s.text, verbose=False)).root.total_cost
            except StatementError as e:
                reason = e.message
            ratio = answer.cost / source if answer.cost is not None and source else None
            rows.append(ShadowCost(id=s.id, source_cost=source, shadow_cost=answer.cost, ratio=ratio, reason=reason))
    return ShadowCosts(statements=rows, notes=notes)


def _table(found: ShadowCosts, *, markdown: bool) -> str:
    rows = [
        (
            s.id,
            _number(s.source_cost),
            _number(s.shadow_cost),
            "–" if s.ratio is None else f"{s.ratio:.4f}",
            s.reason or "",
        )
        for s in found.statements
    ]
    table = [("statement", "source cost", "shadow cost", "ratio", ""), *rows]
    if markdown:
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table]
        lines.insert(1, "|---|---:|---:|---:|---|")
    else:
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        lines = [
            f"{r[0]:<{widths[0]}}  {r[1]:>{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]:>{widths[3]}}  {r[4]}".rstrip()
            for r in table
        ]
    return "\n".join(lines)


def _number(cost: float | None) -> str:
    return "–" if cost is None else f"{cost:.2f}"
