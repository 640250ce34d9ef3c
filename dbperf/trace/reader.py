"""Reads the files that traced processes wrote. A file whose process was killed is read up to its last whole line.

The parts of one process are one trace. Where the oldest parts are gone, so are their requests, and `Stream.dropped`
says so: it knows of them from the process that removed them, and from the numbers of those that are left."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from dbperf.errors import RecordError
from dbperf.trace.parts import SUFFIX, VERSION, part_name
from dbperf.trace.state import Event

_STATUS = re.compile(r"(\d+)$")
"""The count in a driver's status: "UPDATE 3", "INSERT 0 3"."""


@dataclass
class TextInfo:
    """A statement's text and what samples said of its rows."""

    text: str
    row_bytes: float | None = None
    wide: dict[str, float] = field(default_factory=dict)


@dataclass
class Request:
    """One request as it was written. Times are wall clock nanoseconds."""

    process: int
    request_id: int
    route: str
    status: int
    started_ns: int
    duration_ns: int
    background_ns: int
    response_bytes: int
    gc_ns: int
    lost: int
    failed: bool
    finished: bool
    events: list[Event]
    """With the process's own text and source numbers replaced by those of the `Stream`."""


@dataclass
class Block:
    source: int
    started_ns: int
    duration_ns: int
    process: int
    request_id: int


@dataclass
class Dropped:
    """A part that was removed for the folder's limit."""

    until_ns: int
    """Wall clock: its requests had ended by then."""
    size_bytes: int | None
    """None: nothing but the numbers of the other parts tells of it."""


@dataclass
class Process:
    """What is known of one process, over all of its parts."""

    number: int
    pid: int
    requests: dict[int, Request] = field(default_factory=dict)
    last_part: int = 0
    last_path: Path = Path()
    ended: bool = False


@dataclass
class Stream:
    """The contents of all files of a folder, numbered together."""

    texts: list[TextInfo] = field(default_factory=list)
    sources: list[tuple[str, int, str]] = field(default_factory=lambda: [("", 0, "")])
    requests: list[Request] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    collections: list[tuple[int, int, int]] = field(default_factory=list)
    """Start, duration (ns) and generation of garbage collections."""
    handlers: dict[str, str] = field(default_factory=dict)
    """Route to "file:line function"."""
    processes: int = 0
    by_process: dict[str, Process] = field(default_factory=dict)
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """By the file's name."""
    complete: bool = True
    notes: list[str] = field(default_factory=list)


def read_folder(folder: Path, *, running: bool = False) -> Stream:
    """Everything that processes wrote to a folder.

    Args:
        folder: of the files.
        running: what is asked for is over, so that a process of this machine that goes on is no fault of the trace.

    Raises:
        RecordError: the folder holds no trace, or a file is none.
    """
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise RecordError(f"{folder} holds no trace (*{SUFFIX})", hint="was a request made while the trace ran?")
    stream = Stream()
    text_ids: dict[str, int] = {}
    source_ids: dict[tuple[str, int], int] = {}
    for path in files:
        TraceFile(path, stream, text_ids, source_ids).read()
    for process in stream.by_process.values():
        stream.requests.extend(process.requests.values())
        if not process.ended and not (running and psutil.pid_exists(process.pid)):
            stream.complete = False
            stream.notes.append(f"{process.last_path.name}: the process was still running, or was killed")
    stream.requests.sort(key=lambda r: r.started_ns)
    return stream


