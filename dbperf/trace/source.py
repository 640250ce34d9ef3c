"""Which line of the application issued a statement: the innermost frame that is neither library nor dbperf.trace."""

from __future__ import annotations

import dis
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
_LIBRARY, _APPLICATION, _END, _GREENLET = range(4)
_kinds: dict[str, int] = {}
"""Of code objects' files. END is the stack's end for our purpose, GREENLET where SQLAlchemy starts one."""
_known_lines: dict[tuple[int, int], int] = {}
"""Code object and offset to the source number: finding a line walks the function's line table every time."""
_codes: list[CodeType] = []
"""Keeps the code objects, whose ids are keys, from being freed and their ids used again."""
_awaits: dict[tuple[int, int], bool] = {}
"""By the same key, whether a call's result is awaited there and then."""
_passes: set[int] = set()
"""Ids of the code of a library's coroutine functions whose caller is the line to charge."""
_LOOP = ("asyncio/events.py", "asyncio/base_events.py", "asyncio/runners.py")
"""Below these frames stands whoever started the event loop, not whoever issued the statement."""
_GREENLETS = ("sqlalchemy/util/concurrency.py", "sqlalchemy/util/_concurrency_py3k.py")


def add_application(paths: Iterable[str]) -> None:
    """Counts code below these folders as the application's own, also where it is installed among the libraries."""
    _roots.extend(paths)
    _kinds.clear()


def _kind_of(file: str) -> int:
    if file.endswith(_LOOP) or file == _MIDDLEWARE:
        kind = _END
    elif file.startswith((_HERE, "<")):
        kind = _LIBRARY
    elif any(file.startswith(root) for root in _roots):
        kind = _APPLICATION
    elif file.endswith(_GREENLETS):
        kind = _GREENLET
    else:
        kind = _LIBRARY if "site-packages" in file or file.startswith(_LIBRARIES) else _APPLICATION
    _kinds[file] = kind
    return kind


def source_id(frame: FrameType | None) -> int:
    """The number of the application's innermost line at or above `frame`; 0 where there is none.

    Code that runs in a greenlet has its caller on the stack of the greenlet's parent.
    """
    found = _innermost(frame)
    if found is None:
        greenlet: Any = sys.modules.get("greenlet")
        outside = greenlet.getcurrent().parent if greenlet is not None else None
        while outside is not None and found is None:
            found = _innermost(outside.gr_frame)
            outside = outside.parent
    return found or 0


def _innermost(frame: FrameType | None) -> int | None:
    """As `source_id`, on one stack; 0 where the event loop is reached, None where the stack ends before that.

    SQLAlchemy runs its sync code in a greenlet of its own, whose frames are not on the stack of the coroutine that
    talks to the server: they are looked at where `greenlet_spawn` stands in the stack, if what it runs may be the
    application's.
    """
    kinds = _kinds
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        try:
            kind = kinds[file]
        except KeyError:
            kind = _kind_of(file)
        if kind == _APPLICATION:
            key = (id(code), frame.f_lasti)
            if (found := _known_lines.get(key)) is None:
                _codes.append(code)
                found = _known_lines[key] = texts.source_id(file, frame.f_lineno, code.co_qualname)
            return found
        if kind == _END:
            return 0
        outer = frame.f_back
        if kind == _GREENLET and code.co_name == "greenlet_spawn" and outer and id(outer.f_code) not in _passes:
            child: Any = frame.f_locals.get("context")
            if inside := _innermost(getattr(child, "gr_frame", None)):
                return inside
        frame = outer
    return None


def passes(code: CodeType) -> None:
    """Notes that a statement issued by this function of a library is its caller's."""
    _codes.append(code)
    _passes.add(id(code))


def awaits_here(frame: FrameType) -> bool:
    """Whether what the running call of `frame` returns is awaited there and then: the frame will be on the stack of
    whatever the coroutine does. False where it goes to gather, a task or a variable.
    """
    code = frame.f_code
    key = (id(code), frame.f_lasti)
    if (found := _awaits.get(key)) is None:
        _codes.append(code)
        following = (i.opname for i in dis.get_instructions(code) if i.offset > key[1])
        found = _awaits[key] = next(following, "") == "GET_AWAITABLE"
    return found


def endpoint_source_id(scope: Any) -> int:
    """The line of the endpoint's function: where a task was started straight from a library's coroutine, no frame of
    the application is on the stack."""
    code = getattr(scope.get("endpoint"), "__code__", None)
    if code is None or _kind_of(code.co_filename) != _APPLICATION:
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
