"""Child processes that end with dbperf, even when dbperf is killed with SIGKILL.

Beside each child runs a guard: a small `sh` that holds the reading end of a pipe whose writing end only dbperf has.
When dbperf ends without saying that the child has been dealt with, for whatever reason, the guard reads end-of-file,
ends the child's process group, and removes the folder that was to vanish with it. (PR_SET_PDEATHSIG would not do:
it exists on Linux only, is cleared when a process changes its user, and follows the thread that forked.)
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from dbperf.errors import DbperfError, ServerError

PIPE = subprocess.PIPE

# The child writes its own pid to the guard's pipe (which it has as stdin) before it becomes the program: from the fork
# on, the pipe stays open until the guard knows whom to end, so there is no moment in which dbperf can die unnoticed.
_LAUNCH = 'echo "$$" >&0; exec "$@" </dev/null'

# $1: signals, each with the tenths of a second to wait after it; $2: a folder to remove, or nothing.
_GUARD = """
read -r pid || exit 0
read -r word
[ "$word" = done ] && exit 0
for step in $1; do
  kill -s "${step%:*}" -- "-$pid" 2>/dev/null
  i=0
  while [ "$i" -lt "${step#*:}" ]; do
    kill -0 -- "-$pid" 2>/dev/null || break 2
    sleep 0.1
    i=$((i + 1))
  done
done
kill -s KILL -- "-$pid" 2>/dev/null
[ -z "$2" ] || rm -rf -- "$2"
"""


class Child:
    """A running child process, the leader of a session and process group of its own.

    Ctrl-C in the terminal reaches only dbperf, which ends its children in the order it chooses. Use it as a context
    manager, or call `stop`. Not safe to use from several threads at once.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        guard: subprocess.Popen[bytes],
        pipe: int,
        *,
        name: str,
        signals: Sequence[signal.Signals],
        log: Path | None,
    ) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._guard = guard
        self._pipe: int | None = pipe
        self._signals = tuple(signals)

    @classmethod
    def start(
        cls,
        args: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        user: str | None = None,
        log: Path | None = None,
        stdout: int | None = None,
        name: str | None = None,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        guard_grace_s: float = 5,
        remove: Path | None = None,
    ) -> Child:
        """Starts a program.

        Args:
            args: the program (looked up on PATH) and its arguments.
            env: the whole environment; dbperf's own by default.
            user: the account to run as; only root may change it.
            log: a file to which standard error, and standard output unless `stdout` is given, are appended.
                Both are discarded by default: dbperf's own stdout is for results.
            stdout: `PIPE`, to read what the program prints from `.stdout`.
            name: what messages call it; the program's name by default.
            stop_signals: sent in this order, a grace period apart, before SIGKILL. SIGTERM by default, because SIGINT
                is ignored by many programs when dbperf was itself started in the background.
            guard_grace_s: the grace period after each signal when the guard ends the child in dbperf's place.
            remove: a folder that the guard deletes when it has ended the child in dbperf's place. (`stop` leaves it:
                the caller may want to read it first.)

        Raises:
            ServerError: the program does not exist, or can't be started.
        """
        program = os.fspath(args[0])
        name = name or Path(program).name
        if shutil.which(program, path=(env or os.environ).get("PATH")) is None:
            raise ServerError(f"{name} can't be started: there is no program {program}")
        steps = " ".join(f"{s.name.removeprefix('SIG')}:{max(1, round(guard_grace_s * 10))}" for s in stop_signals)
        reading, writing = os.pipe()
        guard: subprocess.Popen[bytes] | None = None
        try:
            guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "dbperf-guard", steps, os.fspath(remove or "")],
                stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
            )  # fmt: skip
            with open(log or os.devnull, "ab") as sink:  # noqa: PTH123 - os.devnull is a name, not a path of ours
                process = subprocess.Popen(
                    ["/bin/sh", "-c", _LAUNCH, "sh", *(os.fspath(a) for a in args)],
                    stdin=writing,
                    stdout=sink if stdout is None else stdout,
                    stderr=sink,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                    user=user,
                    group=None if user is None else pwd.getpwnam(user).pw_gid,
                    extra_groups=None if user is None else [],
                )
        except OSError as e:
            os.close(writing)
            if guard is not None:
                guard.wait()
            raise ServerError(f"{name} can't be started: {e.strerror or e}") from e
        finally:
            os.close(reading)
        return cls(process, guard, writing, name=name, signals=stop_signals, log=log)

    @property
    def pid(self) -> int:
        """The process id; also the id of its process group."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """What the program prints, where it was started with `stdout=PIPE`."""
        return self._process.stdout

    @property
    def returncode(self) -> int | None:
        """As of the last `poll`, `wait` or `stop`: the exit code, -N where signal N ended it, None while it runs."""
        return self._process.returncode

    def poll(self) -> int | None:
        """The exit code, or None while the program runs."""
        code = self._process.poll()
        if code is not None:
            self._settle()
        return code

    def ended_words(self) -> str | None:
        """How it ended: "by signal 11 (SIGSEGV)", "with exit code 3"; None while it runs."""
        code = self.poll()
        if code is None:
            return None
        if code >= 0:
            return f"with exit code {code}"
        known = -code in {s.value for s in signal.Signals}
        return f"by signal {-code}" + (f" ({signal.Signals(-code).name})" if known else "")

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end; None where the program still runs after `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process group; nothing happens where it has ended."""
        if self._process.poll() is None:
            _signal_group(self.pid, number)

    def stop(self, grace_s: float = 5) -> int | None:
        """Ends the process group: each stop signal with `grace_s` after it, then SIGKILL. Returns the exit code."""
        for number in self._signals:
            self.signal(number)
            if self.wait(grace_s) is not None:
                break
        else:
            self.signal(signal.SIGKILL)
            self._process.wait()
        self._settle()
        if self._process.stdout:
            self._process.stdout.close()
        return self._process.returncode

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the log, for messages; empty where there is none."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _settle(self) -> None:
        """After the leader's end: ends what it left behind in its group, and tells the guard to go."""
        if self._pipe is None:
            return
        _signal_group(self.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):  # somebody killed the guard
            os.write(self._pipe, b"done\n")
        os.close(self._pipe)
        self._pipe = None
        self._guard.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal_group(pgid: int, number: signal.Signals) -> None:
    # No such group: it has ended. No permission: what macOS answers for a group that consists of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listened on a moment ago.

    Raises:
        DbperfError: the system has no free port.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        try:
            s.bind(("127.0.0.1", 0))
        except OSError as e:
            raise DbperfError(f"no free TCP port on 127.0.0.1: {e.strerror}") from e
        port: int = s.getsockname()[1]
        return port


def usable_cpus() -> int:
    """CPUs by affinity, at most the cgroup's quota (cgroup v2 cpu.max: quota and period in µs)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, round(int(quota) / int(period))))
