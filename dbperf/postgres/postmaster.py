"""What the operating system says about a PostgreSQL server on a data folder: its pid file and its processes."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dbperf.errors import ServerError

_NAMES = frozenset({"postgres", "postmaster"})


@dataclass(frozen=True, kw_only=True)
class PidFile:
    """postmaster.pid, as written by the server (src/include/utils/pidfile.h)."""

    pid: int
    port: int
    socket_dir: str
    status: str
    """``starting``, ``stopping``, ``ready`` or ``standby``."""


def read_pid_file(data: Path) -> PidFile | None:
    """The pid file of a data folder; None where there is none or the server has not finished writing it."""
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise ServerError(f"{data / 'postmaster.pid'} can't be read: {e.strerror}") from e
    if not lines or not lines[0].strip().isdigit():
        return None
    lines += [""] * 8
    port = lines[3].strip()
    return PidFile(
        pid=int(lines[0]), port=int(port) if port.isdigit() else 5432, socket_dir=lines[4], status=lines[7].strip()
    )


def is_server(pid: int, data: Path) -> bool:
    """Whether `pid` is a live PostgreSQL process of this data folder, rather than some process that got its number."""
    try:
        process = psutil.Process(pid)
        if process.name() not in _NAMES or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # The server and all its processes work in the data folder.
        return _same(process.cwd(), data)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        # A PostgreSQL process of another account. It can't be ours, but it is not for us to call its file stale.
        return True


def processes_of(data: Path) -> list[psutil.Process]:
    """Every live PostgreSQL process of a data folder, postmaster and backends."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.name() in _NAMES and process.status() != psutil.STATUS_ZOMBIE and _same(process.cwd(), data):
                found.append(process)
    return found


def _same(cwd: str, data: Path) -> bool:
    # A deleted folder reads as "/path (deleted)".
    return cwd in {str(data), str(data.resolve()), f"{data} (deleted)"}


def end_orphans(data: Path) -> int:
    """Ends backends that a killed postmaster left behind; returns how many there were.

    They would end by themselves when they notice, but a busy one may take long to, and until the last of them has let
    go of the shared memory no new server starts. The caller made sure that no postmaster lives.
    """
    orphans = processes_of(data)
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGQUIT)
    _, alive = psutil.wait_procs(orphans, timeout=3)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=3)
    return len(orphans)


def stop_server(pid: int, data: Path, grace_s: float = 30) -> None:
    """Ends a running server: fast shutdown, then immediate shutdown, then SIGKILL to what is left.

    Raises:
        ServerError: it still runs.
    """
    for number, wait_s in ((signal.SIGINT, grace_s), (signal.SIGQUIT, 10)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not is_server(pid, data):
                return
            time.sleep(0.02)
    end_orphans(data)
    if is_server(pid, data):
        raise ServerError(f"the PostgreSQL server with pid {pid} does not end", hint=f"its data folder is {data}")


def complaints(log: str) -> str:
    """The lines of a server's log that say why it did not start, joined to one line.

    >>> complaints("LOG:  starting\\nFATAL:  lock file exists\\nHINT:  remove it\\n")
    'lock file exists; remove it'
    """
    found = re.findall(r"(?:FATAL|PANIC|ERROR|error|fatal|HINT|DETAIL): +(.+)", log)
    lines = list(dict.fromkeys(line.strip().rstrip(".") for line in found))
    return "; ".join(lines[-3:]) if lines else " ".join(log.split())[-300:]
