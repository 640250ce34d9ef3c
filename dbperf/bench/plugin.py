"""The pytest plugin's entry point. Inert when not used: loading it imports pytest only and changes no test.

Fixtures: `abenchmark`, `benchmark_endpoint`, `dbperf_client`, `dbperf_target`, `max_queries`, `assert_index_used`,
`assert_no_seq_scan`. Where pytest-benchmark is active: percentiles with intervals in the table and the JSON, sample
quality, and the hook `pytest_benchmark_compare_failed`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dbperf.bench.abenchmark import AsyncBenchmark
    from dbperf.bench.http import HttpClient
    from dbperf.bench.target import BenchTarget


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dbperf", "dbperf: benchmarks of an HTTP API on PostgreSQL")
    group.addoption("--dbperf-url", metavar="URL", help="The API to measure. Default: the reference target.")
    group.addoption("--dbperf-api-key", metavar="KEY", help="Sent as X-API-Key to --dbperf-url.")
    group.addoption("--dbperf-scale", default="smoke", help="Data of the reference target: smoke, spec or large.")
    group.addoption(
        "--dbperf-implementation", default="tuned", choices=("naive", "tuned"), help="Of the reference target."
    )
    group.addoption("--dbperf-dsn", metavar="DSN", help="The database behind --dbperf-url: cases to ask for.")
    group.addoption("--dbperf-apply", action="store_true", help="Also benchmarks that write to --dbperf-url.")
    group.addoption("--dbperf-out", metavar="DIR", type=Path, help="Run directory to write benchmarks.json into.")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from dbperf.bench import hookspec

    pluginmanager.add_hookspecs(hookspec)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    """Looks at the machine before and after a benchmark."""
    fixtures = getattr(item, "fixturenames", ())
    if "benchmark" not in fixtures:
        return (yield)
    from dbperf.bench.quality import MachineState

    before = MachineState.now()
    try:
        return (yield)
    finally:
        observed = item.config.stash.setdefault(_OBSERVED, {})
        kind = "async" if "abenchmark" in fixtures else "sync"
        observed[item.nodeid] = (before, MachineState.now(), kind, "dbperf_target" in fixtures)


_UNOBSERVED = (None, None, "sync", False)
_OBSERVED = pytest.StashKey[dict[str, tuple[Any, Any, str, bool]]]()
_RECORDS = pytest.StashKey[list[Any]]()


def _records(config: pytest.Config) -> list[Any]:
    """The records of all benchmarks of the session, made once."""
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return []
    if _RECORDS not in config.stash:
        from dbperf.bench.collect import benchmark_record

        observed = config.stash.get(_OBSERVED, {})
        config.stash[_RECORDS] = [
            benchmark_record(b, observed.get(b.fullname, _UNOBSERVED)) for b in session.benchmarks if b
        ]
    return config.stash[_RECORDS]


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:  # noqa: ARG001 - the hook's signature
    """Percentiles and quality in pytest-benchmark's JSON."""
    from dbperf.bench.collect import json_addition

    by_name = {r.fullname: r for r in _records(config)}
    for entry in output_json["benchmarks"]:
        if (record := by_name.get(entry["fullname"])) is not None:
            entry["dbperf"] = json_addition(record)


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table; and, before pytest-benchmark raises for a regression, the hook for it."""
    records = _records(config)
    if not records:
        return
    session: Any = config._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark puts it there
    if session.performance_regressions:
        from dbperf.bench.regressions import call_hook

        call_hook(config, session)
    from dbperf.bench.collect import table

    if not session.quiet:
        terminalreporter.ensure_newline()
        terminalreporter.section("dbperf benchmarks", sep="-", yellow=True)
        for line in table(records):
            terminalreporter.write_line(line)
    if (out := config.getoption("dbperf_out")) is not None:
        from dbperf.bench.output import write_benchmarks

        write_benchmarks(out, records, config.stash.get(_TARGET, None), config.stash[_STARTED])


_TARGET = pytest.StashKey[Any]()
_STARTED = pytest.StashKey[datetime]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_STARTED] = datetime.now(UTC)


@pytest.fixture
def abenchmark(benchmark: Any) -> AsyncBenchmark:
    """Measures a coroutine function on a loop that runs already."""
    from dbperf.bench.abenchmark import AsyncBenchmark

    return AsyncBenchmark(benchmark)


@pytest.fixture(scope="session")
def dbperf_target(pytestconfig: pytest.Config) -> Iterator[BenchTarget]:
    """The API under measurement: --dbperf-url, else the reference target over its own seeded database."""
    from dbperf.bench.target import bench_target

    with bench_target(
        url=pytestconfig.getoption("dbperf_url"),
        api_key=pytestconfig.getoption("dbperf_api_key") or os.environ.get("DBPERF_API_KEY"),
        dsn=pytestconfig.getoption("dbperf_dsn"),
        scale=pytestconfig.getoption("dbperf_scale"),
        implementation=pytestconfig.getoption("dbperf_implementation"),
    ) as target:
        pytestconfig.stash[_TARGET] = target
        yield target


@pytest.fixture(scope="session")
def dbperf_client(dbperf_target: BenchTarget) -> Iterator[HttpClient]:
    """Requests to the target over one connection."""
    from dbperf.bench.http import HttpClient

    with HttpClient(dbperf_target.url, headers=dbperf_target.headers) as client:
        yield client


@pytest.fixture
def benchmark_endpoint(benchmark: Any, dbperf_client: HttpClient) -> Callable[..., bytes]:
    """``benchmark_endpoint("POST /search", {"query": "x"})``: grouped by endpoint, enough rounds for quantile `q`."""

    def measure(
        endpoint: str, json_body: Any = None, *, path: str | None = None, q: float = 0.95, warmup_rounds: int = 2
    ) -> bytes:
        from dbperf.bench.rounds import rounds_for

        method, _, template = endpoint.partition(" ")
        benchmark.group = endpoint
        started = time.perf_counter()
        dbperf_client.request(method, path or template, json_body=json_body)
        rounds = rounds_for(q, time.perf_counter() - started)
        content: bytes = benchmark.pedantic(
            dbperf_client.request, args=(method, path or template), kwargs={"json_body": json_body},
            rounds=rounds, warmup_rounds=warmup_rounds,
        )  # fmt: skip
        return content

    return measure


@pytest.fixture
def max_queries() -> Callable[[int], Any]:
    """``with max_queries(3): ...`` fails with the statements when the block issues more."""
    from dbperf.bench.queries import max_queries as counting

    return counting


@pytest.fixture
def assert_index_used() -> Callable[..., None]:
    """``assert_index_used(plan, "index_name")``: see dbperf.plans.assertions."""
    from dbperf.plans.assertions import assert_index_used as check

    return check


@pytest.fixture
def assert_no_seq_scan() -> Callable[..., None]:
    """``assert_no_seq_scan(plan, relation="orders")``: see dbperf.plans.assertions."""
    from dbperf.plans.assertions import assert_no_seq_scan as check

    return check
