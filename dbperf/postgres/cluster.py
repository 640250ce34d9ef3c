"""Making and starting a cluster: initdb, settings, the way around stale files, and waiting until it answers."""

from __future__ import annotations

import hashlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dbperf.errors import ServerError
from dbperf.postgres.binaries import Binaries
from dbperf.postgres.postmaster import complaints, end_orphans, is_server, read_pid_file
from dbperf.processes import Child

SETTINGS: Mapping[str, str] = {
    # What dbperf reads.
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "track_io_timing": "on",
    "track_functions": "pl",
    # Reached by a socket in a folder that only the server's account (and root) can enter.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # A laboratory on a small machine with a solid-state disk: the data fits into memory, checkpoints stay out of a
    # measurement, and seeding with COPY may skip the log. Durability stays on, since what it costs is measured too.
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    # An HNSW graph over 10,000 vectors of 1536 dimensions takes 80 MB: built in memory, it takes a third of the time.
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "dbperf",
}
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 103  # bytes; 107 on Linux, 103 on macOS
_START_TIMEOUT_S = 120  # crash recovery of a big cluster takes a while


def initdb(binaries: Binaries, folder: Path) -> str:
    """A shell script that makes a cluster with what dbperf needs in it."""
    args = ["-D", str(folder), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
    # The builtin provider sorts the same on every system.
    args += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []
    args += ["--locale=C" if binaries.major >= 17 or sys.platform == "darwin" else "--locale=C.UTF-8"]
    # The shadow planner extends files behind the server's back.
    args += ["--no-data-checksums"] if binaries.major >= 18 else []
    # Every database is made from template1, so each will have the extension. Single-user mode needs no client.
    single = [str(binaries.bindir / "postgres"), "--single", "-D", str(folder), "-j", "-F"]
    single += ["-c", "shared_preload_libraries=pg_stat_statements"]
    return f"{shlex.join([str(binaries.bindir / 'initdb'), *args])} && for db in template1 postgres; do " + (
        f"echo 'CREATE EXTENSION pg_stat_statements;' | {shlex.join(single)} $db || exit; done"
    )


def template_name(binaries: Binaries) -> str:
    """Of the cluster that others are copied from: another name where initdb would make another one."""
    program = (binaries.bindir / "initdb").stat()
    made_by = repr((initdb(binaries, Path()), program.st_mtime_ns, program.st_size))
    return f"template-{binaries.version}-{hashlib.sha256(made_by.encode()).hexdigest()[:10]}"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A data folder and what belongs to it. `folder` is dbperf's; `folder/pg` belongs to the account of the server."""

    folder: Path
    account: str | None
    binaries: Binaries

    @property
    def home(self) -> Path:
        return self.folder / "pg"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        # Not in `home`: root must not write to a file in a folder that belongs to somebody else.
        return self.folder / "log"

    def prepare(self, template: Path | None = None, *, sync: bool = False) -> None:
        """Makes the cluster where there is none yet.

        Args:
            template: the data folder of another one, to be copied: a tenth of initdb's time.
            sync: a machine that crashes leaves a whole cluster or none.

        Raises:
            ServerError: the folder can't be written, the disk is full, or it holds something else.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.home.exists():
                self.home.mkdir(mode=0o700)
                if self.account:
                    shutil.chown(self.home, self.account, pwd.getpwnam(self.account).pw_gid)
        except OSError as e:
            raise ServerError(
                f"{self.folder} can't be written: {e.strerror}", hint="choose another place with --cache-dir"
            ) from e
        version = self.data / "PG_VERSION"
        if not version.exists():
            if self.data.exists() and any(self.data.iterdir()):
                raise ServerError(
                    f"{self.data} is not a PostgreSQL data folder", hint="move it away, or choose another --cache-dir"
                )
            scratch = self.home / f"new-{os.getpid()}"
            script = (
                shlex.join(["cp", "-a", str(template), str(scratch)]) if template else initdb(self.binaries, scratch)
            )
            if sync:
                script += " && " + shlex.join([str(self.binaries.bindir / "initdb"), "--sync-only", "-D", str(scratch)])
            self._make(scratch, script)
            return
        found = version.read_text().strip()
        if found != str(self.binaries.major):
            raise ServerError(
                f"{self.data} holds data of PostgreSQL {found}, and {self.binaries.origin} is {self.binaries.version}",
                hint="nothing was changed; use another --cache-dir, or remove the data with dbperf down --all",
            )

    def _make(self, scratch: Path, script: str) -> None:
        for leftover in self.home.glob("new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        start = self._log_size()
        with self._child(["/bin/sh", "-c", script], name="initdb", remove=scratch) as child:
            code = child.wait(_START_TIMEOUT_S)
        try:
            if code != 0 or self._said_error(start):
                raise self._failed("a new PostgreSQL cluster can't be made", start)
            scratch.rename(self.data)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _said_error(self, start: int) -> bool:
        # Single-user mode exits with 0 whatever the statement did.
        return " ERROR:  " in self._log_since(start)

    def clear(self) -> None:
        """Removes what a killed server or a restarted machine left and what would keep a new one from starting.

        The pid file goes only where its process is gone or is no server of this data folder.

        Raises:
            ServerError: a server runs on the data after all.
        """
        found = read_pid_file(self.data)
        if found and is_server(found.pid, self.data):
            raise ServerError(f"a PostgreSQL server (pid {found.pid}) runs on {self.data} and does not answer")
        end_orphans(self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.home.glob(f"{_SOCKET_NAME}*"):
            leftover.unlink(missing_ok=True)

    def socket_dir(self) -> Path:
        """The folder for the socket: the cluster's own, or a new short one where the path would be too long."""
        if len(os.fsencode(self.home / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
            return self.home
        for base in dict.fromkeys([tempfile.gettempdir(), "/tmp"]):  # noqa: S108 - mkdtemp makes a folder of our own
            folder = Path(tempfile.mkdtemp(prefix="dbperf-", dir=base))
            if len(os.fsencode(folder / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
                if self.account:
                    shutil.chown(folder, self.account, pwd.getpwnam(self.account).pw_gid)
                return folder
            folder.rmdir()
        raise ServerError(f"the paths {self.home} and {tempfile.gettempdir()} are too long for a Unix socket")

    def command(self, socket_dir: Path, settings: Mapping[str, str]) -> list[str]:
        """The command line of the server."""
        # A list of folders: the quotes keep a comma or a space in the path from splitting it.
        escaped = str(socket_dir).replace('"', '""')
        merged = {**SETTINGS, **settings, "unix_socket_directories": f'"{escaped}"', "port": "5432"}
        options = [x for key, value in merged.items() for x in ("-c", f"{key}={value}")]
        return [str(self.binaries.bindir / "postgres"), "-D", str(self.data), *options]

    def start_child(self, socket_dir: Path, settings: Mapping[str, str]) -> Child:
        """Starts a server that ends with dbperf, and waits until it answers."""
        start = self._log_size()
        child = self._child(self.command(socket_dir, settings), name="PostgreSQL", remove=self.folder)
        try:
            self._wait(child.pid, lambda: child.poll() is None, start)
        except BaseException:
            child.stop()
            raise
        return child

    def start_detached(self, socket_dir: Path, settings: Mapping[str, str]) -> int:
        """Starts a server that stays when dbperf ends, and waits until it answers. Returns its pid."""
        start = self._log_size()
        with self.log.open("ab") as log:
            # The shell in between ends at once and leaves the server to init.
            done = subprocess.run(
                ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *self.command(socket_dir, settings)],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, check=True,
                user=self.account, group=self._group(), extra_groups=None if self.account is None else [],
                cwd="/", env=self._environment(), start_new_session=True,
            )  # fmt: skip
        pid = int(done.stdout)
        try:
            # Until it has entered the data folder it is not yet recognisable as a server.
            begun = time.monotonic()
            self._wait(pid, lambda: is_server(pid, self.data) or time.monotonic() < begun + 0.5, start)
        except BaseException:
            if is_server(pid, self.data):
                os.kill(pid, signal.SIGINT)
            raise
        return pid

    def _wait(self, pid: int, alive: Callable[[], bool], log_start: int) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = read_pid_file(self.data)
            if found and found.pid == pid and found.status == "ready":
                return
            if not alive():
                raise self._failed("PostgreSQL does not start", log_start)
            time.sleep(0.01)
        raise self._failed(f"PostgreSQL is not ready after {_START_TIMEOUT_S} s", log_start)

    def _failed(self, what: str, log_start: int) -> ServerError:
        log = self._log_since(log_start)
        hint = f"its log is {self.log}"
        if "No space left on device" in log or "File too large" in log or "Disk quota exceeded" in log:
            hint = f"free some space on the disk of {self.folder}, or choose another place with --cache-dir"
        return ServerError(f"{what}: {complaints(log) or 'it ended without a word'}", hint=hint)

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _log_since(self, start: int) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def _child(self, args: list[str], *, name: str, remove: Path) -> Child:
        return Child.start(
            args,
            env=self._environment(),
            cwd="/",
            user=self.account,
            log=self.log,
            name=name,
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
            guard_grace_s=10,
            remove=remove,
        )

    def _group(self) -> int | None:
        return None if self.account is None else pwd.getpwnam(self.account).pw_gid

    def _environment(self) -> dict[str, str]:
        # PGPORT, PGDATA and the like would reach into the server; messages are read, so they are in English.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        return {**kept, "LC_ALL": "C"}
