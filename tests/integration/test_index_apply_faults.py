"""`dbperf apply` killed, interrupted, its server killed, its disk full: each repaired by the next run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import dbperf, environment, started
from tests.support.pgserver import PgServer, bindir_15, bindir_18
from tests.support.waiting import eventually, gone

# Each row takes a hundredth of a second to index, so that a kill hits the middle of the build.
SLOW = """
CREATE FUNCTION slowly(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
  IF current_setting('application_name') = 'dbperf apply' AND EXISTS (SELECT FROM public.slow) THEN
    PERFORM pg_sleep(0.01);
  END IF;
  RETURN i; END$$;
CREATE TABLE slow (ok int); INSERT INTO slow VALUES (1);
CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 3000) i;
"""
UP = """SET lock_timeout = '1s';
SET statement_timeout = 0;
CREATE INDEX CONCURRENTLY IF NOT EXISTS first ON public.t USING btree (v);
CREATE INDEX CONCURRENTLY IF NOT EXISTS slow_one ON public.t USING btree (public.slowly(v));
"""
DOWN = "DROP INDEX CONCURRENTLY IF EXISTS public.slow_one;\nDROP INDEX CONCURRENTLY IF EXISTS public.first;\n"


@pytest.fixture(scope="module", params=[15, 18])
def server(request: pytest.FixtureRequest) -> Iterator[PgServer]:
    """Its processes are killed, the machine is not: what it wrote is there without fsync."""
    one = PgServer(bindir_15() if request.param == 15 else bindir_18(), {"synchronous_commit": "on"})
    yield one
    one.close()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        server: PgServer = request.getfixturevalue("server")
        server.psql("DROP TABLE IF EXISTS t, slow; DROP FUNCTION IF EXISTS slowly")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "up.sql").write_text(UP)
    (tmp_path / "m" / "down.sql").write_text(DOWN)
    return tmp_path / "m"


def state(server: PgServer) -> str:
    return server.psql(
        "SELECT string_agg(c.relname || '=' || x.indisvalid, ',' ORDER BY c.relname) FROM pg_index x "
        "JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = 't'::regclass AND NOT x.indisprimary"
    )


def until(condition: Callable[[], object], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def building(server: PgServer) -> bool:
    phase = "SELECT phase FROM pg_stat_progress_create_index WHERE index_relid = to_regclass('slow_one')"
    return server.psql(phase).startswith("building index")


def finish(server: PgServer, folder: Path, tmp_path: Path) -> dict[str, object]:
    """The next run, which must repair; then down, which must leave nothing."""
    server.psql("DELETE FROM slow")
    env = environment(tmp_path)
    done = dbperf("apply", folder, "--dsn", server.dsn(), "--format", "json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert state(server) == "first=true,slow_one=true"
    assert int(server.psql("SET enable_seqscan = off; SELECT count(*) FROM t WHERE slowly(v) > 0")) == 3000
    down = dbperf("apply", folder, "--dsn", server.dsn(), "--down", env=env, cwd=tmp_path)
    assert down.returncode == 0, down.stderr
    assert state(server) == ""
    return dict(json.loads(done.stdout))


def test_dbperf_killed_in_the_middle(server: PgServer, folder: Path, tmp_path: Path) -> None:
    server.psql(SLOW)
    with started("apply", folder, "--dsn", server.dsn(), env=environment(tmp_path), cwd=tmp_path) as process:
        until(lambda: building(server))
        process.send_signal(signal.SIGKILL)
        process.wait()
    # The server's process notices that nobody is there any more.
    until(lambda: not building(server))
    assert state(server) == "first=true,slow_one=false"
    again = finish(server, folder, tmp_path)
    assert [s["outcome"] for s in again["statements"]] == ["already", "repaired"]  # type: ignore[attr-defined]


def test_the_server_killed_in_the_middle(server: PgServer, folder: Path, tmp_path: Path) -> None:
    server.psql(SLOW)
    with started("apply", folder, "--dsn", server.dsn(), env=environment(tmp_path), cwd=tmp_path) as process:
        until(lambda: building(server))
        assert server.process is not None
        # All of its processes at once, as when the power fails.
        pids = server.psql("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity").split()
        server.process.signal(signal.SIGKILL)
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        server.process.wait(120)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert "the connection was lost" in err
    assert "run the same command again" in err
    assert "✓ CREATE INDEX CONCURRENTLY IF NOT EXISTS first" in out
    assert all(eventually(lambda pid=int(p): gone(pid)) for p in pids)  # type: ignore[misc]  # or it can't start again
    (server.data / "postmaster.pid").unlink(missing_ok=True)
    server.start()
    assert state(server) == "first=true,slow_one=false"
    finish(server, folder, tmp_path)


def test_ctrl_c_removes_what_is_half_built(server: PgServer, folder: Path, tmp_path: Path) -> None:
    server.psql(SLOW)
    with started("apply", folder, "--dsn", server.dsn(), env=environment(tmp_path), cwd=tmp_path) as process:
        until(lambda: building(server))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command continues" in err
    assert state(server) == "first=true"
    finish(server, folder, tmp_path)


if os.geteuid() == 0:  # mounting needs root

    @contextmanager
    def small_disk(path: Path, size: str) -> Iterator[None]:
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", path], check=True)

    def test_a_full_disk(server: PgServer, folder: Path, tmp_path: Path) -> None:
        disk = server.folder / "disk"
        with small_disk(disk, "512k"):
            (disk / "ts").mkdir()
            if server.user:
                shutil.chown(disk / "ts", server.user)
            server.psql(f"CREATE TABLESPACE small LOCATION '{disk / 'ts'}'")
            server.psql(
                "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 60000) i"
            )
            up = "CREATE INDEX CONCURRENTLY IF NOT EXISTS big ON public.t USING btree (v) TABLESPACE small;"
            (folder / "up.sql").write_text(up)
            env = environment(tmp_path)
            done = dbperf("apply", folder, "--dsn", server.dsn(), env=env, cwd=tmp_path)
            assert done.returncode == 3
            assert "the disk is full" in done.stderr
            assert "make room" in done.stderr
            assert state(server) == ""
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            again = dbperf("apply", folder, "--dsn", server.dsn(), env=env, cwd=tmp_path)
            assert again.returncode == 0, again.stderr
            assert state(server) == "big=true"
            server.psql("DROP TABLE t")
            server.psql("DROP TABLESPACE small")


def test_a_target_marked_as_production_is_refused(server: PgServer, folder: Path, tmp_path: Path) -> None:
    server.psql(SLOW + "DELETE FROM slow")
    (tmp_path / "dbperf.toml").write_text(f'[safety]\nproduction = ["{server.host}"]\n')
    env = environment(tmp_path)
    refused = dbperf("apply", folder, "--dsn", server.dsn(), env=env, cwd=tmp_path)
    assert refused.returncode == 2
    assert "marked as production" in refused.stderr
    looked = dbperf("apply", folder, "--dsn", server.dsn(), "--dry-run", env=env, cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert "would run" in looked.stdout
    assert state(server) == ""
    done = dbperf("apply", folder, "--dsn", server.dsn(), "--production", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert state(server) == "first=true,slow_one=true"


WRAPAROUND = {
    "autovacuum": "on",
    "autovacuum_freeze_max_age": "100000",
    "autovacuum_naptime": "1s",
    "vacuum_cost_page_miss": "1",
    # An ordinary autovacuum would be sent away so soon.
    "deadlock_timeout": "50ms",
}
HELD = """
CREATE TABLE held (id int, note text)
WITH (autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 10);
INSERT INTO held SELECT i, md5(i::text) FROM generate_series(1, 60000) i;
"""
AGE = "DO $$BEGIN FOR i IN 1..100100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END$$"
WORKER = """
SELECT min(a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE a.query LIKE 'autovacuum: VACUUM% public.held (to prevent wraparound)' AND l.relation = 'held'::regclass
"""


def test_an_autovacuum_against_wraparound_does_not_give_way_and_is_waited_for(tmp_path: Path) -> None:
    """PostgreSQL cancels an ordinary autovacuum for whoever waits for it, and not this one."""
    server = PgServer(bindir_18(), WRAPAROUND)
    try:
        server.psql(HELD)
        server.psql(AGE)
        until(lambda: server.psql(WORKER), 120)
        worker = server.psql(WORKER)
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "up.sql").write_text(
            "SET lock_timeout = '300ms';\nSET statement_timeout = 0;\n"
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS on_note ON public.held USING btree (note);\n"
        )
        (tmp_path / "m" / "down.sql").write_text("DROP INDEX CONCURRENTLY IF EXISTS public.on_note;\n")
        env = environment(tmp_path)
        command = ("apply", tmp_path / "m", "--dsn", server.dsn())
        gave_up = dbperf(*command, "--wait", "1s", env=env, cwd=tmp_path)
        assert gave_up.returncode == 3, gave_up.stdout
        assert "public.held is held by autovacuum to prevent wraparound, which does not give way" in gave_up.stderr
        assert server.psql(WORKER) == worker  # it was not disturbed
        assert server.psql("SELECT to_regclass('on_note')") == ""
        with started(*command, env=env, cwd=tmp_path) as process:
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dbperf apply' AND wait_event = 'relation'"
            )
            until(lambda: server.psql(waiting))
            # It would end by itself; here it is made to hurry. While it holds the table, its setting can't be changed.
            hurry = subprocess.Popen(
                [server.bindir / "psql", "-Xq", "-h", server.host, "-U", "postgres", "-c",
                 "ALTER TABLE held SET (autovacuum_vacuum_cost_delay = 0)", "postgres"]
            )  # fmt: skip
            until(lambda: server.psql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE held%' "
                                      "AND wait_event_type = 'Lock'"))  # fmt: skip
            server.psql(f"SELECT pg_cancel_backend({worker})")
            assert hurry.wait(60) == 0
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "✓ CREATE INDEX CONCURRENTLY IF NOT EXISTS on_note" in out
        assert server.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'on_note'::regclass") == "t"
    finally:
        server.close()
