"""Reference targets that outlive the command that started them, known by a state file each in the cache folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from dbperf.errors import OutputError, RecordError, TargetError
from dbperf.phase3.launch import command, health, new_key, wait_until_healthy
from dbperf.phase3.settings import Settings
from dbperf.postgres.connect import mask_dsn
from dbperf.processes import free_port
from dbperf.records.base import Document, read_document, write_atomic


class TargetState(Document, frozen=True, kw_only=True):
    """One background target. The file is readable by its owner only: it holds the key."""

    kind: ClassVar[str] = "target"
    file_name: ClassVar[str] = "target.json"

    url: str
    pid: int
    started_at_s: float
    """When the process started (epoch), as the system has it: tells it from a later one with the same pid."""
    api_key: str
    dsn: str
    """With the password masked."""
    implementation: str
    workers: int
    log: str


def start(folder: Path, settings: Settings, *, port: int | None = None, workers: int = 1) -> TargetState:
    """Starts a target in the background, or returns the one that already serves this database and implementation.

    Raises:
        OutputError: the folder can't be written.
        TargetError: it did not start; another port or number of workers was asked for than the running one has.
    """
    _prepare(folder)
    name = _name(settings)
    running = _alive(folder / f"{name}.json")
    if running is not None:
        if health(running.url, running.api_key) == 200:
            if workers != running.workers or (port and not running.url.endswith(f":{port}")):
                raise TargetError(
                    f"this target already runs at {running.url} with {running.workers} worker(s)",
                    hint="dbperf target down first",
                )
            return running
        stop(folder, running)
    log = folder / f"{name}.log"
    log.unlink(missing_ok=True)
    chosen = port or free_port()
    url = f"http://127.0.0.1:{chosen}"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command(chosen, workers), env={**os.environ, **settings.environment()}, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
    try:
        wait_until_healthy(url, settings.api_key, process.poll, lambda: _last_line(log))
        state = TargetState(
            url=url, pid=process.pid, started_at_s=psutil.Process(process.pid).create_time(), api_key=settings.api_key,
            dsn=mask_dsn(settings.dsn), implementation=settings.implementation, workers=workers, log=str(log),
        )  # fmt: skip
        _write(folder / f"{name}.json", state)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    # It is meant to go on; without this, Python would warn that nobody waits for it.
    process.returncode = 0
    return state


def find(folder: Path, settings: Settings) -> TargetState | None:
    """The target that runs over this database with this implementation."""
    return _alive(folder / f"{_name(settings)}.json")


def running(folder: Path) -> list[TargetState]:
    """The targets that run; state files of others are removed."""
    states = (_alive(path) for path in sorted(folder.glob("*.json")))
    return [s for s in states if s is not None]


def stop(folder: Path, state: TargetState, *, grace_s: float = 5) -> None:
    """Ends a target and forgets it."""
    for path in folder.glob("*.json"):
        if _read(path) == state:
            path.unlink(missing_ok=True)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _is_running(state):
            return
        with suppress(ProcessLookupError):
            os.killpg(state.pid, number)
        deadline = time.monotonic() + grace_s
        while _is_running(state) and time.monotonic() < deadline:
            time.sleep(0.02)


def new_settings(dsn: str, implementation: str, *, pool_size: int = 20) -> Settings:
    """Settings with a fresh key.

    Raises:
        ConfigError: there is no such implementation.
    """
    given = {"DSN": dsn, "IMPLEMENTATION": implementation, "API_KEY": new_key(), "POOL_SIZE": str(pool_size)}
    return Settings.from_environment({f"DBPERF_PHASE3_{k}": v for k, v in given.items()})


def _name(settings: Settings) -> str:
    return hashlib.sha256(f"{settings.dsn}\n{settings.implementation}".encode()).hexdigest()[:16]


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise OutputError(f"{folder} can't be written: {e.strerror}", hint="choose another with --cache-dir") from e


def _write(path: Path, state: TargetState) -> None:
    write_atomic(path, state.to_json())
    path.chmod(0o600)


def _read(path: Path) -> TargetState | None:
    try:
        return read_document(TargetState, path)
    except RecordError:  # of another version, or half gone: it names no process that we could be sure of
        return None


def _alive(path: Path) -> TargetState | None:
    state = _read(path) if path.exists() else None
    if state is not None and _is_running(state):
        return state
    path.unlink(missing_ok=True)
    return None


def _is_running(state: TargetState) -> bool:
    try:
        process = psutil.Process(state.pid)
        same = abs(process.create_time() - state.started_at_s) < 0.05
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
