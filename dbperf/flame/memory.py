"""Memory: which stacks hold the memory at a program's peak, by memray (the extra `memray`)."""

from __future__ import annotations

import asyncio
import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dbperf.errors import CapabilityError, DbperfError, UsageError
from dbperf.flame.ops import Builder
from dbperf.records.stacks import Frame, Stacks

_FILE = "memray.bin"


def profile_memory(command: Sequence[str], folder: Path) -> tuple[Stacks, int]:
    """Runs `python script.py ...` or `python -m module ...` under memray: bytes at the peak, and its exit code.

    Raises:
        CapabilityError: memray is not installed.
        UsageError: the command is no Python program.
        DbperfError: it left no profile.
    """
    _installed()
    if not Path(command[0]).name.startswith("python") or len(command) < 2:
        raise UsageError(f"{command[0]!r} is no Python command", hint="write it as: -- python script.py")
    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no program {command[0]!r}")
    out = folder / _FILE
    args = [command[0], "-m", "memray", "run", "--quiet", "--output", str(out), *command[1:]]
    code = subprocess.run(args, stdout=sys.stderr.fileno(), check=False).returncode
    if not out.exists():
        raise DbperfError("the command left no memory profile", hint="is memray installed for that Python?")
    return read_memray(out, name=" ".join(command)), code


def profile_memory_of(work: Callable[[], Any], folder: Path, *, name: str) -> Stacks:
    """Calls a function of this process; a coroutine function runs in an event loop of its own. Bytes at the peak of
    what was allocated meanwhile. What it raises passes through.

    Raises:
        CapabilityError: memray is not installed.
    """
    out = folder / _FILE
    with _tracker(out):
        if inspect.iscoroutinefunction(work):
            asyncio.run(work())
        else:
            work()
    return read_memray(out, name=name)


def profile_memory_of_app(
    app: Any,
    calls: Callable[[Any], Any],
    warm: Callable[[Any], Any],
    around: Callable[[Any], Any],
    folder: Path,
    *,
    name: str,
) -> Stacks:
    """Sends requests to an ASGI application in this process: bytes at the peak of what they allocated.

    Args:
        calls: returns the coroutine that sends the requests to profile.
        warm: the same for requests before: connections and caches are not charged to a request.
        around: an asynchronous context manager of the application's lifespan.

    Raises:
        CapabilityError: memray is not installed.
    """
    _installed()

    async def run() -> None:
        async with around(app):
            await warm(app)
            with _tracker(out):
                await calls(app)

    out = folder / _FILE
    asyncio.run(run())
    return read_memray(out, name=name)


def _installed() -> None:
    if find_spec("memray") is None:
        raise CapabilityError("memray is not installed", hint="pip install 'dbperf[memray]'")


def _tracker(out: Path) -> Any:
    """Records the allocations of this process, of all its threads, while it is entered.

    Enter it in the frame that makes the calls: where a generator's frame does (contextlib), the calls' own frames are
    lost on its way out.
    """
    _installed()
    from memray import Tracker

    return Tracker(str(out))


def read_memray(path: Path, *, name: str) -> Stacks:
    """The stacks of a memray file at the peak of its memory, in bytes.

    Raises:
        DbperfError: it is no memray file, or a truncated one.
    """
    from memray import FileReader

    builder = Builder()
    try:
        with FileReader(str(path)) as reader:
            for record in reader.get_high_watermark_allocation_records(merge_threads=True):
                frames = [Frame(name=f, file=file, line=line) for f, file, line in reversed(record.stack_trace())]
                builder.add(frames or [Frame(name="(no Python frame)", kind="native")], float(record.size))
    except OSError as e:
        raise DbperfError(f"{path} is no complete memray file: {e}") from e
    return builder.build(name=name, source="memray", unit="bytes", notes=["memory held at the peak"])
