"""Percentiles at a fixed arrival rate against the known truth, with plain Locust's for the same load beside.

The server answers after 50 to 150 ms, every 100th time after 1 s, and stalls once for 2 s. Its timers are never early
and on a virtual machine up to some ms late: the truth is what it measured itself, and what was injected
(`known_quantile_ms`) stands beside. What the truth leaves out is the way there and back and what the generator takes
for a request: about 1 ms. Users who wait for their answers leave out what they should have asked
during the stall: coordinated omission. `python benchmarks/bench_load_latency.py [seconds]`
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dbperf.load import run_load  # noqa: E402 - the path comes first
from dbperf.load.suite_file import parse_suite  # noqa: E402 - so here
from tests.support.httpserver import FaultyServer, known_quantile_ms  # noqa: E402 - and here

RATE, STALL_S, TOLERANCE = 200, 2.0, 0.02
QUANTILES = {0.5: "50%", 0.95: "95%", 0.99: "99%", 0.999: "99.9%"}


def stall_after(url: str, seconds: float) -> None:
    def stall() -> None:
        with urllib.request.urlopen(f"{url}/stall?s={STALL_S}") as response:
            response.read()

    threading.Timer(seconds, stall).start()


def given_ms(url: str, start: float, end: float) -> list[float]:
    """How long the server took for each request that came in a window, by its own clock."""
    with urllib.request.urlopen(f"{url}/given") as response:
        return sorted(ms for at, ms in json.loads(response.read()) if start <= at < end)


def dbperf_run(url: str, seconds: float) -> tuple[dict[float, float | None], list[float]]:
    suite = parse_suite(
        f'name="known"\n[[stages]]\narrival_rate={RATE}\narrivals="uniform"\nwarm_up="2s"\nduration={seconds}\n'
        '[[endpoints]]\npath="/known"\n', "bench",
    )  # fmt: skip

    async def stall(_: str) -> None:
        stall_after(url, seconds / 3)

    with tempfile.TemporaryDirectory() as folder:
        load = asyncio.run(run_load(suite, url, out_dir=Path(folder), locust_files=False, on_measuring=stall))
    if load.generator.saturated:
        print(f"the generator was the bottleneck: {load.generator.reason}")
    stage = load.stages[0]
    truth = given_ms(url, stage.started_at.timestamp(), stage.ended_at.timestamp())
    return {q.q: q.value_ms for q in stage.endpoints[0].quantiles}, truth


def locust_run(url: str, seconds: float) -> dict[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        args = [
            sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks/load_constant_locustfile.py"), "--headless",
            "-H", url, "-u", "40", "-r", "40", "-t", f"{seconds:.0f}s", "--only-summary", "--csv", f"{folder}/s",
        ]  # fmt: skip
        stall_after(url, seconds / 3)
        subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = list(csv.DictReader((Path(folder) / "s_stats.csv").read_text().splitlines()))
    return {q: float(rows[-1][column]) for q, column in QUANTILES.items()}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    with FaultyServer() as server:
        (ours, given), plain = dbperf_run(server.url, seconds), locust_run(server.url, seconds)
    print(f"{RATE} arrivals/s for {seconds:g} s, stalled once for {STALL_S:g} s; within {TOLERANCE:.0%} is wanted")
    for q in QUANTILES:
        injected, found = known_quantile_ms(q, window_s=seconds, stall_s=STALL_S), ours[q]
        truth = given[math.ceil(q * len(given)) - 1]
        off = "–" if found is None else f"{found / truth - 1:+.1%}, {found - truth:+.1f} ms"
        shown = "–" if found is None else f"{found:.1f}"
        print(
            f"P{q * 100:g}: injected {injected:.1f} ms, true {truth:.1f} ms, dbperf {shown} ms ({off}), "
            f"plain Locust {plain[q]:.0f} ms ({plain[q] / truth - 1:+.0%})"
        )


if __name__ == "__main__":
    main()
