"""Calls an ASGI application without a server: lifespan, requests, answers. For `dbperf trace` and for profiling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from dbperf.errors import TargetError, UsageError


class AppRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a requests file. `data` is sent as JSON, `body` as it is."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = {}
    data: Any = None
    body: str | None = None
    repeat: int = 1


class AppResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; `error` says what the application raised, or that it gave no answer in time."""

    status: int | None
    size_bytes: int
    error: str | None = None


def read_requests(path: Path) -> list[AppRequest]:
    """The requests of a file: lines of JSON ({"method", "path", "headers", "data", "body", "repeat"}), lines like
    "GET /path", or one JSON array. Empty lines and lines that start with # are left out.

    Raises:
        UsageError: there is no such file, or a line is none of these; it is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", hint="one request per line, like: GET /health") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} can't be read: {e}") from e
    if text.lstrip().startswith("["):
        try:
            return msgspec.json.decode(text.encode(), type=list[AppRequest])
        except (msgspec.DecodeError, msgspec.ValidationError) as e:
            raise UsageError(f"{path}: {e}") from e
    found = [_line(line.strip(), f"{path}, line {n}") for n, line in enumerate(text.splitlines(), 1)]
    requests = [r for r in found if r is not None]
    if not requests:
        raise UsageError(f"{path} holds no request", hint="one request per line, like: GET /health")
    return requests


def _line(line: str, where: str) -> AppRequest | None:
    if not line or line.startswith("#"):
        return None
    if line.startswith("{"):
        try:
            return msgspec.json.decode(line.encode(), type=AppRequest)
        except (msgspec.DecodeError, msgspec.ValidationError) as e:
            raise UsageError(f"{where}: {e}") from e
    method, _, path = line.partition(" ")
    path, _, body = path.strip().partition(" ")
    if not method.isalpha() or not path.startswith("/"):
        raise UsageError(f"{where}: {line[:60]!r} is no request", hint="write it as: GET /health, or as JSON")
    return AppRequest(
        method=method.upper(), path=path, body=body or None,
        headers={"content-type": "application/json"} if body else {},
    )  # fmt: skip


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Starts and stops an application as a server would. One without lifespan support is left alone.

    Raises:
        TargetError: its start-up failed.
    """
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: Any) -> None:
        await from_app.put(dict(message))

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, to_app.get, send)
        finally:
            await from_app.put({"type": "ended"})

    task = asyncio.create_task(run())
    await to_app.put({"type": "lifespan.startup"})
    first = await from_app.get()
    if first["type"] == "lifespan.startup.failed":
        await asyncio.wait([task])
        task.exception()
        raise TargetError(f"the application's start-up failed: {str(first.get('message') or '').strip()[-300:]}")
    supported = first["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        if supported:
            await to_app.put({"type": "lifespan.shutdown"})
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None and supported:
            raise TargetError(f"the application's shutdown failed: {error}") from error


async def call(app: Any, request: AppRequest, *, timeout_s: float = 60.0) -> AppResponse:
    """One request, answered by the application in this process. What it raises is part of the answer."""
    url = urlsplit(request.path)
    body = (request.body or "").encode()
    headers = {k.lower(): v for k, v in request.headers.items()}
    if request.data is not None:
        body = json.dumps(request.data).encode()
        headers.setdefault("content-type", "application/json")
    headers.setdefault("host", "dbperf")
    headers["content-length"] = str(len(body))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method.upper(),
        "scheme": "http", "path": unquote(url.path), "raw_path": url.path.encode(), "query_string": url.query.encode(),
        "root_path": "", "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 0), "server": ("dbperf", 80), "state": {},
    }  # fmt: skip
    sent = False
    status: int | None = None
    size = 0
    complete = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await complete.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, size
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                complete.set()

    error: str | None = None
    try:
        async with asyncio.timeout(timeout_s):
            await app(scope, receive, send)
    except TimeoutError:
        error = f"no answer within {timeout_s:g} s"
    except Exception as e:  # noqa: BLE001 - whatever an application raises is what is reported of it
        error = f"{type(e).__name__}: {e}"
    return AppResponse(status=status, size_bytes=size, error=error)


async def call_all(
    app: Any, requests: Sequence[AppRequest], *, rounds: int = 1, concurrency: int = 1, timeout_s: float = 60.0
) -> list[AppResponse]:
    """All requests, `rounds` times, `concurrency` at once, in the file's order."""
    todo = [r for _ in range(rounds) for r in requests for _ in range(r.repeat)]
    out: list[AppResponse | None] = [None] * len(todo)
    pending = iter(range(len(todo)))

    async def worker() -> None:
        for i in pending:
            out[i] = await call(app, todo[i], timeout_s=timeout_s)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return [r for r in out if r is not None]
