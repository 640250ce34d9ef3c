"""Puts the hooks in and takes them out, once per process, each when the library it belongs to is there."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

from dbperf.trace import asyncpg_hooks, sqlalchemy_hooks, threads

_lock = threading.Lock()
_installed: dict[str, asyncpg_hooks.Patches] = {}


def install() -> None:
    """Hooks what the process uses: thread pools at once, asyncpg and SQLAlchemy when they are imported.

    Calling it again does nothing.
    """
    with _lock:
        if "threads" in _installed:
            return
        _installed["threads"] = threads.install()
    for name in ("asyncpg", "sqlalchemy"):
        if name in sys.modules:
            _hook(name)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """Puts everything back as it was."""
    with _lock:
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        for patches in _installed.values():
            for owner, name, original in reversed(patches):
                sqlalchemy_hooks.restore(owner, name, original)
        _installed.clear()


def _hook(name: str) -> None:
    with _lock:
        if name in _installed:
            return
        _installed[name] = []
    patches = {"asyncpg": asyncpg_hooks.install, "sqlalchemy": sqlalchemy_hooks.install}[name]()
    _installed[name] = patches


class _ImportWatch:
    """Notices the first import of a library that has hooks: they go in when its import is done."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002 - importlib's signature
        if name not in ("asyncpg", "sqlalchemy") or name in _installed:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        try:
            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        loader = spec.loader
        original = loader.exec_module

        def exec_module(module: Any) -> None:
            original(module)
            _hook(name)

        loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one instance
        return spec


_finder: Any = _ImportWatch()
