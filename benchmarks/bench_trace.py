"""What tracing costs: the time of a request, and so requests/s, with and without it, request by request in turn.

One process serves the reference target; a header says of each request whether it goes through the middleware. Traced
and plain ones take turns (ABBA) over one connection, so that everything that differs between two processes of one
program, and the machine's drift, meets both alike. Each four requests give a ratio; told is the trimmed mean of their
logarithms per process, and Student's t over the processes; and the same for the times of all requests, where single
ones that something held up weigh more.

Two things this leaves out are measured apart. The threads of the trace (its writer, and the one that watches the
loop) take from both kinds of request: the processor time of the one per traced request, and of the other, are added.
Hooks that wait for a request to be traced are there for the plain ones as well: `--idle` takes them out and puts them
in by blocks of requests, and tells what a process pays that has them and traces nothing. `--json` for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.intervals import interval, trimmed
from dbperf.phase3.launch import wait_until_healthy
from dbperf.phase3.seed import seed
from dbperf.phase3.settings import Settings
from dbperf.processes import free_port
from tests.support.pgserver import PgServer, bindir_18

ROOT = Path(__file__).resolve().parents[1]
ENDPOINTS = ("/openapi.json", "/reflection/health", "/consolidation/summary", "/taxonomy/v1/tree")
"""The first asks the database nothing; the second is the fastest of the API."""
FASTEST = ENDPOINTS[1]
KEY = "k" * 20
WARM_UP = 200
BLOCK = 100
"""Of `--idle`: requests that count, behind as many that don't, in which CPython learns the classes again."""


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def threads_s(self) -> tuple[float, float]:
        """CPU time so far of the thread that writes traces, and of the one that watches the loop."""
        await self.get("/trace-threads", "1")
        used = json.loads(self.body)
        return used.get("dbperf-trace-writer", 0) / 1e9, used.get("dbperf-trace-loop", 0) / 1e9

    async def get(self, path: str, mode: str) -> float:
        """Seconds that the answer took, which is in `body` then."""
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Trace: {mode}\r\nX-API-Key: {KEY}\r\n\r\n".encode()
        started = time.perf_counter()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        self.body = await self.reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        return time.perf_counter() - started


async def in_turn(client: Client, path: str, seconds: float) -> dict[str, float]:
    """The logarithm of a traced request's time over a plain one's (trimmed, and of all of them), and a plain one's
    time."""
    for _ in range(WARM_UP):
        await client.get(path, "0")
        await client.get(path, "1")
    logs: list[float] = []
    plain = []
    total = {"0": 0.0, "1": 0.0}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        took = {"0": 0.0, "1": 0.0}
        for mode in "0110" if len(logs) % 2 else "1001":
            took[mode] += await client.get(path, mode)
        logs.append(math.log(took["1"] / took["0"]))
        total = {mode: total[mode] + took[mode] for mode in total}
        plain.append(took["0"] / 2)
    all_of = math.log(total["1"] / total["0"])
    return {"log": trimmed(logs)[0], "all": all_of, "request_s": statistics.median(plain), "traced": 2.0 * len(logs)}


async def by_blocks(client: Client, path: str, seconds: float) -> dict[str, float]:
    """As `in_turn`, of a plain request with the hooks in the process over one without."""
    logs: list[float] = []
    plain = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        took: dict[str, list[float]] = {"0": [], "-": []}
        for mode in "0--0" if len(logs) % 2 else "-00-":
            for _ in range(BLOCK):
                await client.get(path, mode)
            took[mode] += [await client.get(path, mode) for _ in range(BLOCK)]
        logs.append(math.log(trimmed(took["0"])[0] / trimmed(took["-"])[0]))
        plain.append(statistics.median(took["-"]))
    mean = trimmed(logs)[0]
    return {"log": mean, "all": mean, "request_s": statistics.median(plain), "traced": 0.0}


async def one_process(dsn: str, paths: tuple[str, ...], seconds: float, *, idle: bool) -> dict[str, dict[str, float]]:
    """Starts the target, and measures each endpoint for so long."""
    port = free_port()
    settings = Settings(dsn=dsn, implementation="tuned", api_key=KEY, pool_size=5)
    with tempfile.TemporaryDirectory() as traces:
        environment = {**os.environ, **settings.environment(), "TRACES": traces, "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen([sys.executable, ROOT / "benchmarks" / "trace_server.py", str(port)], env=environment)
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}", KEY, server.poll, lambda: "")
            found = {}
            async with Client(port) as client:
                for path in paths:
                    before, started = await client.threads_s(), time.perf_counter()
                    figures = await (by_blocks if idle else in_turn)(client, path, seconds)
                    elapsed_s = time.perf_counter() - started
                    writer_s, watch_s = (b - a for a, b in zip(before, await client.threads_s(), strict=True))
                    share = writer_s / figures["traced"] / figures["request_s"] if figures["traced"] else 0.0
                    found[path] = {**figures, "threads": share + watch_s / elapsed_s, "watch": watch_s / elapsed_s}
            return found
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Prints per endpoint what tracing adds to a request, with its interval."""
    options = argparse.ArgumentParser()
    options.add_argument("--processes", type=int, default=8)
    options.add_argument("--seconds", type=float, default=8.0, help="per process and endpoint")
    options.add_argument("--idle", action="store_true", help="what the hooks cost a process that traces nothing")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    paths = (FASTEST,) if given.idle else ENDPOINTS
    seconds = given.seconds * 4 if given.idle else given.seconds
    database = PgServer(bindir_18())
    asyncio.run(seed(database.dsn(), "smoke"))
    found = []
    try:
        for _ in range(given.processes):
            found.append(asyncio.run(one_process(database.dsn(), paths, seconds, idle=given.idle)))
    finally:
        database.close()
    results = {}
    for path in paths:
        mean, half = interval([process[path]["log"] for process in found])
        threads = statistics.fmean(process[path]["threads"] for process in found)
        low, added, high = (math.exp(x) - 1 + threads for x in (mean - half, mean, mean + half))
        mean, half = interval([process[path]["all"] for process in found])
        all_low, all_added, all_high = (math.exp(x) - 1 + threads for x in (mean - half, mean, mean + half))
        request_s = statistics.median(process[path]["request_s"] for process in found)
        results[path] = {
            "request_ms": 1000 * request_s, "added_share": added, "ci_low": low, "ci_high": high,
            "threads_share": threads, "processes": len(found),
            "all_added_share": all_added, "all_ci_low": all_low, "all_ci_high": all_high,
        }  # fmt: skip
        if not given.json:
            print(
                f"{path:<22} {1000 * request_s:6.2f} ms   {100 * added:+5.2f} %"
                f" (95 %: {100 * low:+.2f} to {100 * high:+.2f}; {100 * threads:.2f} of it the trace's threads)"
                f"   all requests {100 * all_added:+5.2f} % ({100 * all_low:+.2f} to {100 * all_high:+.2f})"
            )
    if given.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
