"""The Grafana dashboards, written to `monitor/grafana/*.json` by `make dashboards`.

Every query reads what `dbperf serve` exports; a test asks the real Prometheus each of them. All dashboards mark the
stages of loads: an annotation is made of each sample of dbperf_load_mark_timestamp_seconds, at the time that it says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitor.panels import AT, RATE, WIDE, board, heat, lines, mean, number, quantile, rows, top, variable, with_panels

FOLDER = Path(__file__).parent / "grafana"
BURN = ((1.0, "yellow"), (6.0, "orange"), (14.4, "red"))
CHOSEN = f'{AT}, endpoint=~"$endpoint"'
LEVEL = f'{AT}, source=~"$source"'


def service_levels() -> dashboard.Dashboard:
    """What the API owes its users, and how it keeps it."""
    page = board("API service levels", "dbperf-service-levels", "Service levels, latency and N+1 of each endpoint")
    page = page.with_variable(variable("endpoint", "label_values(dbperf_request_seconds_count, endpoint)"))
    page = page.with_variable(variable("source", "label_values(dbperf_slo_requests_total, source)"))
    share = (
        f"sum(rate(dbperf_request_errors_total{{{CHOSEN}}}{RATE})) / sum(rate(dbperf_requests_total{{{CHOSEN}}}{RATE}))"
    )
    labels = "source, endpoint, objective"
    missed = (
        f"sum by ({labels}) (increase(dbperf_slo_bad_requests_total{{{LEVEL}}}[$__range]))"
        f" / sum by ({labels}) (increase(dbperf_slo_requests_total{{{LEVEL}}}[$__range]))"
    )
    budget = f"max by ({labels}) (dbperf_slo_budget_ratio{{{LEVEL}}})"
    return with_panels(
        page,
        number("Requests", f"sum(rate(dbperf_requests_total{{{CHOSEN}}}{RATE}))", unit="reqps"),
        number("Errors", share, unit="percentunit", limits=((0.001, "orange"), (0.01, "red"))),
        number("P95", quantile(0.95, "dbperf_request_seconds", CHOSEN), unit="s"),
        number(
            "Highest burn rate, 1 h",
            f'max(dbperf_slo_burn_rate{{{LEVEL}, window="1h"}})',
            limits=BURN,
            text="1 uses up the error budget exactly. See the alerts ServiceLevelBurns*.",
        ),
        rows(
            "Error budgets in this time range",
            [
                (missed, "missed", "percentunit"),
                (budget, "may miss", "percentunit"),
                (f"1 - ({missed}) / {budget}", "budget left", "percentunit"),
            ],
        ),
        lines(
            "Burn rate, 1 h",
            (f'dbperf_slo_burn_rate{{{LEVEL}, window="1h"}}', "{{source}} {{endpoint}} {{objective}}"),
            limits=BURN,
        ),
        lines(
            "Burn rate, 5 min",
            (f'dbperf_slo_burn_rate{{{LEVEL}, window="5m"}}', "{{source}} {{endpoint}} {{objective}}"),
            limits=BURN,
        ),
        lines(
            "P95 by endpoint", (quantile(0.95, "dbperf_request_seconds", CHOSEN, "endpoint"), "{{endpoint}}"), unit="s"
        ),
        heat("Latency", "dbperf_request_seconds", CHOSEN),
        lines(
            "Percentiles",
            *((quantile(q, "dbperf_request_seconds", CHOSEN), f"P{100 * q:g}") for q in (0.5, 0.95, 0.99)),
            unit="s",
        ),
        lines(
            "Requests by endpoint",
            (f"sum by (endpoint) (rate(dbperf_requests_total{{{CHOSEN}}}{RATE}))", "{{endpoint}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Statements per request",
            (mean("dbperf_request_statements_total", "dbperf_requests_total", CHOSEN, "endpoint"), "{{endpoint}}"),
        ),
        lines(
            "Requests that loop over statements (N+1, row-by-row writes)",
            (
                f"sum by (endpoint, rule) (rate(dbperf_request_findings_total{{{CHOSEN}}}{RATE}))",
                "{{endpoint}} {{rule}}",
            ),
            unit="reqps",
        ),
        lines(
            "Where a request's time goes",
            (mean("dbperf_request_sql_seconds_total", "dbperf_requests_total", CHOSEN, "instance"), "database"),
            (mean("dbperf_request_pool_wait_seconds_total", "dbperf_requests_total", CHOSEN, "instance"), "pool"),
            (mean("dbperf_request_seconds_sum", "dbperf_request_seconds_count", CHOSEN, "instance"), "whole request"),
            unit="s",
        ),
        lines(
            "Errors by endpoint",
            (f"sum by (endpoint) (rate(dbperf_request_errors_total{{{CHOSEN}}}{RATE}))", "{{endpoint}}"),
            unit="reqps",
        ),
    )


def statements() -> dashboard.Dashboard:
    """What the database spends its time on."""
    page = board("Statements", "dbperf-statements", "Statements by time, calls, blocks and rows; data quality")

    def rate(figure: str) -> str:
        return f"sum by (queryid) (rate(dbperf_statement_{figure}_total{{{AT}}}{RATE}))"

    def done(figure: str) -> str:
        return f"sum by (queryid) (increase(dbperf_statement_{figure}_total{{{AT}}}[$__range]))"

    text = f"max by (queryid, text) (dbperf_statement_info{{{AT}}})"
    return with_panels(
        page,
        number(
            "Time in statements",
            f"sum(rate(dbperf_statement_seconds_total{{{AT}}}{RATE}))",
            unit="s",
            text="Seconds of execution per second: statements under way on average.",
        ),
        number("Calls", f"sum(rate(dbperf_statement_calls_total{{{AT}}}{RATE}))", unit="ops"),
        number(
            "Mean",
            f"sum(rate(dbperf_statement_seconds_total{{{AT}}}{RATE}))"
            f" / sum(rate(dbperf_statement_calls_total{{{AT}}}{RATE}))",
            unit="s",
        ),
        number(
            "Share of other",
            f'sum(rate(dbperf_statement_seconds_total{{{AT}, queryid="other"}}{RATE}))'
            f" / sum(rate(dbperf_statement_seconds_total{{{AT}}}{RATE}))",
            unit="percentunit",
            text="Of the time; dbperf serve --top gives more statements series of their own.",
        ),
        rows(
            "Statements in this time range",
            [
                (top(f"{done('seconds')} * on (queryid) group_left (text) {text}", 20), "time", "s"),
                (f"{done('calls')} * on (queryid) group_left (text) {text}", "calls", "short"),
                (f"{done('rows')} * on (queryid) group_left (text) {text}", "rows", "short"),
                (f"{done('shared_blks_read')} * on (queryid) group_left (text) {text}", "blocks read", "short"),
            ],
        ),
        lines("Time by statement", (rate("seconds"), "{{queryid}}"), unit="s", stacked=True),
        lines("Calls by statement", (rate("calls"), "{{queryid}}"), unit="ops", stacked=True),
        lines("Mean time of a call", (f"{rate('seconds')} / {rate('calls')}", "{{queryid}}"), unit="s"),
        lines("Rows of a call", (f"{rate('rows')} / {rate('calls')}", "{{queryid}}")),
        lines(
            "Blocks of a call",
            (f"({rate('shared_blks_hit')} + {rate('shared_blks_read')}) / {rate('calls')}", "{{queryid}}"),
        ),
        lines("Blocks read from outside of shared buffers", (rate("shared_blks_read"), "{{queryid}}"), stacked=True),
        lines("Blocks of temporary files", (rate("temp_blks_written"), "{{queryid}}"), stacked=True),
        lines("Write-ahead log", (rate("wal_bytes"), "{{queryid}}"), unit="Bps", stacked=True),
        lines(
            "What weakens these figures",
            (f"increase(dbperf_statements_resets_total{{{AT}}}{RATE})", "resets"),
            (f"increase(dbperf_statements_evictions_total{{{AT}}}{RATE})", "evictions"),
            (f"increase(dbperf_statements_lost_total{{{AT}}}{RATE})", "entries lost"),
            (f"increase(dbperf_server_restarts_total{{{AT}}}{RATE})", "restarts of the server"),
            (f"increase(dbperf_failed_looks_total{{{AT}}}{RATE})", "looks that failed"),
            text="A reset, an eviction or a crash costs what happened since the last look.",
        ),
        lines(
            "Entries of pg_stat_statements",
            (f"dbperf_statements_entries{{{AT}}}", "in use"),
            (f"dbperf_statements_max{{{AT}}}", "pg_stat_statements.max"),
        ),
    )


def waits() -> dashboard.Dashboard:
    """What sessions wait for, and what tables and indexes go through."""
    page = board("Waits", "dbperf-waits", "Active sessions by wait event, connections, tables and indexes")
    table_ = "schema, table"
    return with_panels(
        page,
        lines(
            "Active sessions by wait event",
            (
                f"sum by (wait_type, wait_event) (rate(dbperf_active_session_seconds_total{{{AT}}}{RATE}))",
                "{{wait_type}} {{wait_event}}",
            ),
            width=WIDE,
            stacked=True,
            text="From a sample a second. CPU: waits for nothing.",
        ),
        lines("Sessions by state", (f"sum by (state) (dbperf_sessions{{{AT}}})", "{{state}}"), stacked=True),
        lines("Connections", (f"dbperf_connections{{{AT}}}", "in use"), (f"dbperf_max_connections{{{AT}}}", "limit")),
        lines(
            "Transactions",
            (f"rate(dbperf_database_transactions_committed_total{{{AT}}}{RATE})", "committed"),
            (f"rate(dbperf_database_transactions_rolled_back_total{{{AT}}}{RATE})", "rolled back"),
            unit="ops",
        ),
        lines(
            "Deadlocks, and sessions idle in a transaction",
            (f"increase(dbperf_database_deadlocks_total{{{AT}}}{RATE})", "deadlocks"),
            (f"rate(dbperf_database_idle_in_transaction_seconds_total{{{AT}}}{RATE})", "idle in a transaction"),
        ),
        lines(
            "Blocks",
            (f"rate(dbperf_database_blocks_hit_total{{{AT}}}{RATE})", "in shared buffers"),
            (f"rate(dbperf_database_blocks_read_total{{{AT}}}{RATE})", "read"),
            stacked=True,
        ),
        lines("Temporary files", (f"rate(dbperf_database_temp_bytes_total{{{AT}}}{RATE})", "written"), unit="Bps"),
        lines(
            "Rows read by sequential scans",
            (f"sum by ({table_}) (rate(dbperf_table_seq_rows_read_total{{{AT}}}{RATE}))", "{{schema}}.{{table}}"),
            stacked=True,
        ),
        lines(
            "Blocks by table",
            (
                f"sum by ({table_}) (rate(dbperf_table_blks_hit_total{{{AT}}}{RATE})"
                f" + rate(dbperf_table_blks_read_total{{{AT}}}{RATE}))",
                "{{schema}}.{{table}}",
            ),
            stacked=True,
        ),
        lines(
            "Rows changed",
            (
                f"sum by ({table_}) (rate(dbperf_table_rows_inserted_total{{{AT}}}{RATE})"
                f" + rate(dbperf_table_rows_updated_total{{{AT}}}{RATE})"
                f" + rate(dbperf_table_rows_deleted_total{{{AT}}}{RATE}))",
                "{{schema}}.{{table}}",
            ),
            stacked=True,
        ),
        lines(
            "Dead rows",
            (f"sum by ({table_}) (dbperf_table_dead_rows{{{AT}}})", "{{schema}}.{{table}}"),
        ),
        rows(
            "Indexes",
            [
                (f"sum by (schema, table, index) (dbperf_index_size_bytes{{{AT}}})", "size", "bytes"),
                (
                    f"sum by (schema, table, index) (increase(dbperf_index_scans_total{{{AT}}}[$__range]))",
                    "scans",
                    "short",
                ),
            ],
            text="The largest; one that is never scanned costs writes and answers no query, unless it is unique.",
        ),
        number(
            "Invalid indexes",
            f"sum(dbperf_invalid_indexes{{{AT}}})",
            limits=((1, "red"),),
            text="Left by failed builds; dbperf indexes names them.",
        ),
        number("Database answers", f"min(dbperf_up{{{AT}}})"),
        number("Look at the database takes", f"max(dbperf_look_seconds{{{AT}}})", unit="s"),
        number("Since the last look", f"time() - max(dbperf_look_timestamp_seconds{{{AT}}})", unit="s"),
    )


def loads() -> dashboard.Dashboard:
    """What a load asks, what it gets, and what the database does meanwhile."""
    page = board("Load stages", "dbperf-loads", "Stages, requests and latency of dbperf load, with the database beside")
    return with_panels(
        page,
        number("Load is on", f"max(dbperf_load_running{{{AT}}})"),
        number("Users", f"max(dbperf_load_users{{{AT}}})"),
        number("Requests", f"sum(rate(dbperf_load_requests_total{{{AT}}}{RATE}))", unit="reqps"),
        number("Regressions in the newest comparison", f"max(dbperf_regressions{{{AT}}})", limits=((1, "red"),)),
        lines("Users", (f"max by (instance) (dbperf_load_users{{{AT}}})", "users")),
        lines(
            "Requests by endpoint",
            (f"sum by (endpoint) (rate(dbperf_load_requests_total{{{AT}}}{RATE}))", "{{endpoint}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Percentiles",
            *((quantile(q, "dbperf_load_request_seconds", AT), f"P{100 * q:g}") for q in (0.5, 0.95, 0.99)),
            unit="s",
        ),
        heat("Latency", "dbperf_load_request_seconds", AT),
        lines(
            "P95 by endpoint", (quantile(0.95, "dbperf_load_request_seconds", AT, "endpoint"), "{{endpoint}}"), unit="s"
        ),
        lines(
            "Errors by endpoint",
            (f"sum by (endpoint) (rate(dbperf_load_request_errors_total{{{AT}}}{RATE}))", "{{endpoint}}"),
            unit="reqps",
        ),
        lines(
            "Active sessions by what they wait for",
            (f"sum by (wait_type) (rate(dbperf_active_session_seconds_total{{{AT}}}{RATE}))", "{{wait_type}}"),
            stacked=True,
        ),
        lines(
            "Time in statements",
            (top(f"sum by (queryid) (rate(dbperf_statement_seconds_total{{{AT}}}{RATE}))"), "{{queryid}}"),
            unit="s",
            stacked=True,
        ),
        lines(
            "The generator",
            (f"max(dbperf_load_generator_cpu_ratio{{{AT}}})", "CPU of the busiest process (1: a core)"),
            text="A generator at its limit measures itself.",
            limits=((0.9, "red"),),
            unit="percentunit",
        ),
        lines("The generator's delay", (f"max(dbperf_load_generator_lag_seconds{{{AT}}})", "delay"), unit="s"),
        rows(
            "Stages",
            [
                (
                    f"max by (run, stage, phase) (dbperf_load_mark_timestamp_seconds{{{AT}}}) * 1000",
                    "began",
                    "dateTimeAsIso",
                )
            ],
        ),
    )


DASHBOARDS: dict[str, Callable[[], dashboard.Dashboard]] = {
    "api-service-levels": service_levels,
    "statements": statements,
    "waits": waits,
    "load-stages": loads,
}


def as_json(name: str) -> str:
    """A dashboard as Grafana imports it."""
    found: dict[str, Any] = json.loads(json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder))
    for annotation in found["annotations"]["list"]:
        # Fields of Prometheus' annotations that the SDK has no names for; the value is the time in ms.
        annotation |= {
            "titleFormat": "{{phase}} {{stage}}", "textFormat": "{{run}}", "tagKeys": "run,stage,phase",
            "useValueForTime": True, "step": "15s",
        }  # fmt: skip
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    for name in DASHBOARDS:
        path = FOLDER / f"{name}.json"
        path.write_text(as_json(name), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
