"""`dbperf verify`: build the advised indexes, measure with and without each, and say which to keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.cli.options import Format, Out, write_result

if TYPE_CHECKING:
    from dbperf.indexes.verify import VerifyOptions
    from dbperf.indexes.workload import Workload
    from dbperf.records.advice import Advice
    from dbperf.records.proof import Proof, StatementProof, WriteProof

app = typer.Typer(add_completion=False, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf verify --dsn postgresql://me@staging/app --workload queries/ --apply
  dbperf verify --dsn postgresql://me@staging/app --workload queries/ --advice advice.json --apply --sql indexes/next
"""


@app.command(epilog=EPILOG)
def verify(
    *,
    dsn: Annotated[
        str,
        typer.Option(
            help="A database that may be written to and is not in use: staging, or a copy.",
            envvar="DBPERF_DSN",
            show_envvar=True,
            metavar="DSN",
        ),
    ],
    workload: Annotated[
        Path | None,
        typer.Option(help="Folder of .sql files or run directory.  [default: pg_stat_statements]", show_default=False),
    ] = None,
    advice: Annotated[
        Path | None,
        typer.Option(help="JSON of dbperf advise.  [default: ask for advice first]", show_default=False),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Yes: build indexes there, and execute statements.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the indexes with the verdict keep in place.")] = False,
    sql: Annotated[
        Path | None,
        typer.Option("--sql", help="Write up.sql, down.sql, an Alembic revision and review.md here.", metavar="FOLDER"),
    ] = None,
    per_statement: Annotated[
        str, typer.Option(help="About how long to measure a statement for an index.", metavar="DURATION")
    ] = "4s",
    timeout: Annotated[str, typer.Option(help="Of one execution.", metavar="DURATION")] = "30s",
    not_production: Annotated[
        bool, typer.Option("--i-know-this-is-not-production", help="Also on a host that is neither local nor known.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Instead of ./dbperf.toml.", show_default=False)] = None,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Prove index advice: each index is built, and each statement it affects is measured with and without it.

    The database is left as it was, unless --keep is given. Statements that write are rolled back.
    """
    from dbperf.errors import UsageError
    from dbperf.indexes.verify import VerifyOptions
    from dbperf.units import parse_duration_s

    if not apply:
        raise UsageError(
            "verifying builds indexes and executes statements on the database",
            hint="add --apply if that is fine there; dbperf advise only asks the planner",
        )
    _check_safety(dsn, config, not_production=not_production)
    if sql is not None and sql.exists() and any(sql.iterdir()):
        raise UsageError(f"{sql} exists and is kept", hint="choose another folder with --sql")
    options = VerifyOptions(keep=keep, statement_s=parse_duration_s(per_statement), timeout_s=parse_duration_s(timeout))
    proof = _run(dsn, workload, advice, options, sql)
    if output_format == "json":
        text = proof.to_json().decode().rstrip("\n")
    else:
        text = "\n".join(_lines(proof, markdown=output_format == "markdown"))
    write_result(text, out)


def _check_safety(dsn: str, config: Path | None, *, not_production: bool) -> None:
    from dbperf.config import load_config
    from dbperf.lab.safety import check_target
    from dbperf.postgres.connect import mask_dsn
    from dbperf.postgres.dsn import resolve

    safety = load_config(config).safety
    for host in resolve(dsn).hosts or (None,):
        check_target(mask_dsn(dsn), host, safety, not_production=not_production)


def _run(dsn: str, workload: Path | None, advice: Path | None, options: VerifyOptions, out: Path | None) -> Proof:
    import asyncio
    import signal

    from dbperf.errors import Interrupted

    async def interruptible() -> Proof:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        return await _verify(dsn, workload, advice, options, out)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise Interrupted("interrupted; what was built is dropped again") from None


async def _verify(
    dsn: str, workload: Path | None, advice_file: Path | None, options: VerifyOptions, out: Path | None
) -> Proof:
    from dbperf.indexes.verify import verify as run
    from dbperf.records.advice import Advice
    from dbperf.records.base import read_document

    found: Workload
    if advice_file is not None:
        advice = read_document(Advice, advice_file)
        found = await _workload(dsn, workload)
    else:
        found, advice = await _advised(dsn, workload)
    proof = await run(dsn, found, advice, options=options, on_event=lambda e: typer.echo(f"  {e}", err=True))
    if out is not None:
        await _write(dsn, advice, proof, out)
    return proof


async def _workload(dsn: str, workload: Path | None) -> Workload:
    from dbperf.indexes.workload import workload_of_server
    from dbperf.indexes.workload_files import read_workload
    from dbperf.postgres.connect import connected

    if workload is not None:
        return read_workload(workload)
    async with connected(dsn) as conn:
        return await workload_of_server(conn)


async def _advised(dsn: str, workload: Path | None) -> tuple[Workload, Advice]:
    from dbperf.indexes.advise import advise
    from dbperf.indexes.sessions import read_source, shadow_planner

    typer.echo("  asking for advice", err=True)
    catalog, found = await read_source(dsn, None, workload)
    async with shadow_planner(catalog) as planner:
        return found, await advise(catalog, found, planner)


async def _write(dsn: str, advice: Advice, proof: Proof, out: Path) -> None:
    from dbperf.indexes.migration_files import write_proved

    notes = await write_proved(dsn, advice, proof, out)
    for note in notes:
        typer.echo(f"  note: {note}", err=True)
    typer.echo(f"  written: {out}/up.sql, down.sql, review.md and an Alembic revision", err=True)


def _lines(proof: Proof, *, markdown: bool) -> list[str]:
    from dbperf.indexes.verify import WORDS
    from dbperf.units import format_bytes, format_count, format_seconds

    kept = sum(i.verdict == "keep" for i in proof.indexes)
    title = f"{len(proof.indexes)} indexes tried, {kept} to keep" + (" (in place)" if proof.kept and kept else "")
    lines = [f"## {title}" if markdown else title]
    for i in proof.indexes:
        name = f"{i.schema}.{i.name}"
        head = f"{WORDS[i.verdict]}: {name} on {i.table}"
        lines += ["", f"### {head}" if markdown else head]
        indent = "" if markdown else "  "
        lines.append(f"{indent}{i.reason}")
        if i.size_bytes is not None and i.build_s is not None:
            size = f"{format_bytes(i.size_bytes)} (estimated {format_bytes(i.estimated_bytes)})"
            cost = "" if i.write_cost_ratio is None else f"; writes take {i.write_cost_ratio:.2f} times as long"
            lines += [""] if markdown else []
            lines.append(f"{indent}{size}, built in {format_seconds(i.build_s)}{cost}")
        rows = [
            _row(s.id, s, f"{format_count(s.buffers_before)} → {format_count(s.buffers_after)}") for s in i.statements
        ]
        rows += [_row(f"{w.id} (writes)", w, "–") for w in i.writes]
        if rows:
            lines += _table(
                [("statement", "calls", "without", "with", "ratio", "blocks", ""), *rows], markdown=markdown
            )
    lines += [f"{'- ' if markdown else ''}note: {n}" for n in proof.notes]
    return lines


def _row(name: str, s: StatementProof | WriteProof, blocks: str) -> tuple[str, ...]:
    from dbperf.units import format_count, format_ms, format_ratio

    ratio = "–"
    if s.ratio is not None and s.ratio_low is not None:
        ratio = f"{format_ratio(s.ratio)} ({format_ratio(s.ratio_low)}–{format_ratio(s.ratio_high)})"
    said = s.error or s.verdict.replace("_", " ")
    return name, format_count(s.calls), format_ms(s.before_ms), format_ms(s.after_ms), ratio, blocks, said


def _table(rows: list[tuple[str, ...]], *, markdown: bool) -> list[str]:
    if markdown:
        lines = [f"| {' | '.join(c.replace('|', chr(92) + '|') for c in r)} |" for r in rows]
        return ["", lines[0], "|---|---:|---:|---:|---:|---:|---|", *lines[1:]]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    last = len(widths) - 1
    lines = []
    for r in rows:
        cells = [f"{c:<{w}}" if i in (0, last) else f"{c:>{w}}" for i, (c, w) in enumerate(zip(r, widths, strict=True))]
        lines.append(("    " + "  ".join(cells)).rstrip())
    return lines
