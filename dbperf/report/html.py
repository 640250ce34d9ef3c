"""The HTML report: one file, no request leaves it, nothing in it runs but our own script.

Content-Security-Policy allows exactly one style sheet and one script, by their hashes. Jinja escapes every value;
the only markup passed through is what this module and `charts` make.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from functools import cache
from importlib.resources import files

from markupsafe import Markup

from dbperf.flame import drawing
from dbperf.flame.difference import difference_figures
from dbperf.flame.ops import without_lines
from dbperf.report import charts, proof_view, ranges
from dbperf.report.heat_chart import heat_chart
from dbperf.report.links import Links
from dbperf.report.model import EndpointReport, Report, StatementReport
from dbperf.report.resources import resource_charts
from dbperf.report.templating import TABLE_SQL, environment, render_page

MAX_DETAILS = 50
"""Statements with a block of their own (text, figures, plan); the others stand in the table."""
MAX_CHARTS = 60
"""Endpoints (of a stage) with pictures: each costs 20 kB and 60 ms."""


@cache
def prepare() -> None:
    """Compiles the templates and starts the charts' engine: half of what a first report costs (0.6 s of CPU), so
    that whoever is about to be in a hurry has it behind them."""
    for name in environment().list_templates():
        environment().get_template(name)
    _ = charts.render(charts.spec([{"data": {"values": []}, "mark": "line", "encoding": {}}])).svg


def render_html(report: Report) -> str:
    """The whole file. Depends on the report only."""
    style, script = asset("report.css"), asset("report.js")
    # Figures are drawn when the page is there: their script stands at its end.
    flame_script = drawing.script() if report.flames else ""
    style += drawing.style() if report.flames else ""
    return render_page(
        "report.html.j2",
        r=report,
        flame_figures=_flame_figures(report),
        flame_differences=_flame_differences(report),
        flame_changes={d.route: d for d in report.changes.flames} if report.changes else {},
        flame_script=Markup(flame_script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(style, script, *([flame_script] if flame_script else [])),
        pictures=_pictures(report.endpoints),
        resource_pictures=resource_charts(report.resources) if report.resources else [],
        scale=ranges.scale(report.endpoints),
        details=details(report),
        linked_ranks={s.rank for s in details(report)},
        links=Links(report),
        index_anchors=proof_view.anchors(report),
        several_stages=len({e.stage for e in report.endpoints}) > 1,
        command=shlex.join(report.command),
    )


def _flame_figures(report: Report) -> list[Markup]:
    """The figures of the profiled endpoints, in their order; the drawing room escapes what it puts into them."""
    endpoints = report.flames.endpoints if report.flames else []
    return [
        Markup(drawing.figure(e.stacks, figure_id=f"f{n}", title=e.route))  # noqa: S704 - escaped there
        for n, e in enumerate(endpoints, 1)
    ]


def _flame_differences(report: Report) -> dict[str, list[tuple[str, Markup]]]:
    """By route: headings and figures of what changed."""
    drawn: dict[str, list[tuple[str, Markup]]] = {}
    after = {e.route: e.stacks for e in report.flames.endpoints} if report.flames else {}
    for n, d in enumerate(report.changes.flames if report.changes else [], 1):
        figures = difference_figures(
            without_lines(d.before), without_lines(after[d.route]), absolute=True, prefix=f"d{n}"
        )
        drawn[d.route] = [(heading, Markup(figure)) for heading, figure in figures]  # noqa: S704 - escaped there
    return drawn


def policy(style: str, *scripts: str) -> str:
    """The Content-Security-Policy: our style and our scripts by hash, and nothing else from anywhere."""
    return (
        f"default-src 'none'; script-src {' '.join(map(csp_hash, scripts))}; style-src {csp_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def csp_hash(text: str) -> str:
    """A source expression as in CSP Level 3, 2.3.1: the base64 of the SHA-256 of the element's text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def details(report: Report) -> list[StatementReport]:
    """The statements that have more to say than fits the table: a plan, a finding, a longer text. Heaviest first."""
    found = report.statements.statements if report.statements else []
    told = [s for s in found if s.plan or s.plan_error or s.findings]
    cut = [s for s in found if len(" ".join(s.text.split())) > TABLE_SQL]
    chosen = {s.rank for s in [*told, *cut][:MAX_DETAILS]}
    return [s for s in found if s.rank in chosen]


@cache
def asset(name: str) -> str:
    """A file of `assets/`, without comments and indentation (it is hashed as it stands in the page)."""
    text = (files("dbperf.report") / "assets" / name).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not (line.startswith(("//", "/*")) and _whole_comment(line)))


def _whole_comment(line: str) -> bool:
    return line.startswith("//") or line.endswith("*/")


def _pictures(endpoints: list[EndpointReport]) -> dict[str, dict[str, charts.Chart | None]]:
    drawn = {}
    for e in endpoints[:MAX_CHARTS]:
        drawn[e.anchor] = {
            "distribution": charts.distribution_chart(e),
            "timeline": charts.timeline_chart(e),
            "heat": heat_chart(e),
        }
    return drawn
