"""Reads the requests of a folder of traces while processes write them."""

from __future__ import annotations

from pathlib import Path

from dbperf.errors import RecordError
from dbperf.records.tail import Tail
from dbperf.trace.parts import SUFFIX
from dbperf.trace.reader import Request, Stream, TraceFile

_SLACK_NS = 60_000_000_000
"""File systems stamp by a clock of their own; of a file that changed a little before, each request is looked at."""


class Follower:
    """Gives every request that ends after `since_ns` (wall clock) once, in the order of each file."""

    def __init__(self, folder: Path, *, since_ns: int) -> None:
        self.folder = folder
        self.stream = Stream()
        """Texts and sources, numbered over all files. The requests are not kept here."""
        self._since_ns = since_ns
        self._text_ids: dict[str, int] = {}
        self._source_ids: dict[tuple[str, int], int] = {}
        self._files: dict[Path, tuple[Tail, TraceFile] | None] = {}
        """None: one that is no trace, and not read again."""
        self._gone: dict[str, int] = {}
        """Files that were there at the last call or the one before: how much of them was read, in bytes."""

    def read(self) -> tuple[list[Request], list[RecordError]]:
        """The requests that were written since the last call, and what could not be read.

        A folder that is not there yet is no error: the application may not have begun. Requests that were cut off by
        their process's end, and events after a request, are left out.
        """
        found: list[Request] = []
        errors: list[RecordError] = []
        paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        gone = {path.name: known[0].offset for path, known in self._files.items() if known and path not in paths}
        self._files = {path: known for path, known in self._files.items() if path in paths}
        for path in paths:
            try:
                found += self._read(path)
            except FileNotFoundError:
                continue  # cleaned up since
            except RecordError as e:
                self._files[path] = None
                errors.append(e)
        errors += self._unread({**self._gone, **gone})
        self._gone = gone
        return found, errors

    def _unread(self, gone: dict[str, int]) -> list[RecordError]:
        """An error where parts were removed for the folder's limit before they were read to their end."""
        dropped = self.stream.dropped
        # A file that is removed between the list and its reading is known still; it counts the next time.
        told = {n: d for n, d in dropped.items() if self.folder / n not in self._files and d.until_ns >= self._since_ns}
        lost = [n for n, d in told.items() if d.size_bytes is None or gone.get(n, 0) < d.size_bytes]
        for name in [n for n in dropped if self.folder / n not in self._files]:
            del dropped[name]
        if not lost:
            return []
        return [
            RecordError(
                f"{len(lost)} files of {self.folder} were removed for its limit before all of them was read: "
                "their last requests are in no figure",
                hint="raise limit_bytes of TraceMiddleware",
            )
        ]

    def _read(self, path: Path) -> list[Request]:
        if path not in self._files:
            if path.stat().st_mtime_ns + _SLACK_NS < self._since_ns:
                return []  # nothing in it has ended since
            self._files[path] = Tail(path), self._file(path)
        known = self._files[path]
        if known is None:
            return []
        tail, file = known
        first, lines = tail.lines()
        if first == 1 and file.started:
            file = self._file(path)
            self._files[path] = tail, file
        for number, line in enumerate(lines, first):
            file.feed(number, line + b"\n")
        requests = [r for r in file.process.requests.values() if r.finished]
        file.process.requests.clear()
        self.stream.blocks.clear()
        self.stream.collections.clear()
        self.stream.notes.clear()
        return requests

    def _file(self, path: Path) -> TraceFile:
        file = TraceFile(path, self.stream, self._text_ids, self._source_ids)
        file.since_ns = self._since_ns
        return file
