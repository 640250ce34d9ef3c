"""Which line of the application issued a statement: the innermost frame that is neither library nor dbperf.trace."""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from dbperf.trace.state import texts

_HERE = str(Path(__file__).resolve().parent)
_MIDDLEWARE = f"{_HERE}/middleware.py"
_LIBRARIES = tuple(
    {
        *(sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
)
_roots: list[str] = []
_is_application: dict[str, bool | None] = {}
"""None: the stack's end for our purpose."""
_known_lines: dict[tuple[int, int], int] = {}
"""Code object and offset to the source number: finding a line walks the function's line table every time."""
_codes: list[CodeType] = []
"""Keeps the code objects, whose ids are keys, from being freed and their ids used again."""
_MAX_DEPTH = 200
_LOOP = ("asyncio/events.py", "asyncio/base_events.py", "asyncio/runners.py")
"""Below these frames stands whoever started the event loop, not whoever issued the statement."""


def add_application(paths: Iterable[str]) -> None:
    """Counts code below these folders as the application's own, also where it is installed among the libraries."""
    _roots.extend(paths)
    _is_application.clear()


def is_application(file: str) -> bool | None:
    """Whether a code object's file belongs to the application; None for the event loop, where a search ends."""
    if file not in _is_application:
        _is_application[file] = _decide(file)
    return _is_application[file]


def _decide(file: str) -> bool | None:
    if file.endswith(_LOOP) or file == _MIDDLEWARE:
        return None
    if file.startswith((_HERE, "<")):
        return False
    if any(file.startswith(root) for root in _roots):
        return True
    return "site-packages" not in file and not file.startswith(_LIBRARIES)


def source_id(frame: FrameType | None) -> int:
    """The number of the application's innermost line at or above `frame`; 0 where there is none.

    SQLAlchemy runs its sync code in a greenlet of its own, whose frames are not on the stack of the coroutine that
    talks to the server: they are looked at where `greenlet_spawn` stands in the stack.
    """
    known = _is_application
    for _ in range(_MAX_DEPTH):
        if frame is None:
            break
        code = frame.f_code
        file = code.co_filename
        own = known[file] if file in known else is_application(file)
        if own:
            key = (id(code), frame.f_lasti)
            if (found := _known_lines.get(key)) is None:
                _codes.append(code)
                found = _known_lines[key] = texts.source_id(file, frame.f_lineno, code.co_qualname)
            return found
        if own is None:
            break
        if code.co_name == "greenlet_spawn" and (found := _in_greenlet(frame)):
            return found
        frame = frame.f_back
    return 0


def _in_greenlet(frame: FrameType) -> int:
    child: Any = frame.f_locals.get("context")
    inner = getattr(child, "gr_frame", None)
    return source_id(inner) if inner is not None else 0


def endpoint_source_id(scope: Any) -> int:
    """The line of the endpoint's function: where a task was started straight from a library's coroutine, no frame of
    the application is on the stack."""
    code = getattr(scope.get("endpoint"), "__code__", None)
    if code is None or not is_application(code.co_filename):
        return 0
    return texts.source_id(code.co_filename, code.co_firstlineno, code.co_qualname)


def own_frame(frame: FrameType | None) -> tuple[str, int, str] | None:
    """File, line and function of the application's innermost frame, for stacks seen from another thread."""
    found = source_id(frame)
    return texts.sources[found] if found else None


def package_root(module: str) -> str | None:
    """The folder of a module's top-level package, or the module's file."""
    loaded = sys.modules.get(module.partition(".")[0])
    file = getattr(loaded, "__file__", None)
    if file is None:
        return None
    path = Path(file)
    return str(path.parent) + "/" if path.name == "__init__.py" else str(path)
