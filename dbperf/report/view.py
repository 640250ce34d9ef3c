"""`dbperf view`: the runs of a folder in the browser. Read-only, and for this machine only.

Listens on the loopback address. A page elsewhere can still send a browser here under a name of its own (DNS
rebinding), so that requests whose Host is not the loopback are refused. Nothing is written: reports are rendered from
the records as they are asked for.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from dbperf.errors import DbperfError, OutputError, RecordError
from dbperf.records.rundir import RunDirectory
from dbperf.report.build import build_report
from dbperf.report.history import read_history, run_folders
from dbperf.report.html import render_html
from dbperf.report.index import render_error, render_index
from dbperf.report.markdown import render_markdown

HOST = "127.0.0.1"
_HTML = "text/html; charset=utf-8"
_FILES = {"report.html": _HTML, "summary.md": "text/markdown; charset=utf-8", "report.json": "application/json"}


class Viewer:
    """A server for a folder of runs.

    Raises (from the constructor):
        RecordError: there is no such folder.
        OutputError: the port is taken.
    """

    def __init__(self, root: Path, *, port: int = 0) -> None:
        run_folders(root)
        handler = type("Handler", (_Handler,), {"root": root})
        try:
            self._server = ThreadingHTTPServer((HOST, port), handler)
        except OSError as e:
            raise OutputError(
                f"port {port} on {HOST} can't be used: {e.strerror}", hint="--port 0 takes a free one"
            ) from e
        self._server.daemon_threads = True
        self._serving = False

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._server.server_address[0])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}/"

    def serve(self) -> None:
        """Serves until `close` is called from elsewhere, or KeyboardInterrupt."""
        self._serving = True
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._serving = False

    def close(self) -> None:
        """Ends `serve`, where it runs in another thread, and frees the port."""
        if self._serving:
            self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    server_version = "dbperf"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answers a request."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without the body."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if not self._from_here():
            self._send(
                HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", "dbperf view answers to 127.0.0.1 only\n", body
            )
            return
        try:
            kind, text = self._page(unquote(urlsplit(self.path).path))
        except _NotFoundError as e:
            self._send(HTTPStatus.NOT_FOUND, _HTML, render_error("Not found", str(e)), body)
        except DbperfError as e:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, _HTML, render_error("Can't be shown", e.message), body)
        else:
            self._send(HTTPStatus.OK, kind, text, body)

    def _from_here(self) -> bool:
        host = self.headers.get("Host", "")
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        return host in (f"127.0.0.1:{port}", f"localhost:{port}")

    def _page(self, path: str) -> tuple[str, str]:
        if path == "/":
            return _HTML, render_index(read_history(self.root), self.root)
        parts = path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "runs" and parts[2] in _FILES:
            # The folder is one of those found, never a path made of what was asked for.
            folder = next((p for p in run_folders(self.root) if p.name == parts[1]), None)
            if folder is not None:
                return _FILES[parts[2]], _rendered(folder, parts[2], _stamp(folder))
        raise _NotFoundError(f"there is no {quote(path)} here")

    def _send(self, status: HTTPStatus, kind: str, text: str, body: bool) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing: the library never prints."""


class _NotFoundError(Exception):
    pass


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of a run's records: what a rendered report depends on."""
    try:
        found = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.glob("*.json")]
    except OSError as e:
        raise RecordError(f"{folder.name} can't be read: {e.strerror}") from e
    return tuple(sorted(found))


@lru_cache(maxsize=16)
def _rendered(folder: Path, name: str, stamp: tuple[tuple[str, int, int], ...]) -> str:  # noqa: ARG001 - the cache's key
    report = build_report(RunDirectory.open(folder))
    if name == "report.html":
        return render_html(report)
    return render_markdown(report) if name == "summary.md" else report.to_json().decode()
