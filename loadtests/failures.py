"""What went wrong with a request, in the words of a person who has to find out why."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Any, NamedTuple

import gevent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.useragent import EmptyResponse
from locust.exception import CatchResponseError

_NETWORK: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror,), "unknown host"),
    ((ssl.SSLError,), "tls"),
    ((ConnectionRefusedError,), "connection refused"),
    ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "connection reset"),
    ((HTTPConnectionClosed, EmptyResponse), "connection closed"),
    ((HTTPParseError,), "bad response"),
)
_CODE = re.compile(r"code=(\d{3})")


class Failure(NamedTuple):
    kind: str
    """"http 500", "timeout", "connection refused", "connection reset", "unknown host", "tls", "check failed", ..."""
    status: int | None
    message: str
    answered: bool
    """Whether there was a response, so that its time says something about the server."""


class StatusError(Exception):
    """A response with a status that the suite does not expect."""

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(f"status {status}" + (f": {detail}" if detail else ""))
        self.status = status


class TotalTimeout(Exception):
    """The whole request took longer than the endpoint's timeout."""


def classify(error: BaseException, response: Any = None) -> Failure:
    """The kind of a failure, from the exception that a request event carries."""
    error = _innermost(error)
    message = re.sub(r"\s+", " ", str(error) or type(error).__name__)[:200]
    if isinstance(error, CatchResponseError | AssertionError):
        return Failure("check failed", getattr(response, "status_code", None) or None, message, True)
    if isinstance(error, TotalTimeout | gevent.Timeout | TimeoutError) or "timed out" in message:
        return Failure("timeout", None, message, False)
    status = _status(error)  # before the network: requests' HTTPError is an OSError
    if status is None and (kind := _network(error)):
        return Failure(kind, None, message, False)
    kind = f"http {status}" if status else type(error).__name__
    return Failure(kind, status, message, status is not None)


def _status(error: BaseException) -> int | None:
    """The status in the scenario's own exception, or in one of Locust's clients, which a user's locustfile uses."""
    if isinstance(error, StatusError):
        return error.status
    if m := _CODE.search(str(error)):  # FastHttpUser: LocustBadStatusCode
        return int(m[1])
    status = getattr(getattr(error, "response", None), "status_code", None)  # HttpUser: requests' HTTPError
    return status if isinstance(status, int) and status else None


def _network(error: BaseException) -> str | None:
    for kinds, name in _NETWORK:
        if isinstance(error, kinds):
            return name
    if isinstance(error, OSError):
        return f"network: {errno.errorcode.get(error.errno or 0, type(error).__name__)}"
    return None


def _innermost(error: BaseException) -> BaseException:
    """geventhttpclient wraps in `original`, requests and urllib3 in `reason`, args and __context__."""
    seen = 0
    while seen < 6:
        seen += 1
        inner = getattr(error, "original", None) or getattr(error, "reason", None)
        if not isinstance(inner, BaseException) and type(error).__module__.startswith(("requests", "urllib3")):
            inner = next((a for a in error.args if isinstance(a, BaseException)), error.__context__)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error
