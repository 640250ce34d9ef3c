"""The pytest plugin in pytest sessions of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dbperf.records.base import read_document
from dbperf.records.benchmarks import Benchmark, Benchmarks
from tests.conftest import Database
from tests.support.httpserver import FaultyServer

FAST = ("--benchmark-max-time=0.05", "--benchmark-min-rounds=20", "-p", "benchmark")
# Plugins that are installed here and have no part in it: loading them takes most of a session's time.
UNUSED = ("-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:locust", "-p", "no:xdist")
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"

# A clock that moves only when told to: the samples are those that a test intends, whatever else the machine does.
CLOCK = """
import itertools, random
now = 0.0

def read():
    return now

def spend(seconds):
    global now
    now += seconds

def series(*values, jitter=0.02):
    noise = random.Random(7)
    it = itertools.cycle(values)
    return lambda: spend(next(it) * (1 + jitter * noise.random()))
"""
KNOWN = ("--benchmark-timer=known_clock.read",)


def pytest_run(
    folder: Path, test: str | dict[str, str], *options: str | Path, conftest: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """A session over a test file's text, or over several by name."""
    for name, text in ({"test_it.py": test} if isinstance(test, str) else test).items():
        (folder / name).write_text(text)
    (folder / "conftest.py").write_text(conftest)
    (folder / "pytest.ini").write_text(INI)
    (folder / "known_clock.py").write_text(CLOCK)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "DBPERF"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *UNUSED, *options],
        cwd=folder, env={**kept, **env}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


BUSY = """
from known_clock import series

def test_work(benchmark):
    benchmark.group = "work"
    benchmark.extra_info["rows"] = 7
    benchmark.pedantic(series(0.002, jitter=0.5), rounds=400)

def test_few(benchmark):
    benchmark.pedantic(series(0.002), rounds=10)
"""


QUALITY = """
from known_clock import series

def test_warm_up(benchmark):
    benchmark.pedantic(series(*[0.006] * 15, *[0.001] * 100), rounds=115)

def test_two_modes(benchmark):
    benchmark.pedantic(series(0.001, 0.012), rounds=100)

def test_outliers(benchmark):
    benchmark.pedantic(series(*[0.001] * 33, 0.03), rounds=102)
"""

ASYNC = """
import asyncio
import known_clock
import pytest

async def fetch():
    await asyncio.sleep(0)
    known_clock.spend(0.002)
    return 42

def test_sync(abenchmark):
    assert abenchmark(fetch) == 42

async def test_async(abenchmark):
    loop = asyncio.get_running_loop()
    seen = set()
    async def on_this_loop():
        seen.add(asyncio.get_running_loop())
        return await fetch()
    assert await abenchmark.pedantic(on_this_loop, rounds=80) == 42
    assert seen == {loop}

def test_no_start_up_in_the_samples(abenchmark, monkeypatch):
    def costs_a_second(owner, name):
        plain = getattr(owner, name)
        def dear(*args, **kwargs):
            known_clock.spend(1)
            return plain(*args, **kwargs)
        monkeypatch.setattr(owner, name, dear)

    # What a call would pay if each had a loop of its own, or entered one.
    costs_a_second(asyncio.events, "new_event_loop")
    costs_a_second(asyncio.BaseEventLoop, "run_until_complete")
    before = known_clock.now
    abenchmark.pedantic(fetch, rounds=200)
    assert known_clock.now > before + 2
    assert abenchmark._benchmark.stats.stats.data == pytest.approx([0.002] * 200)

def test_an_error_is_an_error(abenchmark):
    async def bad():
        raise ValueError("boom")
    try:
        abenchmark(bad)
    except ValueError:
        return
    raise AssertionError
"""


@dataclass(frozen=True)
class Session:
    said: str
    json: dict[str, Any]
    """Of each benchmark, by name: what dbperf adds to pytest-benchmark's JSON."""
    benchmarks: dict[str, Benchmark]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One session over three files, all by the known clock."""
    folder = tmp_path_factory.mktemp("measured")
    tests = {"test_busy.py": BUSY, "test_async.py": ASYNC, "test_quality.py": QUALITY}
    done = pytest_run(
        folder, tests, *FAST, *KNOWN, "-o", "asyncio_mode=auto", "--benchmark-json=b.json", "--dbperf-out",
        folder / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((folder / "b.json").read_text())["benchmarks"]
    found = read_document(Benchmarks, folder / "run" / "benchmarks.json").benchmarks
    return Session(done.stdout, {b["name"]: b["dbperf"] for b in kept}, {b.name: b for b in found})


def test_percentiles_with_intervals_in_table_and_json(measured: Session) -> None:
    assert "percentiles (95 % interval)" in measured.said
    by_name = measured.json
    p99 = by_name["test_work"]["percentiles"]["p99"]
    assert 2 < p99["ci_low_ms"] < p99["value_ms"] < p99["ci_high_ms"] < 3
    few = by_name["test_few"]["percentiles"]["p99"]
    assert few["value_ms"] is None
    assert few["reason"] == "10 samples, 368 are needed"
    row = next(line for line in measured.said.splitlines() if line.startswith("test_few") and "needed" in line)
    assert "368 needed" in row
    work = measured.benchmarks["test_work"]
    assert len(work.samples_ms) == 400
    assert [(c.name, c.value) for c in work.custom] == [("rows", 7)]
    assert work.quality.clock_resolution_share is not None


def test_it_is_inert_where_nothing_uses_it(tmp_path: Path) -> None:
    probe = """
