"""Traces a server that somebody else starts: an environment in which uvicorn serves its application under trace.

The command stays as it is (`uvicorn app:app`, `python -m service`, several workers); a `sitecustomize` on PYTHONPATH
wraps what uvicorn loads. The application does not know, and needs no change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbperf.trace import hooks
from dbperf.trace.asgi import limit_of
from dbperf.trace.middleware import TraceMiddleware
from dbperf.trace.source import add_application, package_root

SITE = Path(__file__).parent / "_site"


def environment(out: Path, *, watch_loop: bool = True, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """What to add to a server's environment so that it writes its trace files to `out`.

    Args:
        base: the environment that the values will be added to (default: this process's), for PYTHONPATH.
    """
    existing = (os.environ if base is None else base).get("PYTHONPATH")
    # dbperf itself must be importable there: beside the server in one environment, or from this checkout.
    package = str(Path(__file__).resolve().parents[2])
    parts = [str(SITE), *([existing] if existing else []), package]
    return {
        "PYTHONPATH": os.pathsep.join(parts),
        "DBPERF_TRACE_DIR": str(out.resolve()),
        "DBPERF_TRACE_LOOP": "1" if watch_loop else "0",
    }


def traced(app: Any, named: Any) -> Any:
    """What uvicorn loaded, under trace. `named` is what uvicorn was given: "module:attribute" or an object."""
    hooks.install()
    if isinstance(named, str) and (root := package_root(named.partition(":")[0])):
        add_application([root])
    watch = os.environ.get("DBPERF_TRACE_LOOP", "1") != "0"
    name = named if isinstance(named, str) else type(named).__name__
    folder = os.environ["DBPERF_TRACE_DIR"]
    return TraceMiddleware(app, folder, watch_loop=watch, name=name, limit_bytes=limit_of(os.environ))
