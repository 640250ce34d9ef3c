"""Requests to a base URL for benchmarks: one connection kept open, as a client's pool would."""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from dbperf.errors import TargetError, UsageError


class HttpClient:
    """``client.request("POST", "/search", json={"query": "x"})``; answers of 400 and above are errors."""

    def __init__(self, url: str, *, headers: dict[str, str] | None = None, timeout_s: float = 60) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no URL of an API", hint="write it as http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = headers or {}

    def request(self, method: str, path: str, *, json_body: Any = None) -> bytes:
        """The body of the answer.

        Raises:
            TargetError: no answer, or a status of 400 or above.
        """
        body = None if json_body is None else json.dumps(json_body).encode()
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            self._connection.request(method, self._prefix + path, body=body, headers=headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as e:
            self._connection.close()
            raise TargetError(f"{method} {self.url}{path}: {type(e).__name__}: {e}") from e
        if answer.status >= 400:
            raise TargetError(f"{method} {self.url}{path} was answered {answer.status}: {content[:200]!r}")
        return content

    def get(self, path: str) -> bytes:
        return self.request("GET", path)

    def post(self, path: str, json_body: Any = None) -> bytes:
        return self.request("POST", path, json_body=json_body)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
