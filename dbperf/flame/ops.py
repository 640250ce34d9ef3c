"""Small pure operations on stacks. None changes its argument; the sum of the values is kept unless said otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from dbperf.records.stacks import Frame, Stack, Stacks, Unit

Path = tuple[Frame, ...]
Weighted = tuple[Path, float, tuple[float, ...]]


class Builder:
    """Collects weighted paths, the same path once."""

    def __init__(self) -> None:
        self._ids: dict[Frame, int] = {}
        self._frames: list[Frame] = []
        self._values: dict[tuple[int, ...], float] = {}
        self._blocks: dict[tuple[int, ...], dict[int, float]] = {}
        self._block_count = 0

    def frame(self, frame: Frame) -> int:
        found = self._ids.get(frame)
        if found is None:
            found = self._ids[frame] = len(self._frames)
            self._frames.append(frame)
        return found

    def add(self, path: Iterable[Frame], value: float, blocks: Sequence[float] = (), block: int | None = None) -> None:
        """Adds a path, outermost frame first; `block` says in which stretch of time all of the value fell."""
        key = tuple(self.frame(f) for f in path)
        self._values[key] = self._values.get(key, 0.0) + value
        parts = {block: value} if block is not None else dict(enumerate(blocks))
        if parts:
            have = self._blocks.setdefault(key, {})
            for i, v in parts.items():
                have[i] = have.get(i, 0.0) + v
            self._block_count = max(self._block_count, max(parts) + 1)

    def build(
        self, *, name: str, source: str, unit: Unit, duration_s: float | None = None, rate_per_s: float | None = None,
        notes: Iterable[str] = (),
    ) -> Stacks:  # fmt: skip
        n = self._block_count
        stacks = [
            Stack(
                frames=key,
                value=value,
                by_block=tuple(self._blocks.get(key, {}).get(i, 0.0) for i in range(n)),
            )
            for key, value in self._values.items()
        ]
        return Stacks(
            name=name, source=source, unit=unit, frames=self._frames, stacks=stacks, duration_s=duration_s,
            rate_per_s=rate_per_s, notes=list(notes),
        )  # fmt: skip


def weighted(s: Stacks) -> list[Weighted]:
    """Every stack as frames, value and values by block."""
    frames = s.frames
    return [(tuple(frames[i] for i in k.frames), k.value, k.by_block) for k in s.stacks]


def total(s: Stacks) -> float:
    """The sum of all values."""
    return sum(k.value for k in s.stacks)


def rebuilt(s: Stacks, change: Callable[[Path], Path | None]) -> Stacks:
    """Every path changed by a function; None drops the stack and its value."""
    builder = Builder()
    for path, value, blocks in weighted(s):
        new = change(path)
        if new is not None:
            builder.add(new, value, blocks)
    return builder.build(
        name=s.name, source=s.source, unit=s.unit, duration_s=s.duration_s, rate_per_s=s.rate_per_s, notes=s.notes
    )


def keep(s: Stacks, wanted: Callable[[Frame], bool]) -> Stacks:
    """Only stacks in which a frame is wanted."""
    return rebuilt(s, lambda path: path if any(wanted(f) for f in path) else None)


def focus(s: Stacks, wanted: Callable[[Frame], bool]) -> Stacks:
    """Only stacks that pass a wanted frame, cut so that they start there: everything below an endpoint's handler."""

    def cut(path: Path) -> Path | None:
        at = next((i for i, f in enumerate(path) if wanted(f)), None)
        return None if at is None else path[at:]

    return rebuilt(s, cut)


def without_lines(s: Stacks) -> Stacks:
    """Frames by function: samples that differ only in the line become one."""
    return rebuilt(s, lambda path: tuple(msgspec.structs.replace(f, line=None) for f in path))


def fold_recursion(s: Stacks) -> Stacks:
    """A function that calls itself, directly or through others, stands once in a stack: f g f h becomes f h."""

    def fold(path: Path) -> Path:
        out: list[Frame] = []
        seen: dict[tuple[str, str | None], int] = {}
        for f in path:
            key = (f.name, f.file)
            if key in seen:
                at = seen[key]
                for gone in out[at:]:
                    seen.pop((gone.name, gone.file), None)
                del out[at:]
            seen[key] = len(out)
            out.append(f)
        return tuple(out)

    return rebuilt(s, fold)


