"""Reads profiles of other tools: collapsed stacks, speedscope, pstats, perf script, and our own JSON."""

from __future__ import annotations

import marshal
import re
from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import RecordError
from dbperf.flame.ops import Builder
from dbperf.flame.pstats_stacks import stacks_of_stats
from dbperf.records.base import parse_document
from dbperf.records.stacks import Frame, Stacks, Unit

BLOCKS = 20
"""Ordered samples are cut into so many stretches of time, for resampling."""
MAX_NAME = 4096
"""Characters of a name that are kept: nobody reads more, and a 100 KB name in 10,000 stacks is a gigabyte."""
_PLACE = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$", re.S)
_PERF_HEAD = re.compile(r"^(?P<comm>\S.*?)\s+(?P<pid>\d+)(?:/\d+)?\s")
_PERF_FRAME = re.compile(r"^\s+[0-9a-f]+\s+(?P<name>.+?)\s+\((?P<file>[^()]*)\)$")
_PY_SYMBOL = re.compile(r"^py::(?P<name>.+?):(?P<file>[^:]+)$")


def read_profile(path: Path) -> Stacks:
    """A profile of any format that is known, told by its content.

    Raises:
        RecordError: there is no such file, or its content is none of them; the message says what is wrong where.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    if not data.strip():
        raise RecordError(f"{path} is empty", hint="did the profiled program end before the first sample?")
    if data[:1] in (b"{", b"\xfb") and path.suffix not in (".json", ".speedscope", ".txt"):
        return _pstats(path, data)
    if data.lstrip()[:1] == b"{":
        if b'"kind": "stacks"' in data[:4096] or b'"kind":"stacks"' in data[:4096]:
            return parse_document(Stacks, data, source=str(path))
        return parse_speedscope(data, source=str(path))
    if b"\x00" in data[:4096]:
        return _pstats(path, data)
    text = data.decode("utf-8", "replace")
    if _PERF_HEAD.match(text) and re.search(r"^\s+[0-9a-f]+\s+\S", text, re.M):
        return parse_perf(text, source=str(path))
    return parse_collapsed(text, source=str(path))


def parse_place(label: str, *, kind: Any = "python") -> Frame:
    """A frame from "name (file:line)" as py-spy writes it, or a bare name.

    >>> parse_place("view (/app/main.py:12)")
    Frame(name='view', file='/app/main.py', line=12, kind='python')
    """
    m = _PLACE.match(label)
    if m is None:
        return Frame(name=label[:MAX_NAME], kind=kind)
    file = m["file"]
    native = file.endswith((".so", ".c", ".cpp", ".rs")) or ".so." in file
    return Frame(
        name=m["name"][:MAX_NAME], file=file[:MAX_NAME] or None, line=int(m["line"]) if m["line"] else None,
        kind="native" if native else kind,
    )  # fmt: skip


def parse_collapsed(text: str, *, source: str, unit: Unit = "samples", name: str | None = None) -> Stacks:
    """Lines of "frame;frame;frame count", outermost first (Brendan Gregg's stackcollapse format).

    Raises:
        RecordError: a line has no count.
    """
    builder = Builder()
    lines = 0
    for number, given in enumerate(text.split("\n"), 1):  # splitlines knows ten more separators, all legal in names
        line = given.rstrip("\r")
        if not line.strip():
            continue
        stack, _, count = line.rpartition(" ")
        try:
            value = float(count)
        except ValueError:
            if line.startswith("# "):  # a comment, and not a function of that name
                continue
            value = -1.0
        if value < 0 or value == float("inf") or value != value:  # noqa: PLR0124 - NaN
            raise RecordError(f"{source}, line {number}: no count at the end of {line[:60]!r}", hint="is it truncated?")
        builder.add((parse_place(part) for part in stack.split(";") if part), value)
        lines += 1
    if not lines:
        raise RecordError(f"{source} holds no stack")
    return builder.build(name=name or Path(source).stem, source="collapsed", unit=unit)


class _SpeedscopeFrame(msgspec.Struct):
    name: str
    file: str | None = None
    line: int | None = None


class _Event(msgspec.Struct):
    type: str
    frame: int
    at: float


class _SpeedscopeProfile(msgspec.Struct):
    type: str
    unit: str = "none"
    name: str = ""
    samples: list[list[int]] = []
    weights: list[float] = []
    events: list[_Event] = []
    endValue: float = 0.0


class _Shared(msgspec.Struct):
    frames: list[_SpeedscopeFrame]


class _Speedscope(msgspec.Struct):
    shared: _Shared
    profiles: list[_SpeedscopeProfile]
    name: str | None = None


_TO_MS = {"nanoseconds": 1e-6, "microseconds": 1e-3, "milliseconds": 1.0, "seconds": 1e3}


def parse_speedscope(data: bytes, *, source: str) -> Stacks:
    """A speedscope file (https://www.speedscope.app/file-format-schema.json), all its profiles together.

    Raises:
        RecordError: it is truncated, no speedscope file, or names a frame that it does not have.
    """
    try:
        file = msgspec.json.decode(data, type=_Speedscope)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as e:
        raise RecordError(f"{source} is no complete speedscope file: {e}", hint="is it truncated?") from e
    frames = [Frame(name=f.name[:MAX_NAME], file=f.file, line=f.line) for f in file.shared.frames]
    builder = Builder()
    units = {p.unit for p in file.profiles}
    if len(units) > 1:
        raise RecordError(f"{source} mixes units ({', '.join(sorted(units))})")
    factor = _TO_MS.get(next(iter(units), "none"))
    duration = 0.0
    try:
        for p in file.profiles:
            if p.type == "sampled":
                n = len(p.samples)
                weights = p.weights or [1.0] * n
                for i, (sample, weight) in enumerate(zip(p.samples, weights, strict=True)):
                    builder.add((frames[j] for j in sample), weight * (factor or 1.0), block=i * BLOCKS // n)
                duration = max(duration, sum(weights))
            else:
                _evented(builder, p, frames, factor or 1.0)
                duration = max(duration, p.endValue)
    except (IndexError, ValueError) as e:
        raise RecordError(f"{source} contradicts itself: {e}", hint="is it truncated?") from e
    unit: Unit = "bytes" if units == {"bytes"} else "ms" if factor else "samples"
    return builder.build(
        name=file.name or Path(source).stem, source="speedscope", unit=unit,
        duration_s=duration * factor / 1e3 if factor else None,
    )  # fmt: skip


def _evented(builder: Builder, p: _SpeedscopeProfile, frames: list[Frame], factor: float) -> None:
    open_frames: list[int] = []
    last = p.events[0].at if p.events else 0.0
    for e in p.events:
        if e.at > last:
            builder.add((frames[j] for j in open_frames), (e.at - last) * factor)
            last = e.at
        if e.type == "O":
            open_frames.append(e.frame)
        elif not open_frames or open_frames.pop() != e.frame:
            raise ValueError("a frame is closed that is not the open one")


def _pstats(path: Path, data: bytes) -> Stacks:
    try:
        stats = marshal.loads(data)  # noqa: S302 - pstats files are marshal; the user names the file
    except (EOFError, ValueError, TypeError) as e:
        raise RecordError(
            f"{path} is no profile that this Python reads: {e}",
            hint="a .pstats file is read by the Python version that wrote it; speedscope and collapsed files by all",
        ) from e
    try:
        return stacks_of_stats(stats, name=path.stem)
    except (TypeError, ValueError, AttributeError, KeyError) as e:
        raise RecordError(f"{path} is marshal data, but no profile: {e}") from e


def parse_perf(text: str, *, source: str) -> Stacks:
    """The output of `perf script`: a head line per sample, then its frames, innermost first.

    Raises:
        RecordError: no sample has a stack.
    """
    builder = Builder()
    frames: list[Frame] = []
    found = 0
    samples = re.split(r"\n\s*\n", text)
    for i, sample in enumerate(samples):
        frames = [f for line in sample.splitlines() if (f := _perf_frame(line)) is not None]
        if frames:
            builder.add(reversed(frames), 1.0, block=i * BLOCKS // len(samples))
            found += 1
    if not found:
        raise RecordError(f"{source} holds no stack", hint="record with perf record -g")
    return builder.build(name=Path(source).stem, source="perf", unit="samples")


def _perf_frame(line: str) -> Frame | None:
    m = _PERF_FRAME.match(line)
    if m is None:
        return None
    name = m["name"].split("+0x")[0]
    if py := _PY_SYMBOL.match(name):  # Python 3.12's perf trampolines
        return Frame(name=py["name"][:MAX_NAME], file=py["file"], kind="python")
    return Frame(name=name[:MAX_NAME], file=m["file"] or None, kind="native")
