"""`dbperf baseline`: what is normal, who said so, and which exceptions are known."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.errors import UsageError

if TYPE_CHECKING:
    from dbperf.records.baseline import Baseline

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What is normal: kept in git, with who, when, why, old and new.",
)

Format = Literal["text", "json", "markdown"]
_FILE = Annotated[Path, typer.Option("--baseline", help="The baseline file.", metavar="FILE")]
_DEFAULT = Path("reports/performance_baseline.json")


@app.command(epilog='Example:  dbperf baseline promote reports/runs/after --reason "index on case_bank(status)"')
def promote(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    reason: Annotated[str, typer.Option(help="Why this is normal now.")],
    who: Annotated[str | None, typer.Option(help="Who decided.  [default: git's user]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also a run that was cut short.")] = False,
    baseline: _FILE = _DEFAULT,
) -> None:
    """Make a run's figures the baseline. Figures that the run did not measure stay."""
    from dbperf.regress.baseline import promote as promoted

    entry = promoted(baseline, run, reason=reason, who=who, force=force)
    for change in entry.changes:
        typer.echo(f"{change.name}: {_number(change.old)} → {_number(change.new)}")
    typer.echo(f"{baseline}: {len(entry.changes)} figures changed, by {entry.who}: {entry.reason}")


@app.command(epilog='Example:  dbperf baseline accept "GET /orders p95" --until 2030-01-31 --reason "ticket 123"')
def accept(
    *,
    metric: Annotated[
        str, typer.Argument(metavar="METRIC", help='As compare names it: "GET /orders p95"; * fits all.')
    ],
    until: Annotated[str, typer.Option(help="The last day on which it holds.", metavar="YYYY-MM-DD")],
    reason: Annotated[str, typer.Option(help="Why it is accepted.")],
    who: Annotated[str | None, typer.Option(help="Who decided.  [default: git's user]")] = None,
    baseline: _FILE = _DEFAULT,
) -> None:
    """Accept a known exception until a day: it is shown in every report and fails nothing until then."""
    from dbperf.regress.baseline import accept as accepted

    try:
        day = date.fromisoformat(until)
    except ValueError:
        raise UsageError(f"--until {until!r} is no date", hint="write it as 2030-01-31") from None
    entry = accepted(baseline, metric, until=day, reason=reason, who=who)
    typer.echo(f"{entry.metric}: accepted until {entry.until} by {entry.who}: {entry.reason}")


@app.command(epilog="Example:  dbperf baseline show --format markdown")
def show(
    *,
    baseline: _FILE = _DEFAULT,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = "text",
) -> None:
    """Show the figures, the accepted exceptions and the history."""
    from dbperf.regress.baseline import load_baseline

    found = load_baseline(baseline)
    if format_ == "json":
        typer.echo(found.to_json(), nl=False)
    else:
        typer.echo(_shown(found, markdown=format_ == "markdown"))


def _shown(baseline: Baseline, *, markdown: bool) -> str:
    from datetime import UTC, datetime

    from dbperf.regress.words import aligned, visible
    from dbperf.units import format_ms

    def table(rows: list[list[str]]) -> list[str]:
        if not markdown:
            return aligned(rows)
        head, *body = [[visible(c).replace("|", "\\|") for c in r] for r in rows]
        return [f"| {' | '.join(r)} |" for r in (head, ["---"] * len(head), *body)]

    rows = [["endpoint", "stage", "P50", "P95", "requests/s", "measured", "revision"]]
    for e in baseline.entries:
        m = e.measurement
        values = {q.q: q.value_ms for q in m.quantiles}
        rate = f"{m.requests_per_s:.4g}" if m.requests_per_s is not None else "–"
        when = f"{e.origin.measured_at:%Y-%m-%d}" if e.origin.measured_at else "–"
        rows.append(
            [
                visible(m.subject), m.stage or "–", format_ms(values.get(0.5)), format_ms(values.get(0.95)), rate, when,
                (e.origin.git_revision or "–")[:12],
            ]
        )  # fmt: skip
    lines = table(rows)
    if baseline.accepted:
        today = datetime.now(UTC).date()
        rows = [["accepted", "until", "by", "why"]]
        for x in baseline.accepted:
            until = f"{x.until}{' (expired)' if x.until < today else ''}"
            rows.append([x.metric, until, x.who, visible(x.reason)])
        lines += ["", *table(rows)]
    rows = [["when", "who", "run", "figures changed", "why"]]
    rows += [
        [f"{p.at:%Y-%m-%d %H:%M}", p.who, p.source, str(len(p.changes)), visible(p.reason)] for p in baseline.history
    ]
    return "\n".join([*lines, "", *table(rows)])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
