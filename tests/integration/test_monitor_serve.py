"""`dbperf serve` on a real server: what it counts, a restart, a reset and a taken port."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cli import dbperf, environment, started
from tests.support.pgserver import PgServer, bindir_18
from tests.support.waiting import eventually

Samples = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def server() -> Iterator[PgServer]:
    """A server of this module's own: it is restarted."""
    own = PgServer(bindir_18())
    own.psql(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)"
    )
    yield own
    own.close()


class Serving:
    """A running exporter."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url, self.process = url, process

    def scrape(self) -> Samples:
        """Values by metric and queryid ("" where it has none)."""
        with urllib.request.urlopen(self.url, timeout=300) as response:
            text = response.read().decode()
        return {
            (s.name, s.labels.get("queryid", "")): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def value(self, name: str, queryid: str = "") -> float | None:
        return self.scrape().get((name, queryid))


@contextmanager
def exporter(server: PgServer, folder: Path) -> Iterator[Serving]:
    arguments = ("serve", "--dsn", server.dsn(), "--port", "0", "--every", "1s", "--top", "2")
    with started(*arguments, env=environment(folder), cwd=folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # What it says goes on being read, or the pipe would fill.
        url = process.stdout.readline().strip()
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)  # type: ignore[arg-type, union-attr]
        thread.start()
        one = Serving(url, process)
        assert eventually(lambda: one.value("dbperf_up") == 1), said
        yield one


@pytest.fixture
def fresh(server: PgServer, tmp_path: Path) -> Iterator[Serving]:
    """One that has counted nothing yet."""
    with exporter(server, tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def serving(server: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with exporter(server, tmp_path_factory.mktemp("serving")) as one:
        yield one


def calls(one: Serving) -> dict[str, float]:
    return {queryid: value for (name, queryid), value in one.scrape().items() if name == "dbperf_statement_calls_total"}


def test_statements_are_counted_exactly_and_the_rest_is_other(server: PgServer, fresh: Serving) -> None:
    before = calls(fresh)
    assert before.keys() == {"other"}, "nothing happened since the exporter began"
    server.psql("SELECT sum(a + b) FROM t, generate_series(1, 100) b;" * 7)
    server.psql("SELECT pg_sleep(0.05);" * 3)
    assert eventually(lambda: len(calls(fresh)) == 3), calls(fresh)
    server.psql("SELECT 1;" * 5)
    server.psql("SELECT 1, 2;" * 6)
    assert eventually(lambda: sum(calls(fresh).values()) == 7 + 3 + 5 + 6), calls(fresh)
    # Two members, each a statement that took time; the cheap ones never displace them.
    assert sorted(calls(fresh).values()) == [3, 7, 11]
    with urllib.request.urlopen(fresh.url, timeout=300) as response:
        text = response.read().decode()
    assert 'text="SELECT pg_sleep($1)"' in text
    assert "dbperf pg_stat_statements" not in text, "its own queries don't count"


def test_it_survives_a_restart_and_tells_of_resets(server: PgServer, fresh: Serving) -> None:
    server.psql("SELECT pg_sleep(0.02);" * 4)
    assert eventually(lambda: sum(calls(fresh).values()) == 4)
    server.stop()
    assert eventually(lambda: fresh.value("dbperf_up") == 0)
    assert sum(calls(fresh).values()) == 4, "the counters stand while the database is away"
    server.start()
    assert eventually(lambda: fresh.value("dbperf_up") == 1)
    assert fresh.value("dbperf_server_restarts_total") == 1
    assert sum(calls(fresh).values()) == 4, "statistics that were saved over the restart are not counted again"
    server.psql("SELECT pg_stat_statements_reset()")
    server.psql("SELECT pg_sleep(0.02);" * 2)
    assert eventually(lambda: fresh.value("dbperf_statements_resets_total") == 1)
    assert eventually(lambda: max(calls(fresh).values()) >= 6), "counters go on, and never fall"


def test_the_databases_counters_and_sessions(server: PgServer, serving: Serving) -> None:
    before = serving.scrape()
    server.psql("BEGIN; SELECT 1; ROLLBACK;" * 5)
    server.psql("SET work_mem = '64kB'; SELECT count(*) FROM (SELECT * FROM generate_series(1, 200000) a ORDER BY -a)")
    rolled_back, temp = ("dbperf_database_transactions_rolled_back_total", ""), ("dbperf_database_temp_bytes_total", "")
    assert eventually(lambda: serving.scrape()[rolled_back] == before[rolled_back] + 5)
    assert eventually(lambda: serving.scrape()[temp] > before[temp] + 1_000_000)
    assert serving.value("dbperf_invalid_indexes") == 0
    server.psql("CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2)")
    with pytest.raises(RuntimeError, match="could not create unique index"):
        server.psql("CREATE UNIQUE INDEX CONCURRENTLY twice_a ON twice (a)")
    with server.sleeping():
        assert eventually(lambda: serving.value("dbperf_invalid_indexes") == 1)
        wanted = 'dbperf_sessions{state="active",wait_type="Timeout"} 1.0'
        assert eventually(lambda: wanted in urllib.request.urlopen(serving.url, timeout=300).read().decode())


def test_tables_indexes_and_waits(server: PgServer, serving: Serving) -> None:
    def sample(wanted: str) -> float:
        with urllib.request.urlopen(serving.url, timeout=300) as response:
            lines = response.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted)), -1.0)

    table = 'dbperf_table_rows_inserted_total{database="postgres",schema="public",table="u"}'
    index = 'dbperf_index_scans_total{database="postgres",index="u_pkey",schema="public",table="u"}'
    server.psql(
        "CREATE TABLE u (a int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 500); SET enable_seqscan = off;"
        "SELECT * FROM u WHERE a = 5; SELECT * FROM u WHERE a = 6"
    )
    with server.sleeping():
        assert eventually(lambda: sample(table) == 500), sample(table)
        assert eventually(lambda: sample(index) == 2), sample(index)
        assert eventually(
            lambda: sample('dbperf_active_session_seconds_total{wait_event="PgSleep",wait_type="Timeout"}') > 0
        )


def test_a_taken_port_and_a_database_that_is_down(server: PgServer, serving: Serving, tmp_path: Path) -> None:
    port = serving.url.rsplit(":", 1)[1].split("/")[0]
    env = environment(tmp_path)
    taken = dbperf("serve", "--dsn", server.dsn(), "--port", port, env=env, cwd=tmp_path)
    assert taken.returncode == 3
    assert re.fullmatch(
        r"dbperf: 127\.0\.0\.1:\d+ can't be used: .*\n  hint: --port 0 takes a free one\n", taken.stderr
    )
    with started(
        "serve", "--dsn", "postgresql://me:secret@127.0.0.1:9/x", "--port", "0", "--every", "1s", env=env, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        one = Serving(process.stdout.readline().strip(), process)
        assert eventually(lambda: (one.value("dbperf_failed_looks_total") or 0) >= 2)
        assert one.value("dbperf_up") == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        assert process.stderr is not None
        said = process.stderr.read()
        assert said.count("can't be read") == 1, "once, not at each look"
        assert "secret" not in said
