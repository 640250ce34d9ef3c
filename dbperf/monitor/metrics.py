"""What Prometheus reads: families of metrics from the statement counters and the exporter's own state."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from dbperf.monitor.statements import FIGURES, OTHER, StatementCounters

_HELP = {
    "calls": "Executions.",
    "seconds": "Time spent executing.",
    "planning_seconds": "Time spent planning; 0 unless pg_stat_statements.track_planning is on.",
    "rows": "Rows returned or changed.",
    "shared_blks_hit": "Blocks found in shared buffers.",
    "shared_blks_read": "Blocks read from outside of shared buffers.",
    "shared_blks_written": "Blocks that the statement itself had to write.",
    "temp_blks_read": "Blocks of temporary files read.",
    "temp_blks_written": "Blocks of temporary files written.",
    "wal_bytes": "Write-ahead log.",
}


def statement_families(counters: StatementCounters, database: str) -> Iterator[Metric]:
    """Counters since the exporter began, per member and for all other statements; and what weakens them."""
    for figure in FIGURES:
        family = CounterMetricFamily(
            f"dbperf_statement_{figure}", _HELP[figure] + " Since the exporter began.", labels=["database", "queryid"]
        )
        for queryid, figures in counters.members.items():
            family.add_metric([database, str(queryid)], figures[figure])
        family.add_metric([database, OTHER], counters.other[figure])
        yield family
    info = GaugeMetricFamily(
        "dbperf_statement_info", "Always 1: the text of a statement.", labels=["database", "queryid", "text"]
    )
    for queryid in counters.members:
        info.add_metric([database, str(queryid), counters.labels.get(queryid, "")], 1)
    yield info
    yield from _quality(counters)


def _quality(counters: StatementCounters) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "dbperf_statements_resets",
        "Resets of pg_stat_statements, or losses of it in a crash.",
        value=counters.resets,
    )
    yield CounterMetricFamily("dbperf_server_restarts", "Restarts of the server.", value=counters.restarts)
    yield CounterMetricFamily(
        "dbperf_server_replacements",
        "Times that another server's statistics were found: what happened since the last look is not known.",
        value=counters.replaced,
    )
    yield CounterMetricFamily(
        "dbperf_statements_lost", "Entries that vanished, with what they did since the last look.", value=counters.lost
    )
    if counters.evictions is not None:
        yield CounterMetricFamily(
            "dbperf_statements_evictions",
            "Times that pg_stat_statements threw entries out. Raise pg_stat_statements.max where it grows.",
            value=counters.evictions,
        )
    yield GaugeMetricFamily(
        "dbperf_statements_hidden",
        "Statements of other roles that this role may not see (pg_read_all_stats), at the last look; in other.",
        value=counters.hidden,
    )
    if counters.last is not None:
        yield GaugeMetricFamily(
            "dbperf_statements_entries", "Entries of pg_stat_statements in use.", value=counters.last.entries_in_use
        )
        if limit := counters.last.settings.get("pg_stat_statements.max"):
            yield GaugeMetricFamily("dbperf_statements_max", "Setting pg_stat_statements.max.", value=float(limit))
