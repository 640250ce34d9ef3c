"""Looking at other threads' frames without ending their process."""

from __future__ import annotations

import gc
import sys
import threading

_MAY_COLLECT_ANYWHERE = sys.version_info < (3, 12)


class _NoCollection:
    """A block in which no garbage collection begins: for `sys._current_frames()` and the `f_back` of what it returns.

    Both make frame objects of frames that are running. Before CPython 3.12 such an allocation may begin a collection,
    which may run Python code (`gc.callbacks`, finalizers) and hand over the interpreter lock. The other thread then
    goes on, its frame is gone before its object is made, and the process ends by a segmentation fault
    (`_PyFrame_MakeAndSetFrameObject` in Python/frame.c of 3.11; since 3.12 collections begin between bytecodes only).

    Blocks should be short; several threads may be in one. An application that turns collection off in just that moment
    will find it turned on again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._was_on = False

    def __enter__(self) -> None:
        if not _MAY_COLLECT_ANYWHERE:
            return
        with self._lock:
            if self._depth == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        if not _MAY_COLLECT_ANYWHERE:
            return
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._was_on:
                gc.enable()


no_collection = _NoCollection()
