"""Writes a run's report beside its records."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from dbperf.errors import OutputError
from dbperf.records.base import Record, write_atomic
from dbperf.records.rundir import RunDirectory
from dbperf.report.build import build_report
from dbperf.report.changes import Against
from dbperf.report.html import render_html
from dbperf.report.markdown import render_markdown


class ReportFiles(Record, frozen=True, kw_only=True):
    """Where the outputs are."""

    html: Path
    markdown: Path
    json: Path


LATEST = "summary_latest.md"
"""Beside the run directories: the summary of the run that ended last."""
SHARE = "share"
"""The folder of a run for what is handed to others."""


def write_report(
    run: RunDirectory, *, redact: bool = False, share: bool = False, against: Against | None = None
) -> ReportFiles:
    """Writes `report.html`, `summary.md` and `report.json` into the run directory. The same run gives the same bytes.

    `redact` takes out literals, parameters, messages and names of places; `share` writes into the folder `share/` of
    the run instead, so that the full report and the one for others stand side by side. `against`: see `build_report`.

    Raises:
        OutputError: the folder can't be written.
    """
    report = build_report(run, redact=redact, against=against)
    folder = run.path / SHARE if share else run.path
    try:
        folder.mkdir(exist_ok=True)
    except OSError as e:
        raise OutputError(f"{folder} can't be written: {e.strerror}") from e
    files = ReportFiles(html=folder / "report.html", markdown=folder / "summary.md", json=folder / report.file_name)
    write_atomic(files.json, report.to_json())
    write_atomic(files.markdown, render_markdown(report).encode())
    write_atomic(files.html, render_html(report).encode())
    return files


def keep_latest(run: RunDirectory, files: ReportFiles) -> Path:
    """Copies the run's summary to `summary_latest.md` beside the run directory, with a link to the run; returns it.

    Raises:
        OutputError: the folder can't be written.
    """
    name = run.path.name
    latest = run.path.parent / LATEST
    head = f"<!-- the run that ended last -->\n[`{name}`]({quote(name)}/{files.html.name})\n\n"
    write_atomic(latest, head.encode() + files.markdown.read_bytes())
    return latest
