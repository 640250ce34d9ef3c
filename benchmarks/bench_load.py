"""What dbperf's load costs beside plain Locust: throughput of one generator process at full speed, interleaved.

Both ask the same server for the same thing with as many users, without think time, so that the generator is the
bottleneck. The server counts. Figures: requests per second, and requests per second of the generator's own CPU time,
which other processes on the machine disturb less. `python benchmarks/bench_load.py [rounds] [seconds]`
"""

from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from dbperf.load import run_load
from dbperf.load.suite_file import parse_suite

HERE = Path(__file__).parent
USERS = 8
WARM_UP_S = 1.5
TARGET = 0.97


class Point:
    """Requests served and CPU seconds of the generator at a moment."""

    def __init__(self, url: str, generator: psutil.Process) -> None:
        with urllib.request.urlopen(f"{url}/count") as response:
            self.requests = int(response.read())
        self.at = time.perf_counter()
        self.cpu_s = float(sum(generator.cpu_times()[:2]))

    def rates_since(self, earlier: Point) -> tuple[float, float]:
        requests = self.requests - earlier.requests
        return requests / (self.at - earlier.at), requests / (self.cpu_s - earlier.cpu_s)


def dbperf_run(url: str, seconds: float) -> tuple[float, float]:
    suite = parse_suite(
        f'name="bench"\n[[stages]]\nusers={USERS}\nwarm_up="{WARM_UP_S}s"\nduration={seconds}\n'
        '[[endpoints]]\npath="/ok"\n', "bench",
    )  # fmt: skip
    points: list[Point] = []

    async def sample(_: str) -> None:
        driver = next(p for p in psutil.Process().children() if "loadtests/main.py" in " ".join(p.cmdline()))
        points.append(Point(url, driver))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(
            run_load(suite, url, out_dir=Path(folder), locust_files=False, on_measuring=sample, on_measured=sample)
        )
    return points[1].rates_since(points[0])


def locust_run(url: str, seconds: float) -> tuple[float, float]:
    args = [
        sys.executable, "-m", "locust", "-f", str(HERE / "load_plain_locustfile.py"), "--headless", "-H", url,
        "-u", str(USERS), "-r", str(USERS), "--only-summary",
    ]  # fmt: skip
    with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        generator = psutil.Process(process.pid)
        idle = Point(url, generator).requests
        while Point(url, generator).requests - idle < 500:
            time.sleep(0.05)
        time.sleep(WARM_UP_S)
        start = Point(url, generator)
        time.sleep(seconds)
        rates = Point(url, generator).rates_since(start)
        process.terminate()
    return rates


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5
    server = subprocess.Popen([sys.executable, HERE / "load_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    runs = {"dbperf": dbperf_run, "locust": locust_run}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    try:
        for number in range(rounds):
            order = list(runs) if number % 2 == 0 else list(runs)[::-1]  # ABBA: drift cancels
            for name in order:
                found[name].append(runs[name](url, seconds))
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    for at, what in ((0, "requests/s"), (1, "requests per CPU second")):
        logs = [math.log(d[at] / p[at]) for d, p in zip(found["dbperf"], found["locust"], strict=True)]
        centre = statistics.fmean(logs)
        spread = statistics.stdev(logs) / math.sqrt(len(logs)) * 2 if len(logs) > 1 else math.nan
        values = {n: statistics.median(x[at] for x in v) for n, v in found.items()}
        print(
            f"{what}: dbperf {values['dbperf']:.0f}, plain Locust {values['locust']:.0f}; ratio {math.exp(centre):.3f} "
            f"({math.exp(centre - spread):.3f} to {math.exp(centre + spread):.3f}), wanted {TARGET} or more, "
            f"{rounds} rounds of {seconds:g} s"
        )


if __name__ == "__main__":
    main()
