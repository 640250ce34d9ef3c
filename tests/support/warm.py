"""Commands of dbperf in processes that need not import it again.

One process for each test process imports dbperf once and forks for each command: what runs is a process of its own,
with the environment, the folder and the files of its caller, as `python -m dbperf` is. The imports of a command take
0.5 s of a slow machine's processor, some hundred times in the suite.

What a fork can't have of its own is what Python settles at its start: its `PYTHON*` variables and locale (who sets
others gets a new process), and the seed of its hashes (who compares the outputs of two runs asks for new ones).
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

_ROOT = Path(__file__).parents[2]
_SETTLED = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")
AVAILABLE = hasattr(os, "pidfd_open")
"""Linux."""


def run(
    args: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `dbperf ARGS` to its end, as `subprocess.run(..., capture_output=True, text=True)` does."""
    command = [sys.executable, "-m", "dbperf", *args]
    if not AVAILABLE or _settled(env) != _settled(os.environ):
        return subprocess.run(
            command, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    (its_in, to_in), (from_out, its_out), (from_err, its_err), (status, its_status) = (os.pipe() for _ in range(4))
    try:
        request = {"args": list(args), "env": dict(env), "cwd": str(cwd)}
        _server().ask(request, [its_in if stdin is not None else 0, its_out, its_err, its_status])
    finally:
        for fd in (its_in, its_out, its_err, its_status):
            os.close(fd)
    said: dict[int, bytes] = {}

    def read(fd: int) -> None:
        with os.fdopen(fd, "rb") as stream:
            said[fd] = stream.read()

    readers = [threading.Thread(target=read, args=[fd], daemon=True) for fd in (from_out, from_err)]
    for reader in readers:
        reader.start()
    with os.fdopen(status, "rb", buffering=0) as told:
        pid = int(_line(told))
        with suppress(BrokenPipeError), os.fdopen(to_in, "wb") as given:  # it need not read what it is given
            given.write((stdin or "").encode())
        deadline = time.monotonic() + timeout
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout)
        code = os.waitstatus_to_exitcode(int(_line(told)))
    out, err = (said[fd].decode().replace("\r\n", "\n") for fd in (from_out, from_err))
    return subprocess.CompletedProcess(command, code, out, err)


def _settled(env: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if k.startswith(_SETTLED)}


def _line(stream: BinaryIO) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        more = stream.read(1)
        assert more, "the process that forks has ended"
        found += more
    return found


class _Server:
    def __init__(self) -> None:
        self._socket, its = socket.socketpair()
        self._lock = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm", str(its.fileno())], cwd=_ROOT, pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, request: Mapping[str, object], fds: list[int]) -> None:
        line = json.dumps(request).encode()
        with self._lock:
            socket.send_fds(self._socket, [len(line).to_bytes(8)], fds)
            self._socket.sendall(line)


@cache
def _server() -> _Server:
    """It ends with this process: at the end of its socket, also where this one is killed."""
    return _Server()


def _serve(asks: socket.socket) -> dict[str, object] | None:
    """Forks for each request. Returns the request in the child, None at the end in the parent."""
    poller, running = select.poll(), dict[int, tuple[int, int]]()
    poller.register(asks, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd != asks.fileno():
                poller.unregister(fd)
                pid, status = running.pop(fd)
                with suppress(OSError):  # who asked has gone
                    os.write(status, b"%d\n" % os.waitpid(pid, 0)[1])
                os.close(status)
                os.close(fd)
                continue
            head, given, _, _ = socket.recv_fds(asks, 8, 4)
            if not head:
                return None
            size, line = int.from_bytes(head), b""
            while len(line) < size:
                line += asks.recv(size - len(line))
            pid = os.fork()
            if pid == 0:
                asks.close()
                for to, own in enumerate(given[:3]):
                    os.dup2(own, to)
                for own in (*given, *running, *(s for _, s in running.values())):
                    os.close(own)
                request: dict[str, object] = json.loads(line)
                return request
            os.write(given[3], b"%d\n" % pid)
            for own in given[:3]:
                os.close(own)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, given[3]
            poller.register(pidfd, select.POLLIN)


def _import_all() -> None:
    """What the commands import; not what only pytest imports."""
    from importlib import import_module
    from pkgutil import walk_packages

    import dbperf

    for module in walk_packages(dbperf.__path__, "dbperf."):
        if not module.name.startswith(("dbperf.__main__", "dbperf.bench.plugin", "dbperf.phase3")):
            import_module(module.name)


def _main() -> None:
    import gc

    from dbperf.cli.main import main

    # The modules of a user's project come from the folder in which a command is called.
    sys.path.pop(0)
    _import_all()
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    args, env, cwd = request["args"], request["env"], request["cwd"]
    assert isinstance(args, list)
    assert isinstance(env, dict)
    assert isinstance(cwd, str)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = [str(Path(main.__code__.co_filename).parents[1] / "__main__.py"), *args]
    main()


if __name__ == "__main__":
    _main()
