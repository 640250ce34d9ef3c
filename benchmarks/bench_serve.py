"""`dbperf serve` with 5,000 statements: how long a scrape and a look take."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dbperf.monitor.exporter import Exporter, listen
from dbperf.postgres.connect import connected
from tests.support.pgserver import PgServer, bindir_18

STATEMENTS = "\n".join(f"SELECT c{i}, c{j} FROM t;" for i in range(70) for j in range(70))


async def main() -> None:
    server = PgServer(bindir_18())
    try:
        server.psql("CREATE EXTENSION pg_stat_statements")
        server.psql(f"CREATE TABLE t ({', '.join(f'c{i} int' for i in range(70))})")
        exporter = Exporter(server.dsn())
        async with connected(server.dsn()) as conn:
            await exporter.look(conn)
            for what in ("first, with texts", "all moved"):
                server.psql(STATEMENTS)
                started = time.monotonic()
                await exporter.look(conn)
                print(f"look, {what}: {1000 * (time.monotonic() - started):.0f} ms")
        listening = listen(exporter, host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{listening.server_port}/metrics"
        times_ms = await asyncio.to_thread(lambda: sorted(scrape_ms(url) for _ in range(200)))
        listening.shutdown()
        listening.server_close()
        print(
            f"scrape: median {statistics.median(times_ms):.1f} ms, slowest of 200 {times_ms[-1]:.1f} ms (below 100 ms)"
        )
    finally:
        server.close()


def scrape_ms(url: str) -> float:
    started = time.monotonic()
    with urllib.request.urlopen(url) as response:
        response.read()
    return 1000 * (time.monotonic() - started)


asyncio.run(main())
