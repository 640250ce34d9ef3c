"""The generator's memory over ten million requests in simulated time, and over a real load: it must stay flat.

Simulated, the recorder: each second 5,000 requests of twelve endpoints end and are taken, as the driver does; after a
tenth of them the memory has settled, and at the end it is compared with that. Real, the whole generator at full speed:
the last tenth of the time is compared with the second; so is the program that sums it up, which keeps the histograms of
each second. `python benchmarks/bench_load_memory.py [requests] [seconds]` (10,000,000 and 60; 600 take ten minutes)
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from dbperf.load import run_load  # noqa: E402 - the checkout's own package
from dbperf.load.progress import LoadEvent  # noqa: E402
from dbperf.load.suite_file import parse_suite  # noqa: E402

PER_SECOND = 5_000
LIMIT = 1.05


def simulated(requests: int) -> None:
    from loadtests.recorder import Recorder  # it brings locust, which patches the process

    recorder, rng, process = Recorder(), random.Random(1), psutil.Process()
    recorder.open_window(0)
    recorder._edges[0] = 0.0  # simulated time starts at 0
    names = [f"GET /{i}" for i in range(12)]
    settled = taken_s = 0.0
    began = time.perf_counter()
    for second in range(requests // PER_SECOND):
        for i in range(PER_SECOND):
            recorder.on_request("GET", names[i % 12], rng.lognormvariate(2, 1), 100, None, float(second))
        start = time.perf_counter()
        recorder.take()
        taken_s += time.perf_counter() - start
        if second == requests // PER_SECOND // 10:
            gc.collect()
            settled = process.memory_info().rss
    gc.collect()
    ratio = process.memory_info().rss / settled
    print(
        f"{requests:,} requests in {time.perf_counter() - began:.0f} s: memory {settled / 2**20:.0f} MB after a tenth, "
        f"{ratio:.3f} of that at the end, below {LIMIT} is wanted; taking a second of {PER_SECOND:,} requests costs "
        f"{taken_s / (requests / PER_SECOND) * 1e3:.1f} ms"
    )


def real(seconds: float) -> None:
    """The whole generator, at full speed."""
    server = subprocess.Popen([sys.executable, HERE / "load_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    suite = parse_suite(
        f'name="memory"\n[[stages]]\nusers=8\nduration={seconds}\n[think_time]\nmin=0\n[[endpoints]]\npath="/ok"\n', "b"
    )
    own = psutil.Process()
    taken: dict[str, list[int]] = {"generator": [], "dbperf": []}

    def look(event: LoadEvent) -> None:
        if event.kind == "second" and event.phase == "measured":
            drivers = [p for p in own.children() if any("loadtests/main.py" in word for word in p.cmdline())]
            taken["generator"].append(drivers[0].memory_info().rss)
            taken["dbperf"].append(own.memory_info().rss)

    try:
        with tempfile.TemporaryDirectory() as folder:
            load = asyncio.run(run_load(suite, url, out_dir=Path(folder), on_event=look))
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    for name, rss in taken.items():
        tenth = max(1, len(rss) // 10)
        settled, end = statistics.median(rss[tenth : 2 * tenth]), statistics.median(rss[-tenth:])
        wanted = f", below {LIMIT} is wanted" if name == "generator" else ""
        print(
            f"{name}: {load.stages[0].requests:,} requests in {seconds:g} s: memory {settled / 2**20:.0f} MB in the "
            f"second tenth, {end / settled:.3f} of that in the last{wanted}"
        )


def main() -> None:
    if sys.argv[1:2] == ["simulated"]:
        simulated(int(sys.argv[2]))
        return
    requests = sys.argv[1] if len(sys.argv) > 1 else "10_000_000"
    subprocess.run([sys.executable, __file__, "simulated", requests], check=True)
    real(float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)


if __name__ == "__main__":
    main()