def fold_libraries(s: Stacks, is_library: Callable[[Frame], bool]) -> Stacks:
    """A run of library frames becomes the library's first one: what the application called, and its whole cost."""

    def fold(path: Path) -> Path:
        return tuple(
            f
            for i, f in enumerate(path)
            if not (i and is_library(f) and is_library(path[i - 1]) and module_of(f) == module_of(path[i - 1]))
        )

    return rebuilt(s, fold)


_WAITING = re.compile(
    r"(^|\.)(wait|_wait|acquire|select|poll|epoll|kqueue|_wait_for_tstate_lock|get|sleep|accept|recv|read|readinto)$"
)
_WAITING_FILES = ("threading.py", "selectors.py", "queue.py", "socket.py", "ssl.py", "concurrent/futures/thread.py")
_OWN_THREADS = ("dbperf/trace/stream.py", "dbperf/trace/loopwatch.py", "dbperf/flame/sampler.py")


def on_cpu(s: Stacks) -> Stacks:
    """Without threads that wait in the standard library, and without dbperf's own threads.

    py-spy leaves idle threads out where the system tells it which are; in containers it often does not.
    """

    def awake(path: Path) -> Path | None:
        if not path or any(f.file and f.file.endswith(_OWN_THREADS) for f in path[:6]):
            return None
        leaf = path[-1]
        waits = leaf.file is not None and leaf.file.endswith(_WAITING_FILES) and _WAITING.search(leaf.name)
        return None if waits else path

    return rebuilt(s, awake)


def below(s: Stacks, root: Sequence[Frame]) -> Stacks:
    """All stacks under new outermost frames."""
    return rebuilt(s, lambda path: (*root, *path))


def scaled(s: Stacks, factor: float, unit: Unit) -> Stacks:
    """All values multiplied; the sum changes."""
    stacks = [
        Stack(frames=k.frames, value=k.value * factor, by_block=tuple(b * factor for b in k.by_block)) for k in s.stacks
    ]
    return msgspec.structs.replace(s, stacks=stacks, unit=unit)


def merge(profiles: Sequence[Stacks], *, name: str | None = None) -> Stacks:
    """The sum of several profiles of the same unit (workers of one server). Blocks are added side by side in time."""
    builder = Builder()
    for s in profiles:
        for path, value, blocks in weighted(s):
            builder.add(path, value, blocks)
    first = profiles[0]
    durations = [p.duration_s for p in profiles if p.duration_s is not None]
    return builder.build(
        name=name or first.name, source=first.source, unit=first.unit, duration_s=max(durations, default=None),
        rate_per_s=first.rate_per_s, notes=dict.fromkeys(n for p in profiles for n in p.notes),
    )  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a frame costs: itself, and with everything it called (a recursive frame once per stack)."""

    self_value: float
    total_value: float


def costs(s: Stacks) -> dict[Frame, Cost]:
    """Self and total of every frame."""
    own: dict[int, float] = {}
    whole: dict[int, float] = {}
    for k in s.stacks:
        if k.frames:
            own[k.frames[-1]] = own.get(k.frames[-1], 0.0) + k.value
        for i in set(k.frames):
            whole[i] = whole.get(i, 0.0) + k.value
    return {s.frames[i]: Cost(own.get(i, 0.0), v) for i, v in whole.items()}


@dataclass
class Node:
    """A node of the call tree. Built once, by `tree`; read only."""

    frame: Frame | None
    value: float
    children: dict[Frame, Node]


def tree(s: Stacks) -> Node:
    """The call tree; the root has no frame. Iterative: stacks may be ten thousand deep."""
    root = Node(None, 0.0, {})
    for path, value, _ in weighted(s):
        root.value += value
        node = root
        for f in path:
            child = node.children.get(f)
            if child is None:
                child = node.children[f] = Node(f, 0.0, {})
            child.value += value
            node = child
    return root


def module_of(f: Frame) -> str:
    """The package of a frame, for colours and folding: "sqlalchemy", "app/views.py", "<native>".

    >>> module_of(Frame(name="f", file="/venv/lib/python3.11/site-packages/sqlalchemy/orm/session.py"))
    'sqlalchemy'
    """
    if f.kind != "python":
        return f"<{f.kind}>"
    if not f.file:
        return "<python>"
    path = f.file.replace("\\", "/")
    _, mark, rest = path.partition("site-packages/")
    if not mark:
        head, found, tail = path.rpartition("/python3.")
        rest = tail.partition("/")[2] if found and "/lib" in head + "/lib" else ""
        if rest:
            return "stdlib"
        rest = path.lstrip("/")
    return rest.partition("/")[0].removesuffix(".py")
