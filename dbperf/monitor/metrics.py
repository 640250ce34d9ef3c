"""Every metric that `dbperf serve` exports: its name, type, labels and meaning. docs/monitor.md is written from it."""

from __future__ import annotations

from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from dbperf.records.base import Record

Kind = Literal["counter", "gauge", "histogram"]


class MetricInfo(Record, frozen=True, kw_only=True):
    """A metric as Prometheus sees it; a counter's name ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _counters(labels: str, **helps: str) -> list[MetricInfo]:
    return [
        MetricInfo(name=f"dbperf_{name}_total", kind="counter", help=text, labels=tuple(labels.split()))
        for name, text in helps.items()
    ]


def _gauges(labels: str, **helps: str) -> list[MetricInfo]:
    return [
        MetricInfo(name=f"dbperf_{name}", kind="gauge", help=text, labels=tuple(labels.split()))
        for name, text in helps.items()
    ]


def _histogram(labels: str, name: str, text: str) -> list[MetricInfo]:
    return [MetricInfo(name=f"dbperf_{name}", kind="histogram", help=text, labels=tuple(labels.split()))]


_STATEMENT = "database queryid"
_TABLE = "database schema table"
_INDEX = "database schema table index"
_LEVEL = "source endpoint objective"
SECTIONS: dict[str, list[MetricInfo]] = {
    "Statements": [
        *_counters(
            _STATEMENT,
            statement_calls="Executions.",
            statement_seconds="Time spent executing.",
            statement_planning_seconds="Time spent planning; 0 unless pg_stat_statements.track_planning is on.",
            statement_rows="Rows returned or changed.",
            statement_shared_blks_hit="Blocks found in shared buffers.",
            statement_shared_blks_read="Blocks read from outside of shared buffers.",
            statement_shared_blks_written="Blocks that the statement itself had to write.",
            statement_temp_blks_read="Blocks of temporary files read.",
            statement_temp_blks_written="Blocks of temporary files written.",
            statement_wal_bytes="Write-ahead log.",
        ),
        *_gauges(
            f"{_STATEMENT} text",
            statement_info="Always 1: a statement's text, constants masked, at most 200 characters.",
        ),
    ],
    "Waits and sessions": [
        *_counters(
            "wait_type wait_event",
            active_session_seconds="Time of active sessions by what they waited for (CPU: nothing), from a sample a "
            "second; the rate is how many sessions were in it.",
        ),
        *_gauges(
            "state wait_type",
            sessions="Clients' sessions of all databases at the last look, by state and what active ones wait for.",
        ),
        *_gauges("", connections="Clients' connections.", max_connections="Connections that clients may have."),
    ],
    "Tables and indexes": [
        *_counters(
            _TABLE,
            table_seq_scans="Sequential scans.",
            table_seq_rows_read="Rows read by sequential scans.",
            table_index_scans="Index scans.",
            table_index_rows_fetched="Live rows fetched by index scans.",
            table_rows_inserted="Rows inserted.",
            table_rows_updated="Rows updated.",
            table_rows_deleted="Rows deleted.",
            table_rows_hot_updated="Rows updated without a new entry in any index (HOT).",
            table_blks_hit="Blocks of the table found in shared buffers.",
            table_blks_read="Blocks of the table read from outside of shared buffers.",
            table_vacuums="Vacuums, autovacuum's included.",
            table_analyzes="Analyzes, autovacuum's included.",
        ),
        *_gauges(
            _TABLE,
            table_size_bytes="Size of the table without indexes and TOAST, as of its last vacuum or analyze.",
            table_live_rows="Live rows, estimated.",
            table_dead_rows="Dead rows, estimated.",
        ),
        *_counters(_INDEX, index_scans="Scans of the index.", index_rows_read="Entries read by scans of the index."),
        *_gauges(_INDEX, index_size_bytes="Size of the index, as of its table's last vacuum or analyze."),
        *_gauges("database", invalid_indexes="Indexes that failed builds left in this database."),
        *_counters("", failed_relation_looks="Looks at tables and indexes that took too long."),
    ],
    "Database": _counters(
        "database",
        database_transactions_committed="Transactions committed, the exporter's own included.",
        database_transactions_rolled_back="Transactions rolled back.",
        database_blocks_hit="Blocks found in shared buffers.",
        database_blocks_read="Blocks read from outside of shared buffers.",
        database_deadlocks="Deadlocks.",
        database_temp_files="Temporary files made.",
        database_temp_bytes="Bytes written to temporary files.",
        database_active_seconds="Time that sessions were active; told at most once a second by each.",
        database_idle_in_transaction_seconds="Time that sessions sat idle in a transaction.",
    ),
    "Requests (`--traces`)": [
        *_counters(
            "endpoint",
            requests="Requests that the application answered.",
            request_errors="Requests answered with a status of 500 or more, or with an exception.",
            request_statements="Statements that requests sent.",
            request_sql_seconds="Time that requests spent in the database; statements that overlap count once.",
            request_pool_wait_seconds="Time that requests waited for a connection of the pool.",
        ),
        *_counters(
            "endpoint rule",
            request_findings="Requests in which one statement ran 5 times or more with different parameters from one "
            "line: rule n_plus_one for reads, row_by_row_write for writes.",
        ),
        *_histogram("endpoint", "request_seconds", "Time to a request's last byte, in the application."),
    ],
    "Service levels (`--traces`, `--runs`)": [
        *_counters(
            _LEVEL,
            slo_requests="Requests that the objective is about. source: app (traces) or load (a load's measured part).",
            slo_bad_requests="Those that missed it.",
        ),
        *_gauges(
            _LEVEL,
            slo_budget_ratio="Share of the requests that may miss the objective: 0.05 for a P95.",
        ),
        *_gauges(
            f"{_LEVEL} window",
            slo_burn_rate="Share of the window's requests that missed the objective, over the share that may: 1 uses "
            "up the budget exactly. Of what the exporter has seen of the window.",
        ),
    ],
    "Loads (`--runs`)": [
        *_gauges("", load_running="Whether a load is on.", load_users="Users of the load at its last second."),
        *_gauges("run stage phase", load_stage_info="Always 1: where the running load is."),
        *_gauges(
            "run stage phase",
            load_mark_timestamp_seconds="When the latest load's stages began to ramp, warm up and be measured, and "
            "ended.",
        ),
        *_counters("endpoint", load_requests="Requests that a load sent.", load_request_errors="Those that failed."),
        *_histogram("endpoint", "load_request_seconds", "Latency of a load's requests that succeeded or timed out."),
        *_gauges(
            "",
            load_generator_cpu_ratio="CPU of the busiest generator process in the load's last second (1: one core).",
            load_generator_lag_seconds="How late the generator's event loop was in the load's last second.",
        ),
        *_gauges(
            "run",
            regressions="Metrics that got worse by more than they may, in the newest comparison.json; accepted "
            "exceptions are left out.",
            comparison_timestamp_seconds="When that comparison was made.",
        ),
    ],
    "The exporter, and what weakens the figures": [
        *_gauges(
            "",
            up="Whether the last look at the database succeeded.",
            look_seconds="How long the last look took.",
            look_timestamp_seconds="When the last look succeeded.",
        ),
        *_counters("", failed_looks="Looks that failed."),
        *_counters("source", follow_errors="Times that a file of --traces or --runs could not be read."),
        *_counters(
            "",
            statements_resets="Resets of pg_stat_statements, or losses of it in a crash.",
            statements_lost="Entries that vanished, with what they did since the last look.",
            statements_evictions="Times that pg_stat_statements threw entries out. Raise pg_stat_statements.max where "
            "it grows.",
            server_restarts="Restarts of the server.",
            server_replacements="Times that another server's statistics were found: what happened since the last look "
            "is not known.",
        ),
        *_gauges(
            "",
            statements_hidden="Statements of other roles that this role may not see (pg_read_all_stats), at the last "
            "look; in other.",
            statements_entries="Entries of pg_stat_statements in use.",
            statements_max="Setting pg_stat_statements.max.",
        ),
    ],
}
METRICS = {info.name: info for section in SECTIONS.values() for info in section}


def counter(name: str) -> CounterMetricFamily:
    """An empty family; `name` without `dbperf_` and `_total`."""
    info = _info(f"dbperf_{name}_total", "counter")
    return CounterMetricFamily(info.name, f"{info.help} Since the exporter began.", labels=info.labels)


def gauge(name: str) -> GaugeMetricFamily:
    """An empty family; `name` without `dbperf_`."""
    info = _info(f"dbperf_{name}", "gauge")
    return GaugeMetricFamily(info.name, info.help, labels=info.labels)


def histogram(name: str) -> HistogramMetricFamily:
    """An empty family; `name` without `dbperf_`."""
    info = _info(f"dbperf_{name}", "histogram")
    return HistogramMetricFamily(info.name, f"{info.help} Since the exporter began.", labels=info.labels)


def one(family: CounterMetricFamily | GaugeMetricFamily, value: float) -> CounterMetricFamily | GaugeMetricFamily:
    """A family of a single sample without labels."""
    family.add_metric([], value)
    return family


def _info(name: str, kind: Kind) -> MetricInfo:
    info = METRICS[name]
    assert info.kind == kind
    return info
