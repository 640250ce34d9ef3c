"""`dbperf compare`: what changed from A to B, and whether it is a regression."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dbperf.cli.options import terminal_width
from dbperf.errors import EXIT_MISSED, OutputError, UsageError

if TYPE_CHECKING:
    from dbperf.records.comparison import Comparison, Tolerance

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Format = Literal["text", "json", "markdown", "junit"]
FailOn = Literal["worse", "cant-tell"]
EPILOG = """\b
Examples:
  dbperf compare reports/runs/before reports/runs/after
  dbperf compare reports/performance_baseline.json reports/runs/after --threshold p95=15%
  dbperf compare old_stats.csv new_stats.csv         Locust's summaries: weak evidence, wide tolerances
  dbperf compare A B --format junit -o compare.xml
  dbperf compare A B --threshold errors='max 1%' --ignore machine
"""


@app.command(epilog=EPILOG)
def compare(
    *,
    a: Annotated[Path, typer.Argument(metavar="A", help="Before: a run directory, a baseline, or a file.")],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="After: a run directory, JSON of pytest-benchmark, Locust or k6, a Locust *_stats.csv."
        ),
    ],
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="How much worse a metric may get, for all endpoints; may be repeated: p95=10%, errors='+0.5 points', "
            "requests_per_s=-30%, p99='max 2s'. Metrics named here gate.",
            metavar="METRIC=TOLERANCE",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="A condition that may differ (users, duration, machine, ...); said in the result."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="What makes the exit code 1; cant-tell: also what can't be told.")
    ] = "worse",
    run_to_run: Annotated[
        str | None,
        typer.Option(
            "--run-to-run", help="How much two runs of the same code differ beyond their samples.  [default: 2%]"
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show metrics that neither gate nor changed.")] = False,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep comparison.json and regression-analysis.md in run B.")
    ] = True,
    github: Annotated[
        bool | None,
        typer.Option(
            "--github/--no-github",
            help="Write annotations to stderr and append to $GITHUB_STEP_SUMMARY.  [default: in GitHub Actions]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration with [services].  [default: dbperf.toml, then pyproject.toml]")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write it instead of stdout.", metavar="FILE")
    ] = None,
) -> None:
    """Compare two sides: exit code 1 when a metric got worse by more than its tolerance allows.

    Figures with samples are judged by intervals, summaries by fixed thresholds. Figures measured under other
    conditions (users, duration, data, machine, provenance) are never compared.
    """
    from dbperf.config import load_config
    from dbperf.regress.compare import compare as compared
    from dbperf.regress.judge import RUN_TO_RUN_SHARE, Rules
    from dbperf.regress.sources import read_side

    overrides = dict(override(t) for t in threshold or [])
    rules = Rules(
        services=load_config(config).services, overrides=overrides,
        run_to_run=_share(run_to_run) if run_to_run else RUN_TO_RUN_SHARE,
    )  # fmt: skip
    result = compared(read_side(a), read_side(b), rules, ignore=ignore or [])
    finish(result, format_, output, everything=everything, github=github, keep_in=b if save else None)
    if result.verdict == "fail" or (fail_on == "cant-tell" and result.verdict != "pass"):
        raise typer.Exit(EXIT_MISSED)


def finish(
    result: Comparison, format_: Format, output: Path | None, *, everything: bool, github: bool | None,
    keep_in: Path | None,
) -> None:  # fmt: skip
    """Prints or writes a comparison; keeps it in a run directory; tells GitHub."""
    import os

    from dbperf.records.base import write_atomic
    from dbperf.records.rundir import RunDirectory
    from dbperf.regress.github import workflow_commands
    from dbperf.regress.junit import render_junit
    from dbperf.regress.render import FILE_NAME, render_markdown, render_text

    if keep_in is not None and (keep_in / "run.json").is_file():
        run = RunDirectory.open(keep_in)
        run.write(result)
        write_atomic(keep_in / FILE_NAME, render_markdown(result).encode())
    match format_:
        case "text":
            width = terminal_width() if output is None else None
            text = render_text(result, everything=everything, width=width)
        case "markdown":
            text = render_markdown(result)
        case "junit":
            text = render_junit(result)
        case "json":
            text = result.to_json().decode()
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(output, text.encode())
        typer.echo(output)
    if github if github is not None else os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(result):
            typer.echo(line, err=True)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with Path(summary).open("a", encoding="utf-8") as f:
                    f.write(render_markdown(result))
            except OSError as e:
                raise OutputError(f"$GITHUB_STEP_SUMMARY, {summary}, can't be written: {e.strerror}") from e


def override(text: str) -> tuple[str, Tolerance]:
    from dbperf.config import tolerance

    metric, equals, value = text.partition("=")
    if not equals or not metric.strip():
        raise UsageError(f"--threshold {text!r} is not METRIC=TOLERANCE", hint="--threshold p95=10%")
    return metric.strip(), tolerance(value.strip(), f"--threshold {metric.strip()}")


def _share(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(f"--run-to-run {text!r} is not a share", hint="write it as 2% or 0.02")
    return value
