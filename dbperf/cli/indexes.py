"""`dbperf indexes`: what is wrong with the indexes that exist, with evidence and SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.cli.options import Format, Out, write_result

if TYPE_CHECKING:
    from dbperf.records.index_health import IndexFinding, IndexHealth

app = typer.Typer(add_completion=False, rich_markup_mode=None)
EPILOG = """\b
Examples:
  dbperf indexes --dsn postgresql://me@db/app
  dbperf indexes --dsn postgresql://me@db/app --replica postgresql://me@standby/app
  dbperf indexes --dsn service=app --exact --format markdown -o indexes.md
"""

TITLES = {
    "invalid": "Invalid",
    "duplicate": "Duplicate",
    "redundant": "Redundant: another one begins with the same keys",
    "unused": "Unused",
    "bloated": "Bloated",
    "missing_on_foreign_key": "Missing on a foreign key",
    "low_hot_share": "Few HOT updates",
}


@app.command(epilog=EPILOG)
def indexes(
    *,
    dsn: Annotated[str, typer.Option(help="The database.", envvar="DBPERF_DSN", show_envvar=True, metavar="DSN")],
    replica: Annotated[
        list[str] | None, typer.Option(help="A standby whose use of indexes counts too; may be repeated.")
    ] = None,
    unused_days: Annotated[
        float, typer.Option(min=0, help="Days that must be counted before an unused index gets SQL.")
    ] = 7.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Measure bloat with pgstattuple, which reads the indexes whole.")
    ] = False,
    output_format: Format = "text",
    out: Out = None,
) -> None:
    """Check the indexes that exist, and look for those that foreign keys lack.

    Nothing is changed. Each finding comes with its size, the evidence, and SQL to review.
    """
    import asyncio

    found = asyncio.run(_read(dsn, replica or [], unused_days, exact))
    if output_format == "json":
        text = found.to_json().decode().rstrip("\n")
    else:
        text = "\n".join(_lines(found, markdown=output_format == "markdown"))
    write_result(text, out)


async def _read(dsn: str, replicas: list[str], unused_days: float, exact: bool) -> IndexHealth:
    from dbperf.indexes.health import Thresholds, judge_health
    from dbperf.postgres.connect import connected
    from dbperf.postgres.index_health import read_health

    # Measuring reads whole indexes, which takes its time on large ones.
    async with connected(dsn, statement_timeout_s=None if exact else 60) as conn:
        return judge_health(
            await read_health(conn, replicas=replicas, exact=exact), Thresholds(unused_days=unused_days)
        )


def _lines(found: IndexHealth, *, markdown: bool) -> list[str]:
    from dbperf.units import format_bytes

    heading = "## " if markdown else ""
    freed = sum(f.reclaimable_bytes or 0 for f in found.findings if f.up_sql)
    since = f"{found.stats_since:%Y-%m-%d %H:%M} UTC" if found.stats_since else "an unknown moment"
    if found.stats_days is not None:
        since += f" ({found.stats_days:.1f} days)"
    lines = [
        f"{heading}Indexes of {found.database}, PostgreSQL {found.server_version}",
        "",
        f"{found.indexes} indexes, {format_bytes(found.size_bytes)}; {len(found.findings)} findings"
        + (f", whose SQL frees {format_bytes(freed)}" if freed else ""),
        f"Use is counted since {since}" + (f", also on {', '.join(found.replicas)}" if found.replicas else ""),
    ]
    kind = None
    for f in found.findings:
        if f.kind != kind:
            kind = f.kind
            lines += ["", f"{'### ' if markdown else ''}{TITLES[kind]}"]
        lines += ["", *_finding(f, markdown=markdown)]
    if found.notes:
        lines += ["", *(f"{'- ' if markdown else ''}note: {n}" for n in found.notes)]
    return lines


def _finding(f: IndexFinding, *, markdown: bool) -> list[str]:
    from dbperf.units import format_bytes

    name = f"{f.schema}.{f.index}" if f.index else f"{f.schema}.{f.table}"
    where = f" on {f.table}" if f.index else ""
    if markdown:
        lines = [f"**{name}**{where}, {format_bytes(f.size_bytes)}: {f.evidence}."]
        if f.caution:
            lines += ["", f"Before: {f.caution}."]
        if f.up_sql:
            lines += ["", "```sql", *f.up_sql, *(f"-- undo: {s}" for s in f.down_sql), "```"]
        return lines
    lines = [f"  {name}{where}, {format_bytes(f.size_bytes)}", f"    {f.evidence}"]
    if f.caution:
        lines.append(f"    before: {f.caution}")
    lines += [f"    {s}" for s in f.up_sql]
    lines += [f"    undo: {s}" for s in f.down_sql]
    return lines
