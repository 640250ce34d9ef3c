"""Starts the reference target as a child process on a free loopback port."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from dbperf.errors import TargetError
from dbperf.phase3.service import ImplementationName
from dbperf.phase3.settings import Settings
from dbperf.processes import Child, free_port

HEALTH = "/reflection/health"
_START_S = 30
_TRIES = 3


class RunningTarget:
    """A reference target that runs. A context manager; it ends with dbperf."""

    def __init__(self, child: Child, *, url: str, api_key: str, scratch: Path | None) -> None:
        self.url = url
        self.api_key = api_key
        self._child = child
        self._scratch = scratch

    @property
    def pid(self) -> int:
        """The server process; with several workers, their supervisor."""
        return self._child.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._child.poll()

    def ended_words(self) -> str | None:
        """How it ended, where it did so by itself; None while it runs."""
        return self._child.ended_words()

    def stop(self) -> None:
        """Ends it; does nothing the second time."""
        self._child.stop()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> RunningTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_target(
    dsn: str,
    implementation: ImplementationName,
    *,
    workers: int = 1,
    pool_size: int = 20,
    port: int | None = None,
    api_key: str | None = None,
    log: Path | None = None,
    settings: Settings | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunningTarget:
    """Starts the API over a seeded database and waits until it answers. Blocks for about a second.

    Args:
        dsn: the database that `seed` has filled.
        workers: processes; each has a pool of its own.
        pool_size: connections per worker, at most.
        port: on 127.0.0.1; a free one by default.
        api_key: a random one by default.
        log: where the server's messages go; a temporary file by default.
        settings: instead of dsn, implementation, pool_size and api_key, where more is to be set.
        environment: more variables for the server process, for example those that trace it.

    Raises:
        TargetError: it did not start; the message ends with the last line of its log.
    """
    chosen = settings or Settings(
        dsn=dsn, implementation=implementation, api_key=api_key or new_key(), pool_size=pool_size
    )
    scratch = None if log else Path(tempfile.mkdtemp(prefix="dbperf-target-"))
    messages = log or Path(str(scratch)) / "target.log"
    try:
        for attempt in range(_TRIES):
            chosen_port = port or free_port()
            child = Child.start(
                command(chosen_port, workers),
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ, **(environment or {}), **chosen.environment()},
                log=messages,
                name="the reference target",
            )
            url = f"http://127.0.0.1:{chosen_port}"
            try:
                wait_until_healthy(url, chosen.api_key, child.poll, lambda c=child: c.log_tail(1))  # type: ignore[misc]  # a default argument binds the loop's variable
            except TargetError as e:
                child.stop()
                # Between free_port and here somebody else may have taken the port.
                if port is None and "already in use" in e.message and attempt + 1 < _TRIES:
                    continue
                raise
            except BaseException:
                child.stop()
                raise
            return RunningTarget(child, url=url, api_key=chosen.api_key, scratch=scratch)
        raise TargetError("the reference target found no free port")
    except BaseException:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise


def new_key() -> str:
    """A key for X-API-Key."""
    return secrets.token_urlsafe(18)


def command(port: int, workers: int) -> list[str]:
    """The server's command line; its settings are in the environment."""
    # -P: what lies in the current folder must not stand in for a module.
    return [sys.executable, "-P", "-m", "dbperf.phase3", "--port", str(port), "--workers", str(workers)]


def wait_until_healthy(url: str, api_key: str, poll: Callable[[], int | None], last_line: Callable[[], str]) -> None:
    """Returns when the health endpoint answers 200.

    Raises:
        TargetError: the process ended, or does not answer within 30 s.
    """
    deadline = time.monotonic() + _START_S
    answer: str | None = None
    while time.monotonic() < deadline:
        if (code := poll()) is not None:
            raise TargetError(f"the reference target did not start (exit code {code}): {last_line() or 'no message'}")
        status = health(url, api_key)
        if status == 200:
            return
        answer = f"it answers {status}" if status else answer
        time.sleep(0.05)
    raise TargetError(f"the reference target is not healthy after {_START_S} s: {answer or last_line() or 'no answer'}")


def health(url: str, api_key: str) -> int | None:
    """The status of the health endpoint; None: nobody answers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", HEALTH, headers={"X-API-Key": api_key})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