import sys
def test_nothing_heavy_was_imported():
    assert "dbperf.bench.plugin" in sys.modules
    for name in ("numpy", "psutil", "asyncpg", "sqlalchemy", "msgspec", "dbperf.records"):
        assert name not in sys.modules, name
"""
    for options in (("-p", "no:benchmark"), ()):
        done = pytest_run(tmp_path, probe, *options)
        assert done.returncode == 0, done.stdout
        assert "dbperf" not in done.stdout


def test_coroutines_are_measured_on_a_running_loop(measured: Session) -> None:
    by_name = measured.benchmarks
    assert by_name["test_async"].kind == "async"
    assert by_name["test_async"].samples_ms == pytest.approx([2] * 80)
    assert len(by_name["test_sync"].samples_ms) >= 20


def test_disabled_benchmarks_run_once(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path, ASYNC.split("async def test_async", maxsplit=1)[0], "-p", "benchmark", "--benchmark-disable"
    )
    assert done.returncode == 0, done.stdout
    assert "percentiles" not in done.stdout


REGRESSION = """
import os
from known_clock import series
def test_it(benchmark):
    benchmark.group = "g"
    benchmark.pedantic(series(float(os.environ["TAKES"])), rounds=10)
"""
HOOK = """
def pytest_benchmark_compare_failed(config, benchmarkgroup, benchmarks, compared):
    for b in benchmarks:
        slower = b["stats"]["median"] > b["stats_before"]["median"]
        print("HOOK", benchmarkgroup, b["name"], b["reason"], slower, len(compared))
"""


def test_the_hook_for_failed_comparisons_is_called(tmp_path: Path) -> None:
    options = (*FAST, *KNOWN, "--benchmark-storage", str(tmp_path / "st"))
    first = pytest_run(tmp_path, REGRESSION, *options, "--benchmark-save=a", TAKES="0.001", conftest=HOOK)
    assert first.returncode == 0, first.stdout + first.stderr
    options = (*options, "--benchmark-compare", "--benchmark-compare-fail=median:100%", "-s")
    same = pytest_run(tmp_path, REGRESSION, *options, TAKES="0.001", conftest=HOOK)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "HOOK" not in same.stdout
    slow = pytest_run(tmp_path, REGRESSION, *options, TAKES="0.02", conftest=HOOK)
    assert slow.returncode != 0
    assert "HOOK g test_it" in slow.stdout
    assert " True 1" in slow.stdout


def test_sample_quality_is_told(measured: Session) -> None:
    by_name = {name: measured.benchmarks[name].quality for name in ("test_warm_up", "test_two_modes", "test_outliers")}
    found = {name: (q.warm_up, q.modes, q.outliers) for name, q in by_name.items()}
    assert found == {"test_warm_up": (15, 1, 0), "test_two_modes": (0, 2, 0), "test_outliers": (0, 1, 3)}
    assert "test_warm_up: the first 15 samples are slower: taken for a warm-up" in measured.said
    assert "two groups" in measured.said


CLIENT = """
def test_ok(benchmark_endpoint):
    assert benchmark_endpoint("GET /ok") == b'{"status": "ok"}'

def test_fails(dbperf_client):
    import pytest
    from dbperf.errors import TargetError
    with pytest.raises(TargetError, match="was answered 500"):
        dbperf_client.get("/status/500")
    assert dbperf_client.post("/echo", {"a": 1}) == b'{"a": 1}'
"""


def test_endpoints_of_a_url_are_grouped(tmp_path: Path) -> None:
    with FaultyServer() as server:
        done = pytest_run(tmp_path, CLIENT, *FAST, "--dbperf-url", server.url, "--dbperf-out", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_document(Benchmarks, tmp_path / "run" / "benchmarks.json")
    assert found.target is not None
    assert (found.target.origin, found.benchmarks[0].group) == ("user", "GET /ok")
    # 200, or fewer where the first request was slow; never too few for P95.
    assert 73 <= len(found.benchmarks[0].samples_ms) <= 200


QUERIES = """
import os
import asyncpg
import pytest

async def test_it(max_queries):
    conn = await asyncpg.connect(os.environ["TEST_DSN"])
    with max_queries(2):
        await conn.fetch("SELECT 1")
        async with conn.transaction():
            await conn.fetch("SELECT 2")
    with pytest.raises(AssertionError) as e:
        with max_queries(3):
            for i in range(4):
                await conn.fetch("SELECT $1::int  AS   n", i)
            await conn.fetch("SELECT 5")
    await conn.close()
    assert str(e.value).splitlines() == [
        "5 statements were issued, at most 3 are allowed:",
        "  4 × SELECT $1::int AS n",
        "  1 × SELECT 5",
    ]

def test_sqlalchemy(max_queries, assert_no_seq_scan, assert_index_used):
    with pytest.raises(AssertionError, match="index"):
        assert_index_used("Seq Scan on a  (cost=0.00..1.00 rows=1 width=4)", "a_pkey")
    with pytest.raises(AssertionError):
        assert_no_seq_scan("Seq Scan on a  (cost=0.00..1.00 rows=1 width=4)")
"""


@pytest.mark.pg(">= 18")
def test_too_many_queries_are_listed(tmp_path: Path, db: Database) -> None:
    done = pytest_run(tmp_path, QUERIES, "-o", "asyncio_mode=auto", "-p", "no:benchmark", TEST_DSN=db.dsn)
    assert done.returncode == 0, done.stdout + done.stderr
