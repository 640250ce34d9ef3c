"""The list of runs as a page, in the report's style and under the same policy."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from dbperf.report.history import Group, History, Trend
from dbperf.report.html import asset, policy
from dbperf.report.templating import render_page
from dbperf.report.trend_charts import trend_chart


def render_index(history: History, root: Path) -> str:
    """The page with the list and the trends."""
    style, script = asset("report.css"), asset("report.js")
    return render_page(
        "index.html.j2",
        h=history,
        root=str(root),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(style, script),
        address=lambda folder: f"/runs/{quote(folder, safe='')}/report.html",
        trends=_trends,
    )


def render_error(title: str, text: str) -> str:
    """A page that says what is wrong."""
    style, script = asset("report.css"), asset("report.js")
    return render_page(
        "error.html.j2",
        title=title,
        text=text,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(style, script),
    )


def _trends(group: Group) -> list[tuple[str, list[tuple[Trend, object]]]]:
    parts = (
        ("P95 of each endpoint", group.endpoints),
        ("Mean time per call of the heaviest statements", group.statements),
    )
    return [(title, [(t, chart) for t in trends if (chart := trend_chart(t))]) for title, trends in parts if trends]
