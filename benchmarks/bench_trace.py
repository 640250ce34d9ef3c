"""What tracing costs: requests/s of a served application with and without it, interleaved ABBA in one session.

Two processes serve the reference target; the traced one and the plain one take turns, so that the machine's drift
cancels. Two processes of the same program differ by some per cent for their whole life (where their memory lies), so
there are several pairs of them, and the interval is Student's t over the pairs (after Kalibera and Jones, Rigorous
benchmarking in reasonable time, 2013: repeat at the level that varies). `--control` traces neither: what it prints is
the method's own error. Prints two ratios per endpoint: of requests/s, and of the server's CPU time per request, which
other work on the machine disturbs less. `--json` for machines. `--keep FILE` adds the pairs to those of earlier calls,
where the machine can be had to oneself for some minutes only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dbperf.phase3.launch import RunningTarget, start_target  # noqa: E402 - the checkout's own package
from dbperf.phase3.seed import seed  # noqa: E402
from dbperf.stats.distributions import t_quantile  # noqa: E402
from dbperf.trace.launch import environment  # noqa: E402
from tests.support.pgserver import PgServer, bindir_18  # noqa: E402

ENDPOINTS = ("/openapi.json", "/reflection/health", "/consolidation/summary", "/taxonomy/v1/tree")
"""The first asks the database nothing; the second is the fastest of the API."""


def serve(dsn: str, folder: Path | None) -> RunningTarget:
    """The reference target, tuned, with or without trace."""
    before = dict(os.environ)
    if folder is not None:
        os.environ.update(environment(folder))
    try:
        return start_target(dsn, "tuned")
    finally:
        os.environ.clear()
        os.environ.update(before)


async def rate(target: RunningTarget, path: str, seconds: float) -> float:
    """Requests per second over one keep-alive connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(target.url.rsplit(":", 1)[1]))
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {target.api_key}\r\n\r\n".encode()
    n = 0
    end = (start := time.perf_counter()) + seconds
    while time.perf_counter() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        n += 1
    elapsed = time.perf_counter() - start
    writer.close()
    await writer.wait_closed()
    return n / elapsed


def cpu_s(pid: int) -> float:
    """CPU time of a process, all its threads, to the nanosecond (proc(5), schedstat)."""
    return sum(int(p.read_text().split()[0]) for p in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def block(server: RunningTarget, path: str, seconds: float) -> tuple[float, float]:
    """Requests/s, and CPU seconds per request."""
    before, start = cpu_s(server.pid), time.perf_counter()
    per_s = asyncio.run(rate(server, path, seconds))
    requests = per_s * (time.perf_counter() - start)
    return per_s, (cpu_s(server.pid) - before) / requests


def interval(logs: list[float]) -> tuple[float, float, float]:
    """The mean ratio of the pairs, less one, with its 95 % interval; `logs` are logarithms of ratios."""
    mean = statistics.fmean(logs)
    half = t_quantile(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean) - 1, math.exp(mean - half) - 1, math.exp(mean + half) - 1


def compare(plain: RunningTarget, traced: RunningTarget, path: str, blocks: int, seconds: float) -> dict[str, float]:
    """Of one pair of processes: the logarithms of its ratios, medians over the blocks, and the plain one's speed."""
    asyncio.run(rate(plain, path, 0.5))
    asyncio.run(rate(traced, path, 0.5))
    slower, cpu, speeds = [], [], []
    for _ in range(blocks):
        a1, b1, b2, a2 = (block(server, path, seconds / 2) for server in (plain, traced, traced, plain))
        slower.append(math.log((a1[0] + a2[0]) / (b1[0] + b2[0])))
        cpu.append(math.log((b1[1] + b2[1]) / (a1[1] + a2[1])))
        speeds.append((a1[0] + a2[0]) / 2)
    return {"slower": statistics.median(slower), "cpu": statistics.median(cpu), "speed": statistics.median(speeds)}


Pair = dict[str, dict[str, float]]
"""What `compare` found, by endpoint."""


def one_pair(dsn: str, traces: Path | None, blocks: int, seconds: float) -> Pair:
    """A plain process and a traced one, or two plain ones where `traces` is None."""
    servers = []
    try:
        for out in (None, traces):
            servers.append(serve(dsn, out))
        return {path: compare(servers[0], servers[1], path, blocks, seconds) for path in ENDPOINTS}
    finally:
        for server in servers:
            server.stop()


def kept(file: Path | None, *, control: bool) -> list[Pair]:
    """The pairs of earlier calls, of the same kind."""
    if file is None or not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["endpoints"] for line in lines if line["control"] == control]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--pairs", type=int, default=6)
    options.add_argument("--blocks", type=int, default=4)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--control", action="store_true")
    options.add_argument("--keep", type=Path)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    found = kept(given.keep, control=given.control)
    database = PgServer(bindir_18())
    asyncio.run(seed(database.dsn(), "smoke"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            for pair in range(given.pairs):
                traces = None if given.control else Path(folder) / str(pair)
                measured = one_pair(database.dsn(), traces, given.blocks, given.seconds)
                found.append(measured)
                if given.keep is not None:
                    with given.keep.open("a") as f:
                        f.write(json.dumps({"control": given.control, "endpoints": measured}) + "\n")
        finally:
            database.close()
    results = {}
    for path in ENDPOINTS:
        pairs = [pair[path] for pair in found]
        result = {"requests_per_s": statistics.median(p["speed"] for p in pairs), "pairs": float(len(pairs))}
        for name, key in (("time_share", "slower"), ("cpu_share", "cpu")):
            result[name], result[f"{name}_ci_low"], result[f"{name}_ci_high"] = interval([p[key] for p in pairs])
        results[path] = result
        if not given.json:
            shown = [
                f"{label} {100 * result[k]:+5.2f} % [{100 * result[k + '_ci_low']:+.2f}, "
                f"{100 * result[k + '_ci_high']:+.2f}]"
                for label, k in (("time per request", "time_share"), ("CPU per request", "cpu_share"))
            ]
            print(f"{path:<22} {result['requests_per_s']:6.0f} requests/s   {'   '.join(shown)}")
    if given.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
