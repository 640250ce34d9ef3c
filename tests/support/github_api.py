"""A local HTTP server that plays GitHub's issue API, faults included: ``with GitHubApi() as api: api.url``.

`faults` are answered first, one per request that fits: (method, status, headers, body); a status of 0 carries the
request out and then breaks the connection, so that its answer is lost.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "ghp_playedForTests0123456789"


@dataclass
class Fault:
    method: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


class GitHubApi:
    """The issues of owner/name."""

    def __init__(self, page_size: int = 100) -> None:
        self.issues: list[dict[str, Any]] = []
        self.comments: dict[int, list[str]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        """Method and path of every request."""
        self.page_size = page_size
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = json.loads(self.rfile.read(length)) if length else None
                status, headers, body = api.answer(self.command, self.path, dict(self.headers), content)
                if status == 0:
                    self.close_connection = True
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _any

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> GitHubApi:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(
        self, method: str, target: str, headers: dict[str, str], content: Any
    ) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body."""
        parts = urlsplit(target)
        self.requests.append(f"{method} {parts.path}")
        if headers.get("Authorization", "").split(" ")[-1] != TOKEN:
            return 401, {}, {"message": f"Bad credentials {headers.get('Authorization')}"}
        fault = next((f for f in self.faults if f.method == method), None)
        if fault is not None:
            self.faults.remove(fault)
            if fault.status == 0:
                self._routed(method, parts.path, parse_qs(parts.query), content)
            return fault.status, fault.headers, fault.body if fault.body is not None else {"message": "fault"}
        return self._routed(method, parts.path, parse_qs(parts.query), content)

    def _routed(
        self, method: str, path: str, query: dict[str, list[str]], content: Any
    ) -> tuple[int, dict[str, str], Any]:
        m = re.fullmatch(r"/repos/owner/name/issues(?:/(\d+))?(/comments)?", path)
        if m is None:
            return 404, {}, {"message": "Not Found"}
        if m[1] is None:
            return self._list(query) if method == "GET" else self._create(content)
        found = next((i for i in self.issues if i["number"] == int(m[1])), None)
        if found is None:
            return 404, {}, {"message": "Not Found"}
        said = self.comments.setdefault(found["number"], [])
        if m[2]:
            if method == "POST":
                said.append(content["body"])
                return 201, {}, {"id": len(said), "body": content["body"]}
            return 200, {}, self._page([{"body": text} for text in said], query)
        if method == "PATCH":
            if "labels" in content:
                content["labels"] = [{"name": name} for name in content["labels"]]
            found.update(content)
        return 200, {}, found

    def _list(self, query: dict[str, list[str]]) -> tuple[int, dict[str, str], Any]:
        wanted = set(query.get("labels", [""])[0].split(",")) - {""}
        fit = [
            i for i in self.issues
            if i["state"] == query["state"][0] and wanted <= {label["name"] for label in i["labels"]}
        ]  # fmt: skip
        return 200, {}, self._page(fit, query)

    def _page(self, entries: list[Any], query: dict[str, list[str]]) -> list[Any]:
        size = min(self.page_size, int(query["per_page"][0]))
        first = (int(query["page"][0]) - 1) * size
        return entries[first : first + size]

    def _create(self, content: Any) -> tuple[int, dict[str, str], Any]:
        if not isinstance(content.get("title"), str) or len(content["body"]) > 65_536:
            return 422, {}, {"message": "Validation Failed"}
        return 201, {}, self.add(content["title"], content["body"], content["labels"])

    def add(self, title: str, body: str, labels: list[str]) -> dict[str, Any]:
        """An open issue, as if it had been filed."""
        number = len(self.issues) + 1
        entry = {
            "number": number, "state": "open", "title": title, "body": body,
            "html_url": f"{self.url}/owner/name/issues/{number}", "labels": [{"name": name} for name in labels],
        }  # fmt: skip
        self.issues.append(entry)
        return entry
