"""What tracing costs: requests/s of a served application with and without it, interleaved ABBA in one session.

Two processes serve the reference target; the traced one and the plain one take turns, so that the
machine's drift cancels. Prints two ratios with bootstrap intervals per endpoint: of requests/s, and of the server's
CPU time per request, which other work on the machine disturbs less. `--json` for machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dbperf.phase3.launch import RunningTarget, start_target  # noqa: E402 - the checkout's own package
from dbperf.phase3.seed import seed  # noqa: E402
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


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Median of the ratios with a 95 % bootstrap interval."""
    rng = np.random.default_rng(1)
    values = np.array(ratios)
    medians = np.median(rng.choice(values, (4000, len(values))), axis=1)
    return float(np.median(values)), *(float(q) for q in np.quantile(medians, (0.025, 0.975)))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--blocks", type=int, default=12)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    database = PgServer(bindir_18())
    asyncio.run(seed(database.dsn(), "smoke"))
    with tempfile.TemporaryDirectory() as folder:
        plain = serve(database.dsn(), None)
        traced = serve(database.dsn(), Path(folder))
        try:
            results = {}
            for path in ENDPOINTS:
                asyncio.run(rate(plain, path, 0.5))
                asyncio.run(rate(traced, path, 0.5))
                ratios, cpu, speeds = [], [], []
                for _ in range(given.blocks):
                    a1 = block(plain, path, given.seconds / 2)
                    b1 = block(traced, path, given.seconds / 2)
                    b2 = block(traced, path, given.seconds / 2)
                    a2 = block(plain, path, given.seconds / 2)
                    ratios.append(1 - (b1[0] + b2[0]) / (a1[0] + a2[0]))
                    cpu.append((b1[1] + b2[1]) / (a1[1] + a2[1]) - 1)
                    speeds.append((a1[0] + a2[0]) / 2)
                result = {"requests_per_s": float(np.median(speeds))}
                for name, values in (("overhead_share", ratios), ("cpu_share", cpu)):
                    result[name], result[f"{name}_ci_low"], result[f"{name}_ci_high"] = interval(values)
                results[path] = result
                if not given.json:
                    shown = [
                        f"{label} {100 * result[k]:5.2f} % [{100 * result[k + '_ci_low']:.2f}, "
                        f"{100 * result[k + '_ci_high']:.2f}]"
                        for label, k in (("requests/s", "overhead_share"), ("CPU", "cpu_share"))
                    ]
                    print(f"{path:<20} {result['requests_per_s']:7.0f} requests/s   overhead: {'   '.join(shown)}")
            if given.json:
                print(json.dumps(results, indent=2))
        finally:
            for server in (plain, traced):
                server.stop()
            database.close()


if __name__ == "__main__":
    main()
