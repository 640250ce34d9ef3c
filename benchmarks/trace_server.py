"""The reference target, of whose requests the benchmark decides one by one whether they are traced.

The header X-Trace says how: 1 through the middleware, 0 past it, and - past it with the hooks taken out. /trace-threads
tells the CPU time of the trace's own threads so far, in nanoseconds by name. Settings come from the environment, as for
`python -m dbperf.phase3`; TRACES names the folder for the trace files.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn

from dbperf.trace import hooks
from dbperf.trace.middleware import TraceMiddleware


def threads_ns() -> dict[str, int]:
    """As proc(5), schedstat, has it."""
    ours = [t for t in threading.enumerate() if t.name.startswith("dbperf-trace")]
    return {t.name: int(Path(f"/proc/self/task/{t.native_id}/schedstat").read_text().split()[0]) for t in ours}


class InTurn:
    """An application with its traced self beside it."""

    def __init__(self, app: Any) -> None:
        self.plain = app
        self.traced = TraceMiddleware(app, os.environ["TRACES"], name="trace_server")
        self.hooked = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/trace-threads":
            body = json.dumps(threads_ns()).encode()
            length = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": body})
            return
        mode = dict(scope["headers"]).get(b"x-trace", b"1") if scope["type"] == "http" else b"1"
        if (mode != b"-") != self.hooked:
            self.hooked = not self.hooked
            # As many changes of the classes either way: each makes CPython forget what it knew of them.
            hooks.uninstall()
            hooks.install()
            if not self.hooked:
                hooks.uninstall()
        await (self.traced if mode == b"1" else self.plain)(scope, receive, send)


def main() -> None:
    """Serves on the port that it is given."""
    hooks.install()  # before the application's own imports, as `dbperf.trace.asgi` does it
    from dbperf.phase3.app import application

    uvicorn.run(InTurn(application()), host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")


main()
