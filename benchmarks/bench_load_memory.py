"""The recorder's memory over ten million requests, in simulated time: it must stay flat.

Each simulated second 5,000 requests of twelve endpoints end and are taken, as the driver does; after a tenth of them
the memory has settled, and at the end it is compared with that. `python benchmarks/bench_load_memory.py [requests]`
"""

from __future__ import annotations

import gc
import random
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from loadtests.recorder import Recorder

PER_SECOND = 5_000
LIMIT = 1.05


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
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


if __name__ == "__main__":
    main()
