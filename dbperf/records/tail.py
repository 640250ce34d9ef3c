"""Reads what other processes append to a file: whole lines only, and so much at a time."""

from __future__ import annotations

import os
from pathlib import Path

from dbperf.errors import RecordError

MOST_BYTES = 32 * 1024 * 1024
"""Read at a time: who follows a file stays quick, and what is left over is read the next time."""


class Tail:
    """A file that grows. One that was replaced, or cut, is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode: int | None = None
        self._given = 0

    @property
    def offset(self) -> int:
        """How much of the file has been given, in bytes."""
        return self._offset

    def lines(self) -> tuple[int, list[bytes]]:
        """The number of the first line (1: the file's first), and the whole lines since the last call without their
        ends, at most 32 MiB of them.

        Raises:
            FileNotFoundError: the file is gone.
            RecordError: it can't be read.
        """
        try:
            with self.path.open("rb") as f:
                status = os.fstat(f.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._offset = self._given = 0
                self._inode = status.st_ino
                f.seek(self._offset)
                data = f.read(MOST_BYTES)
        except FileNotFoundError:
            raise
        except OSError as e:
            raise RecordError(f"{self.path} can't be read: {e.strerror}") from e
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1]
        first = self._given + 1
        self._offset += end
        self._given += len(lines)
        return first, lines
