"""The reference target at spec scale: how long seeding takes, and each heavy endpoint in both implementations.

The implementations take turns on the same machine, request by request, so that its drift meets both alike.
"""

from __future__ import annotations

import asyncio
import statistics
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
ENDPOINTS = (
    ("POST", "/reflection/analyze", {"case_id": "case-000100"}),
    ("POST", "/reflection/batch", {}),
    ("POST", "/consolidation/dry-run", {}),
    ("GET", "/consolidation/summary", None),
    ("POST", "/search", {"query": "the confirmation never arrives in seoul"}),
    ("GET", "/taxonomy/v2/tree", None),
)


async def main(scale: str) -> None:
    """Prints medians in ms and the ratio of each pair."""
    with embedded.start(private=True) as server:
        seeded = await seed(server.dsn(), scale)
        print(f"seed {scale}: {seeded.elapsed_s:.1f} s, {seeded.rows}")
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
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "spec"))
