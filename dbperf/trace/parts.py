"""The files of one traced process, a part each, in a folder whose size has a limit.

A part is a whole trace: it begins with a header and the definitions that its lines need, so that the parts before it
can be dropped. A part that is full is closed with a line that says so, and the next one is opened. Then the oldest
parts in the folder are removed, whichever process wrote them, until the rest and a full part fit the limit; what was
removed is told in a line of the new part.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec

VERSION = 3
"""2: one file for each process, with a header of six fields. It is read as a process's only part."""
SUFFIX = ".trace.jsonl"
DEFAULT_LIMIT_BYTES = 1 << 30
"""Of a folder. The reference target writes 650 bytes for a request on average."""
SHARE = 16
"""A part holds this part of the limit, so that dropping one loses a sixteenth of what is there."""
_encode = msgspec.json.Encoder().encode


def part_name(process: str, part: int) -> str:
    """The name of a part's file; names of one process sort in the order of its parts.

    >>> part_name("4711-3f1c0de5", 12)
    '4711-3f1c0de5-000012.trace.jsonl'
    """
    return f"{process}-{part:06}{SUFFIX}"


class Parts:
    """Writes the lines of this process. Every method may raise OSError.

    Args:
        folder: where the parts are; made, if need be.
        name: goes into the headers.
        limit_bytes: of all parts in the folder; None: none. Each further process that writes there may go beyond it by
            a sixteenth.
    """

    def __init__(self, folder: Path, name: str, limit_bytes: int | None) -> None:
        self.folder = folder
        self._name = name
        self._limit_bytes = limit_bytes
        self._process = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._part = 0
        self._size = 0
        self._file: Any = None
        self.path = folder / part_name(self._process, 1)
        folder.mkdir(parents=True, exist_ok=True)
        self._open()

    def is_due(self) -> bool:
        """Whether the next lines belong into a new part: this one is full, or somebody removed it."""
        if self._limit_bytes is not None and self._size >= self._limit_bytes // SHARE:
            return True
        return not self.path.exists()

    def next_part(self) -> None:
        """Closes this part, opens the next one, and makes room."""
        self.write(_encode(["c", time.time_ns()]) + b"\n")
        self._file.close()
        self._open()

    def write(self, lines: bytes) -> None:
        self._file.write(lines)
        self._size += len(lines)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Ends the trace."""
        self.write(_encode(["e", time.time_ns()]) + b"\n")
        self._file.close()

    def _open(self) -> None:
        self._part += 1
        self._size = 0
        self.path = self.folder / part_name(self._process, self._part)
        self._file = self.path.open("wb")
        header = ["h", VERSION, os.getpid(), time.time_ns(), time.perf_counter_ns(), self._name]
        self.write(_encode([*header, self._process, self._part]) + b"\n")
        self._make_room()

    def _make_room(self) -> None:
        if self._limit_bytes is None:
            return
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            if path != self.path:
                # Many parts may be of one tick of the file system's clock: their names are in their order.
                found.append((status.st_mtime_ns, path, status.st_size))
        total = sum(size for *_, size in found)
        for changed_ns, path, size in sorted(found):
            if total + self._limit_bytes // SHARE <= self._limit_bytes:
                break
            total -= size
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            self.write(_encode(["d", path.name, changed_ns, size]) + b"\n")
