"""`dbperf issue`: a GitHub issue for each family of regressions of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbperf.errors import RecordError, UsageError

if TYPE_CHECKING:
    from dbperf.records.comparison import Comparison
    from dbperf.records.rundir import RunDirectory
    from dbperf.regress.github_issues import GitHubIssues
    from dbperf.regress.issue import Evidence, Family

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

EPILOG = """\b
Read from the environment: GITHUB_TOKEN, GITHUB_REPOSITORY (owner/name), GITHUB_API_URL.

\b
Examples:
  dbperf compare reports/performance_baseline.json RUN || dbperf issue RUN
  dbperf issue RUN --dry-run
  dbperf issue RUN --close-fixed
"""
_STATEMENTS, _FRAMES = 5, 8


@app.command(epilog=EPILOG)
def issue(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run that was compared: `dbperf compare A RUN`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the issues, and ask GitHub nothing.")] = False,
    close_fixed: Annotated[
        bool, typer.Option("--close-fixed", help="Also close the issues of regressions that are gone.")
    ] = False,
    repository: Annotated[
        str | None,
        typer.Option("--repository", help="owner/name.", envvar="GITHUB_REPOSITORY", show_envvar=True, metavar="NAME"),
    ] = None,
    wait: Annotated[
        str, typer.Option("--wait", help="How long to wait at most for GitHub's rate limits.", metavar="DURATION")
    ] = "10m",
) -> None:
    """File a GitHub issue for each family of regressions, or comment on the one that is open.

    A family is a service of dbperf.toml, else an endpoint. Its issue has the figures, the commits between both sides,
    how statements, plans and flame graphs changed where the run has them, and commands that reproduce it. Nothing is
    filed twice: issues are found again by a hidden marker in their text.
    """
    from dbperf.records.comparison import Comparison
    from dbperf.records.rundir import RunDirectory
    from dbperf.regress.issue import LABELS, body, families, gone_text, run_marker

    directory = RunDirectory.open(run)
    if not directory.has(Comparison):
        raise RecordError(f"{run} was not compared with anything", hint=f"first: dbperf compare BASELINE {run}")
    comparison = directory.read(Comparison)
    made_up = next((s for s in (comparison.b, comparison.a) if s.provenance != "measured"), None)
    if made_up is not None and not dry_run:
        raise UsageError(f"{made_up.source} holds {made_up.provenance} data: nothing to file", hint="--dry-run prints")
    found = families(comparison)
    failing = [f for f in found if f.failing]
    evidence = {f.name: _evidence(directory, comparison, f, repository) for f in failing}
    if dry_run:
        _print(failing, comparison, evidence)
        return
    if not failing and not close_fixed:
        typer.echo("no regression: nothing to file")
        return
    github = _github(repository, wait)
    known = github.open_issues()
    for family in failing:
        text = body(family, comparison, evidence[family.name])
        if (there := known.get(family.fingerprint)) is None:
            made = github.file(family.fingerprint, family.title, text, [*LABELS, family.priority])
            typer.echo(f"filed #{made.number} {made.url}")
        elif github.comment(there, text, run_marker(comparison)):
            github.prioritise(there, family.priority)
            typer.echo(f"commented on #{there.number} {there.url}")
        else:
            typer.echo(f"#{there.number} has this run already {there.url}")
    for family in [f for f in found if f.gone and f.fingerprint in known] if close_fixed else []:
        there = known[family.fingerprint]
        github.comment(there, gone_text(family, comparison), run_marker(comparison))
        github.close(there)
        typer.echo(f"closed #{there.number} {there.url}")
    if not failing:
        typer.echo("no regression: nothing to file")


def _print(failing: list[Family], comparison: Comparison, evidence: dict[str, Evidence]) -> None:
    from dbperf.regress.issue import LABELS, body

    for family in failing:
        typer.echo(f"Title: {family.title}\nLabels: {', '.join([*LABELS, family.priority])}\n")
        typer.echo(body(family, comparison, evidence[family.name]))
    if not failing:
        typer.echo("no regression: nothing to file")


def _github(repository: str | None, wait: str) -> GitHubIssues:
    import os

    from dbperf.regress.github_issues import DEFAULT_API, GitHubIssues
    from dbperf.units import parse_duration_s

    token = os.environ.get("GITHUB_TOKEN", "")
    if not token:
        raise UsageError("GITHUB_TOKEN is not set", hint="--dry-run prints the issues without it")
    if not repository:
        raise UsageError("GITHUB_REPOSITORY is not set", hint="--repository owner/name")
    return GitHubIssues(
        repository, token, api_url=os.environ.get("GITHUB_API_URL") or DEFAULT_API, wait_s=parse_duration_s(wait),
        told=lambda text: typer.echo(text, err=True),
    )  # fmt: skip


def _evidence(run: RunDirectory, comparison: Comparison, family: Family, repository: str | None) -> Evidence:
    """What the run and the side that it was compared with tell besides the figures."""
    import os

    from dbperf.regress.issue import Evidence
    from dbperf.regress.series import commits_between

    commits, left_out = commits_between(comparison.a.git_revision, comparison.b.git_revision, Path())
    statements, flames = _differences(run, comparison, family)
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return Evidence(
        commits=commits, commits_left_out=left_out, statements=statements, flames=flames,
        reproduce=_reproduce(run, comparison), repository_url=f"{server}/{repository}" if repository else None,
    )  # fmt: skip


def _differences(run: RunDirectory, comparison: Comparison, family: Family) -> tuple[list[str], list[str]]:
    """Statements (of the whole load) and frames (of the family's endpoints) that take longer than they did."""
    from dbperf.records.flames import Flames
    from dbperf.records.plans import Plans
    from dbperf.records.rundir import RunDirectory
    from dbperf.records.statements import Statements
    from dbperf.regress.issue import code
    from dbperf.report.changes import against_run, changes
    from dbperf.units import format_ms

    before = Path(comparison.a.source)
    if not (before / "run.json").is_file():  # a baseline, or a run that is elsewhere: figures only
        return [], []
    found = changes(
        against_run(RunDirectory.open(before), comparison), run.maybe(Statements), run.maybe(Plans), run.maybe(Flames)
    )
    statements = []
    for s in found.statements:
        if (s.after_ms or 0) <= (s.before_ms or 0):
            continue
        line = f"{code(s.text[:200])}: {format_ms(s.before_ms)} → {format_ms(s.after_ms)} per request"
        if s.plan_before != s.plan_after and s.plan_before and s.plan_after:
            line += f"; its plan read {code(', '.join(s.plan_before))}, now {code(', '.join(s.plan_after))}"
        statements.append(line)
    subjects = {m.subject for m in family.failing}
    flames = []
    for f in found.flames:
        if f.route in subjects:
            flames += [
                f"{code(f.route)}, {code(c.name[:120])}{f' ({code(c.file)})' if c.file else ''}: "
                f"{format_ms(c.before)} → {format_ms(c.after)}"
                for c in f.changes if c.verdict == "more"
            ]  # fmt: skip
    return statements[:_STATEMENTS], flames[:_FRAMES]


def _reproduce(run: RunDirectory, comparison: Comparison) -> list[str]:
    """Both sides again, and the comparison."""
    import shlex

    from dbperf.records.rundir import RunDirectory

    def again(side_revision: str | None, command: list[str], out: str) -> list[str]:
        revision = (side_revision or "").removesuffix("-dirty")
        repeated = shlex.join(["dbperf", *command[1:]])
        return [*([f"git checkout {revision}"] if revision else []), f"{repeated}  # made {out}"]

    lines: list[str] = []
    if comparison.a.kind == "interleaved":  # one command measured both sides
        return again(comparison.b.git_revision, run.manifest.command, run.path.name)
    before = Path(comparison.a.source)
    if (before / "run.json").is_file():
        manifest = RunDirectory.open(before).manifest
        lines += again(manifest.git_revision, manifest.command, before.name)
    lines += again(run.manifest.git_revision, run.manifest.command, run.path.name)
    return [*lines, shlex.join(["dbperf", "compare", comparison.a.source, comparison.b.source])]
