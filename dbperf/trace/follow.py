"""Reads the requests of a folder of traces while processes write them."""

from __future__ import annotations

import itertools
from pathlib import Path

from dbperf.errors import RecordError
from dbperf.records.tail import Tail
from dbperf.trace.reader import Request, Stream, TraceFile
from dbperf.trace.stream import SUFFIX


class Follower:
    """Gives every request that ends after `since_ns` (wall clock) once, in the order of each file."""

    def __init__(self, folder: Path, *, since_ns: int) -> None:
        self.folder = folder
        self.stream = Stream()
        """Texts and sources, numbered over all files. The requests are not kept here."""
        self._since_ns = since_ns
        self._text_ids: dict[str, int] = {}
        self._source_ids: dict[tuple[str, int], int] = {}
        self._numbers = itertools.count()
        self._files: dict[Path, tuple[Tail, TraceFile] | None] = {}
        """None: one that is no trace, and not read again."""

    def read(self) -> tuple[list[Request], list[RecordError]]:
        """The requests that were written since the last call, and what could not be read.

        A folder that is not there yet is no error: the application may not have begun. Requests that were cut off by
        their process's end, and events after a request, are left out.
        """
        found: list[Request] = []
        errors: list[RecordError] = []
        paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        self._files = {path: known for path, known in self._files.items() if path in paths}
        for path in paths:
            try:
                found += self._read(path)
            except FileNotFoundError:
                continue  # cleaned up since
            except RecordError as e:
                self._files[path] = None
                errors.append(e)
        return found, errors

    def _read(self, path: Path) -> list[Request]:
        if path not in self._files:
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
        requests = [r for r in file.requests.values() if r.finished]
        file.requests.clear()
        self.stream.blocks.clear()
        self.stream.collections.clear()
        self.stream.notes.clear()
        return requests

    def _file(self, path: Path) -> TraceFile:
        file = TraceFile(path, next(self._numbers), self.stream, self._text_ids, self._source_ids)
        file.since_ns = self._since_ns
        return file
