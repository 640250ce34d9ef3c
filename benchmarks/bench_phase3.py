"""The reference target at spec scale: what seeding takes, and each heavy endpoint in both implementations.

The implementations take turns on the same machine, request by request, so that its drift meets both alike.
`python benchmarks/bench_phase3.py --seed large` only seeds: 10 million rows, two and a half minutes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx

from dbperf.phase3.app import create_app
from dbperf.phase3.seed import seed
from dbperf.phase3.service import IMPLEMENTATIONS
from dbperf.phase3.settings import Settings
from dbperf.postgres import embedded

ROUNDS = 10
SEED_LIMIT_MB = 500
ENDPOINTS = (
    ("POST", "/reflection/analyze", {"case_id": "case-000100"}),
    ("POST", "/reflection/batch", {}),
    ("POST", "/consolidation/dry-run", {}),
    ("GET", "/consolidation/summary", None),
    ("POST", "/search", {"query": "the confirmation never arrives in seoul"}),
    ("GET", "/taxonomy/v2/tree", None),
)


async def seed_here(dsn: str, scale: str) -> None:
    """In a process of its own, whose peak is that of seeding."""
    seeded = await seed(dsn, scale)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"elapsed_s": seeded.elapsed_s, "rows": seeded.rows, "peak_mb": peak / 2**20}))


def measure_seed(dsn: str, scale: str) -> None:
    """Seeds, and prints time and peak memory."""
    done = subprocess.run([sys.executable, __file__, "--seed-here", dsn, scale], stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    print(
        f"seed {scale}: {found['elapsed_s']:.1f} s, memory {found['peak_mb']:.0f} MB at the peak, "
        f"below {SEED_LIMIT_MB} is wanted; {found['rows']}"
    )


async def main(scale: str) -> None:
    """Prints medians in ms and the ratio of each pair."""
    with embedded.start(private=True) as server:
        measure_seed(server.dsn(), scale)
        clients = []
        for name in IMPLEMENTATIONS:
            app = create_app(Settings(dsn=server.dsn(), implementation=name, api_key="k", now=datetime.now(UTC)))
            clients.append((app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t")))
        for method, path, body in ENDPOINTS:
            times: list[list[float]] = [[], []]
            for i in range(ROUNDS + 1):
                for which in (0, 1) if i % 2 else (1, 0):
                    began = time.perf_counter()
                    answer = await clients[which][1].request(method, path, json=body, headers={"X-API-Key": "k"})
                    assert answer.status_code == 200, answer.text
                    if i:  # the first is a warm-up
                        times[which].append((time.perf_counter() - began) * 1e3)
            ratios = sorted(a / b for a, b in zip(*times, strict=True))
            naive_ms, tuned_ms = (statistics.median(t) for t in times)
            print(
                f"{method} {path}: naive {naive_ms:.1f} ms, tuned {tuned_ms:.1f} ms,"
                f" ratio {statistics.median(ratios):.1f} ({ratios[1]:.1f} to {ratios[-2]:.1f})"
            )
        for app, client in clients:
            await client.aclose()
            await app.state.phase3.engine.dispose()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--seed-here", dsn, scale]:
            asyncio.run(seed_here(dsn, scale))
        case ["--seed", scale]:
            with embedded.start(private=True) as server:
                measure_seed(server.dsn(), scale)
        case scales:
            asyncio.run(main(*scales or ["spec"]))
