"""`uvicorn --factory dbperf.trace.asgi:wrap`: an application under trace that does not know of it.

Environment:
    DBPERF_TRACE_APP       the application, "module:attribute"; with parentheses or DBPERF_TRACE_FACTORY=1 a factory
    DBPERF_TRACE_FACTORY   1: the attribute is a function that makes the application
    DBPERF_TRACE_DIR       folder for the trace files
    DBPERF_TRACE_LOOP      0: do not watch the event loop
    DBPERF_TRACE_LIMIT     size of the folder, such as 200MB; 0: no limit (default: 1GB)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from dbperf.errors import UsageError
from dbperf.trace import hooks
from dbperf.trace.middleware import TraceMiddleware
from dbperf.trace.parts import DEFAULT_LIMIT_BYTES
from dbperf.trace.source import add_application, package_root
from dbperf.units import parse_size_bytes

FACTORY = "dbperf.trace.asgi:wrap"


def environment(app: str, out: Path, *, factory: bool = False, watch_loop: bool = True) -> dict[str, str]:
    """What a server process needs in its environment to run `app` under trace through `FACTORY`."""
    return {
        "DBPERF_TRACE_APP": app,
        "DBPERF_TRACE_FACTORY": "1" if factory else "0",
        "DBPERF_TRACE_DIR": str(out.resolve()),
        "DBPERF_TRACE_LOOP": "1" if watch_loop else "0",
    }


def wrap() -> TraceMiddleware:
    """The application that the environment names, under trace.

    Raises:
        UsageError: the environment names none, or it can't be imported.
    """
    env: Mapping[str, str] = os.environ
    name = env.get("DBPERF_TRACE_APP", "")
    hooks.install()  # before the application's own imports
    app = load(name, factory=env.get("DBPERF_TRACE_FACTORY") == "1")
    out = env.get("DBPERF_TRACE_DIR", "traces")
    watch = env.get("DBPERF_TRACE_LOOP", "1") != "0"
    return TraceMiddleware(app, out, watch_loop=watch, name=name, limit_bytes=limit_of(env))


def limit_of(env: Mapping[str, str]) -> int | None:
    """The folder's limit that an environment asks for.

    Raises:
        UsageError: DBPERF_TRACE_LIMIT is no size.

    >>> limit_of({"DBPERF_TRACE_LIMIT": "200MB"}), limit_of({"DBPERF_TRACE_LIMIT": "0"})
    (209715200, None)
    """
    if (text := env.get("DBPERF_TRACE_LIMIT")) is None:
        return DEFAULT_LIMIT_BYTES
    return parse_size_bytes(text) or None


def load(name: str, *, factory: bool = False) -> Any:
    """The object that "module:attribute" names; called, where it is a factory.

    Raises:
        UsageError: it is not of that form, or there is no such module or attribute.
    """
    module_name, _, attribute = name.partition(":")
    if attribute.endswith("()"):
        attribute, factory = attribute[:-2], True
    if not module_name or not attribute:
        raise UsageError(f"{name!r} names no application", hint='write it as "package.module:app"')
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and (module_name == e.name or module_name.startswith(e.name + ".")):
            raise UsageError(f"there is no module {e.name!r}", hint="start from the folder that holds it") from e
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if root := package_root(module_name):
        add_application([root])
    return found() if factory else found
