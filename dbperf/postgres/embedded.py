"""dbperf's own PostgreSQL: one lasting server per cache folder (`dbperf up`), or a throw-away one for a run.

Below the cache folder:

    lock            held while a server is started or stopped
    server/         the lasting server: log, pg/data
    private/*/      throw-away servers; each holds `lock` for as long as its dbperf lives
    template-*/     a cluster as initdb makes it, which throw-away servers begin with a copy of
    postgresql-*/   copies of the programs, where the server's account can't enter their own folder

Where dbperf runs as root and the server's account can't enter the cache folder (below /root, say), all but the lock
is in /var/tmp/dbperf-<uid>-<hash of the cache folder>.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO
from urllib.parse import quote

from dbperf.errors import ServerError
from dbperf.postgres.binaries import Binaries, find_binaries, may_enter, unprivileged_account
from dbperf.postgres.cluster import Cluster, template_name
from dbperf.postgres.postmaster import end_orphans, is_server, read_pid_file, stop_server
from dbperf.processes import Child

_LOCK_TIMEOUT_S = 150
_KEPT = ("template-*", "postgresql-*", ".copy-*")
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A running server. Leaving it as a context manager stops a private one; a lasting one needs `stop`."""

    pid: int
    data_dir: Path
    socket_dir: Path
    folder: Path
    private: bool
    started: bool
    """This call started it; False where it ran already."""
    version: str | None = None
    """As the programs print it; None for a server that `find_running` found."""
    child: Child | None = None
    lock: IO[bytes] | None = None

    def dsn(self, database: str = "postgres") -> str:
        """A connection string for the superuser `postgres`; there is no password."""
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.socket_dir), safe='/')}"

    @property
    def running(self) -> bool:
        return self.child.poll() is None if self.child else is_server(self.pid, self.data_dir)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def stop(self) -> None:
        """Ends the server, and removes its data where it is private. Does nothing the second time.

        Raises:
            ServerError: the server does not end.
        """
        if self.child:
            self.child.stop(grace_s=30)
            end_orphans(self.data_dir)
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.lock is not None:
                self.lock.close()
        elif self.running:
            stop_server(self.pid, self.data_dir)
        if self.socket_dir.parent != self.folder and not self.running:
            _remove_socket_dir(self.socket_dir)

    def __enter__(self) -> Embedded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.private:
            self.stop()


def _remove_socket_dir(folder: Path) -> None:
    # Only what socket_dir() made: the name is its own.
    if folder.name.startswith("dbperf-"):
        shutil.rmtree(folder, ignore_errors=True)


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/dbperf, or ~/.cache/dbperf."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "dbperf"


def start(
    cache_dir: Path | None = None,
    *,
    private: bool = False,
    settings: Mapping[str, str] = _NO_SETTINGS,
    bindir: Path | None = None,
) -> Embedded:
    """Starts a server, or finds the lasting one that already runs for this cache folder.

    Args:
        cache_dir: `default_cache_dir()` by default.
        private: a throw-away cluster, removed by `stop`, that ends with dbperf even when that is killed.
        settings: on top of `cluster.SETTINGS`; for a lasting server that already runs they have no effect.
        bindir: PostgreSQL's programs, instead of the wheel's or the machine's.

    Raises:
        ServerError: no programs, no place, a full disk, data of another major version: the message says which.
    """
    cache = _made(cache_dir)
    account = unprivileged_account()
    with _locked(cache):
        base = _base(cache, account, make=True)
        _sweep(base / "private")
        binaries = find_binaries(base, account, bindir)
        if not private:
            return _find(base) or _start_lasting(base, account, binaries, settings)
        template = _template(base, account, binaries)
        folder, lock = _private_folder(base)
    # Outside the lock: two runs make their clusters at the same time.
    try:
        return _start_private(Cluster(folder=folder, account=account, binaries=binaries), lock, settings, template)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
        raise


def find_running(cache_dir: Path | None = None) -> Embedded | None:
    """The lasting server of a cache folder, if it runs. Changes nothing."""
    cache = (cache_dir or default_cache_dir()).expanduser().absolute()
    return _find(_base(cache, unprivileged_account(), make=False))


def stop(cache_dir: Path | None = None) -> Embedded | None:
    """Stops the lasting server of a cache folder, and returns it; None where none runs.

    Raises:
        ServerError: the server does not end.
    """
    cache = (cache_dir or default_cache_dir()).expanduser().absolute()
    if not cache.is_dir():
        return None
    with _locked(cache):
        running = _find(_base(cache, unprivileged_account(), make=False))
        if running:
            running.stop()
    return running


def remove(cache_dir: Path | None = None) -> list[Path]:
    """Stops the lasting server and deletes its data, copied programs and what crashed runs left; says what it deleted.

    Servers of runs that are still going on are left alone.

    Raises:
        ServerError: the server does not end, or a folder can't be deleted.
    """
    cache = (cache_dir or default_cache_dir()).expanduser().absolute()
    if not cache.is_dir():
        return []
    deleted = []
    with _locked(cache):
        base = _base(cache, unprivileged_account(), make=False)
        if running := _find(base):
            running.stop()
        end_orphans(base / "server" / "pg" / "data")
        _sweep(base / "private")
        for folder in [base / "server", *(f for kind in _KEPT for f in sorted(base.glob(kind)))]:
            if folder.exists():
                try:
                    shutil.rmtree(folder)
                except OSError as e:
                    raise ServerError(f"{folder} can't be deleted: {e.strerror}") from e
                deleted.append(folder)
        for folder in (base / "private", *([base] if base != cache else [])):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return deleted


