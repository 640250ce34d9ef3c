"""Sampling from inside the process: a thread that looks at all others. For where py-spy may not look from outside.

It needs no permission, sees no native frames, and is late whenever another thread keeps the interpreter lock.
`environment` starts it in any Python program through a sitecustomize.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from dbperf.flame.ops import Builder
from dbperf.frames import no_collection
from dbperf.records.stacks import Frame, Stacks

SITE = Path(__file__).parent / "_site"
BLOCK_S = 0.5


class Sampler:
    """Samples the threads of this process until `stop`.

    Args:
        rate: samples per second.
        wall: waiting threads too, by wall time; by default a sample weighs the CPU time since the last one.
    """

    def __init__(self, *, rate: int = 100, wall: bool = False) -> None:
        self.rate = rate
        self.wall = wall
        self._builder = Builder()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dbperf-sampler", daemon=True)
        self._started = 0.0
        self._cpu: dict[int, float] = {}

    def start(self) -> None:
        self._started = time.monotonic()
        self._thread.start()

    def stop(self, name: str = "in-process samples") -> Stacks:
        """Ends the sampling and returns what was seen, in milliseconds."""
        self._stop.set()
        self._thread.join()
        return self._builder.build(
            name=name, source="sampler", unit="ms", duration_s=time.monotonic() - self._started, rate_per_s=self.rate,
            notes=["sampled from inside the process: calls that hold the interpreter lock are seen late"],
        )  # fmt: skip

    def _run(self) -> None:
        period = 1 / self.rate
        me = threading.get_ident()
        last = time.monotonic()
        while not self._stop.wait(period):
            now = time.monotonic()
            # A late sample stands for all of the time since the last one.
            elapsed, last = now - last, now
            block = int((now - self._started) / BLOCK_S)
            seen: list[tuple[list[Frame], float]] = []
            with no_collection:
                for ident, frame in sys._current_frames().items():
                    if ident != me and (used := elapsed if self.wall else self._used_s(ident)) > 0:
                        seen.append((_path(frame), used * 1e3))
            for path, used_ms in seen:
                self._builder.add(path, used_ms, block=block)

    def _used_s(self, ident: int) -> float:
        """CPU seconds of a thread since it was last asked."""
        try:
            cpu = time.clock_gettime(time.pthread_getcpuclockid(ident))
        except OSError:  # the thread has ended
            return 0.0
        before = self._cpu.get(ident, cpu)
        self._cpu[ident] = cpu
        return cpu - before


def _path(frame: FrameType | None) -> list[Frame]:
    path = []
    while frame is not None:
        code = frame.f_code
        path.append(Frame(name=code.co_qualname, file=code.co_filename, line=frame.f_lineno))
        frame = frame.f_back
    path.reverse()
    return path


def environment(out: Path, *, engine: str = "sampler", rate: int = 100, wall: bool = False) -> dict[str, str]:
    """What to add to a Python program's environment so that it profiles itself and writes `out`/<pid>.* at its end.

    Args:
        engine: sampler or cprofile.
    """
    existing = os.environ.get("PYTHONPATH")
    package = str(Path(__file__).resolve().parents[2])
    return {
        "PYTHONPATH": os.pathsep.join([str(SITE), *([existing] if existing else []), package]),
        "DBPERF_FLAME_ENGINE": engine,
        "DBPERF_FLAME_OUT": str(out.resolve()),
        "DBPERF_FLAME_RATE": str(rate),
        "DBPERF_FLAME_WALL": "1" if wall else "0",
    }


def start_from_environment() -> None:
    """Called by the sitecustomize: profiles this process from now to its end."""
    import atexit

    out = Path(os.environ["DBPERF_FLAME_OUT"])
    stem = f"{os.getpid()}"
    wall = os.environ.get("DBPERF_FLAME_WALL") == "1"
    if os.environ.get("DBPERF_FLAME_ENGINE") == "cprofile":
        from dbperf.flame.profiled import new_profiler

        profiler = new_profiler(wall=wall)

        def end_profile() -> None:
            profiler.disable()
            out.mkdir(parents=True, exist_ok=True)
            profiler.dump_stats(out / f"{stem}.pstats")

        atexit.register(end_profile)
        profiler.enable()
        return
    sampler = Sampler(rate=int(os.environ.get("DBPERF_FLAME_RATE", "100")), wall=wall)

    def end_samples() -> None:
        s = sampler.stop(name=" ".join(sys.argv) or "python")
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{stem}.stacks.json").write_bytes(s.to_json())

    atexit.register(end_samples)
    sampler.start()