class TraceFile:
    """One file, whose requests are numbered into a stream."""

    def __init__(
        self, path: Path, stream: Stream, text_ids: dict[str, int], source_ids: dict[tuple[str, int], int]
    ) -> None:
        self.path = path
        self.process = Process(-1, -1)
        self.stream = stream
        self.text_ids = text_ids
        self.source_ids = source_ids
        self.texts: dict[int, int] = {-1: -1}
        self.sources: dict[int, int] = {0: 0}
        self.offset_ns = 0
        self.started = False
        self.since_ns = 0
        """Requests that ended before (wall clock) are left out."""
        self._decode = msgspec.json.Decoder().decode

    def read(self) -> None:
        """The whole file, into the stream.

        Raises:
            RecordError: it can't be read, or is no trace.
        """
        try:
            with self.path.open("rb") as f:
                for number, line in enumerate(f, 1):
                    if not self.feed(number, line):
                        break  # the process was killed in the middle of a line
        except FileNotFoundError:
            return  # dropped for the folder's limit since the folder was listed: the number of the next part tells
        except OSError as e:
            raise RecordError(f"{self.path} can't be read: {e.strerror}") from e
        if not self.started:  # killed before it had written anything
            self.stream.complete = False
            self.stream.notes.append(f"{self.path.name}: the process was still running, or was killed")

    def feed(self, number: int, line: bytes) -> bool:
        """The file's next line; False where it was cut off.

        Raises:
            RecordError: it is no line of a trace of this version.
        """
        try:
            item = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if not line.endswith(b"\n"):
                return False
            raise RecordError(f"{self.path}, line {number}: not a line of a trace") from None
        try:
            if number == 1:
                self._header(item)
                self.started = True
            elif item[0] == "e":
                self.process.ended = True
            elif item[0] != "c":
                self._item(item)
        except (IndexError, KeyError, TypeError, ValueError) as e:
            raise RecordError(f"{self.path} is no trace of this version", hint="trace again") from e
        return True

    def _header(self, item: Any) -> None:
        if not isinstance(item, list) or item[:1] != ["h"] or item[1] not in (2, VERSION):
            raise RecordError(f"{self.path} is no trace of this version of dbperf", hint="trace again")
        self.offset_ns = item[3] - item[4]
        stream = self.stream
        name, part = (item[6], item[7]) if item[1] == VERSION else (self.path.name, 1)
        if name not in stream.by_process:
            stream.by_process[name] = Process(stream.processes, item[2])
            stream.processes += 1
        process = self.process = stream.by_process[name]
        for missing in range(process.last_part + 1, part):
            # What the process that removed it says of it is better, whichever is read first.
            stream.dropped.setdefault(part_name(name, missing), Dropped(item[3], None))
        process.last_part, process.last_path, process.ended = part, self.path, False

    def _item(self, item: list[Any]) -> None:
        kind = item[0]
        if kind in ("r", "u"):
            (_, request_id, method, route, status, started, duration, background, size, gc_ns, lost, failed, events) = (
                item
            )
            if started + duration + self.offset_ns < self.since_ns:
                return
            self.process.requests[request_id] = Request(
                process=self.process.number, request_id=request_id, route=f"{method} {route}", status=status,
                started_ns=started + self.offset_ns, duration_ns=duration, background_ns=background,
                response_bytes=size, gc_ns=gc_ns if kind == "r" else 0, lost=lost, failed=failed,
                finished=kind == "r", events=[self._event(e) for e in events],
            )  # fmt: skip
        elif kind == "t":
            self.texts[item[1]] = self._number(self.text_ids, item[2])
        elif kind == "s":
            _, number, file, line, function = item
            key = (file, line)
            if key not in self.source_ids:
                self.source_ids[key] = len(self.stream.sources)
                self.stream.sources.append((file, line, function))
            self.sources[number] = self.source_ids[key] if file else 0
        elif kind == "w":
            info = self.stream.texts[self.texts[item[1]]]
            info.row_bytes, info.wide = item[2], item[3]
        elif kind == "l":
            if item[1] in self.process.requests:
                self.process.requests[item[1]].events.append(self._event(item[2]))
        elif kind == "b":
            _, source, started, duration, request_id = item
            self.stream.blocks.append(
                Block(self.sources[source], started + self.offset_ns, duration, self.process.number, request_id)
            )
        elif kind == "g":
            self.stream.collections.append((item[1] + self.offset_ns, item[2], item[3]))
        else:
            self._about(kind, item)

    def _about(self, kind: str, item: list[Any]) -> None:
        """Lines that are said once, beside the requests."""
        if kind == "p":
            _, route, file, line, function = item
            self.stream.handlers[route] = f"{file}:{line} {function}"
        elif kind == "d":
            self.stream.dropped[item[1]] = Dropped(item[2], item[3])
        elif kind == "n":
            self.stream.complete = False
            self.stream.notes.append(item[1])

    def _number(self, ids: dict[str, int], text: str) -> int:
        found = ids.get(text)
        if found is None:
            found = ids[text] = len(self.stream.texts)
            self.stream.texts.append(TextInfo(text))
        return found

    def _event(self, e: list[Any]) -> Event:
        kind, text, source, started, ended, rows, executions, same, connection, failed = e
        if isinstance(rows, str):
            m = _STATUS.search(rows)
            rows = int(m[1]) if m else None
        return Event(
            kind, self.texts[text], self.sources[source], started + self.offset_ns, ended + self.offset_ns, rows,
            executions, same, connection, failed,
        )  # fmt: skip