def _made(cache_dir: Path | None) -> Path:
    cache = (cache_dir or default_cache_dir()).expanduser().absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ServerError(
            f"the cache folder {cache} can't be made: {e.strerror}",
            hint="choose another with --cache-dir or XDG_CACHE_HOME",
        ) from e
    return cache


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    try:
        lock = (cache / "lock").open("wb")
    except OSError as e:
        raise ServerError(
            f"the cache folder {cache} can't be written: {e.strerror}",
            hint="choose another with --cache-dir or XDG_CACHE_HOME",
        ) from e
    with lock:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise ServerError(f"another dbperf has held {cache / 'lock'} for {_LOCK_TIMEOUT_S} s")
            time.sleep(0.02)
        yield


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        raise ServerError(
            f"files can't be locked in the cache folder: {e.strerror}", hint="choose a local disk with --cache-dir"
        ) from e
    return True


def _base(cache: Path, account: str | None, *, make: bool) -> Path:
    if account is None or not cache.exists() or may_enter(cache, account):
        return cache
    name = hashlib.sha256(os.fsencode(cache)).hexdigest()[:10]
    base = Path("/var/tmp") / f"dbperf-{os.geteuid()}-{name}"  # noqa: S108 - whose it is, is checked below
    if make:
        try:
            base.mkdir(mode=0o755)
            base.chmod(0o755)  # whatever the umask
        except FileExistsError:
            pass
        except OSError as e:
            raise ServerError(f"{base} can't be made: {e.strerror}", hint="choose a folder with --cache-dir") from e
    if base.is_symlink() or (base.exists() and not _ours(base)):
        raise ServerError(f"{base} belongs to somebody else", hint="choose a folder with --cache-dir")
    return base


def _ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _find(base: Path) -> Embedded | None:
    folder = base / "server"
    data = folder / "pg" / "data"
    found = read_pid_file(data)
    if found is None or found.status not in {"ready", "standby"} or not is_server(found.pid, data):
        return None
    return Embedded(
        pid=found.pid,
        data_dir=data,
        socket_dir=Path(found.socket_dir),
        folder=folder,
        private=False,
        started=False,
    )


def _start_lasting(base: Path, account: str | None, binaries: Binaries, settings: Mapping[str, str]) -> Embedded:
    cluster = Cluster(folder=base / "server", account=account, binaries=binaries)
    cluster.prepare()
    cluster.clear()
    socket_dir = cluster.socket_dir()
    try:
        pid = cluster.start_detached(socket_dir, settings)
    except BaseException:
        _remove_socket_dir(socket_dir)
        raise
    return Embedded(
        pid=pid,
        data_dir=cluster.data,
        socket_dir=socket_dir,
        folder=cluster.folder,
        private=False,
        started=True,
        version=binaries.version,
    )


def _private_folder(base: Path) -> tuple[Path, IO[bytes]]:
    try:
        (base / "private").mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base / "private"))
        folder.chmod(0o755)
        lock = (folder / "lock").open("wb")
    except OSError as e:
        raise ServerError(f"{base} can't be written: {e.strerror}", hint="choose a folder with --cache-dir") from e
    _try_lock(lock)
    return folder, lock


def _template(base: Path, account: str | None, binaries: Binaries) -> Path:
    """The data of a cluster that no server ever runs on. Made once for each version of the programs."""
    cluster = Cluster(folder=base / template_name(binaries), account=account, binaries=binaries)
    cluster.prepare(sync=True)
    return cluster.data


def _start_private(cluster: Cluster, lock: IO[bytes], settings: Mapping[str, str], template: Path) -> Embedded:
    cluster.prepare(template)
    socket_dir = cluster.socket_dir()
    try:
        child = cluster.start_child(socket_dir, settings)
    except BaseException:
        _remove_socket_dir(socket_dir)
        raise
    return Embedded(
        pid=child.pid,
        data_dir=cluster.data,
        socket_dir=socket_dir,
        folder=cluster.folder,
        private=True,
        started=True,
        version=cluster.binaries.version,
        child=child,
        lock=lock,
    )


def _sweep(private: Path) -> None:
    """Removes the throw-away clusters of runs that were killed together with their guard."""
    if not private.is_dir():
        return
    for folder in private.iterdir():
        try:
            lock = (folder / "lock").open("r+b")
        except OSError:
            continue  # it is being removed right now
        with lock:
            data = folder / "pg" / "data"
            if not _try_lock(lock):
                continue  # its run is going on
            found = read_pid_file(data)
            if found and is_server(found.pid, data):
                continue  # its guard is just ending the server
            end_orphans(data)
            shutil.rmtree(folder, ignore_errors=True)
