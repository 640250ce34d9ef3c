"""The commands, each with its module and the line that `dbperf --help` shows. Modules are imported when called."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    module: str
    """Has `app`, a typer.Typer with one command or a group."""
    help: str


COMMANDS: dict[str, Entry] = {
    "run": Entry("dbperf.cli.run", "Seed, load and profile: from nothing to a report."),
    "init": Entry("dbperf.cli.init", "Write dbperf.toml, a load suite and a workflow for your project."),
    "profile": Entry("dbperf.cli.profile", "Where a database spends its time: statements, waits, blocking sessions."),
    "explain": Entry("dbperf.cli.explain", "Where a plan spends its time, what is wrong in it, and what to do."),
    "load": Entry("dbperf.cli.load", "Put a load suite on an API and judge it by gates."),
    "doctor": Entry("dbperf.cli.doctor", "What a database offers dbperf, what is missing, and how to fix it."),
    "up": Entry("dbperf.cli.up", "Start the embedded PostgreSQL."),
    "down": Entry("dbperf.cli.down", "Stop the embedded PostgreSQL."),
    "status": Entry("dbperf.cli.status", "Whether the embedded PostgreSQL runs."),
    "target": Entry("dbperf.cli.target", "Start and stop the reference target, the Phase 3 API."),
    "flame": Entry("dbperf.cli.flame", "Flame graphs of a process, a command, a function or an endpoint; differences."),
    "trace": Entry("dbperf.cli.trace", "Which statements each endpoint runs: N+1, commits, waits."),
    "bench": Entry("dbperf.cli.bench", "Benchmark tests with percentiles and intervals, into a run directory."),
    "compare": Entry("dbperf.cli.compare", "What changed between two runs, a baseline, or files of other tools."),
    "baseline": Entry("dbperf.cli.baseline", "What is normal: promote a run, accept an exception, show the history."),
    "history": Entry("dbperf.cli.history", "Figures over many runs: trends, and steps with their commits."),
    "issue": Entry("dbperf.cli.issue", "File a GitHub issue for each regression of a run, or close it."),
    "report": Entry("dbperf.cli.report", "Write the report of a run again."),
    "view": Entry("dbperf.cli.view", "Show the runs of a folder in the browser, with trends."),
    "serve": Entry("dbperf.cli.serve", "Export statement statistics to Prometheus."),
    "indexes": Entry(
        "dbperf.cli.indexes", "The health of existing indexes: unused, duplicate, invalid, bloated, missing."
    ),
    "advise": Entry("dbperf.cli.advise", "The best set of indexes for a whole workload."),
    "verify": Entry("dbperf.cli.verify", "Prove index advice by measurement, with and without each index in turns."),
    "apply": Entry("dbperf.cli.apply", "Run index SQL safely: lock tries, clean-up, progress, validation."),
    "shadow": Entry("dbperf.cli.shadow", "Export what the planner knows, and compare its costs."),
}
