"""HTML, Markdown and JSON from a run directory. Pure rendering: reads records, talks to nothing.

`build` turns a run's documents into one `model.Report` (every figure that any output shows), and `html`, `markdown`
and `Report.to_json` write it down. `write_report` does all three. May import stats, plans, records, units, errors.
"""

from dbperf.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "write_report"]
