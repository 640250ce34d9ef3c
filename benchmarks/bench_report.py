"""How long a report takes and how large it is: 1,000 statements, 1,000,000 requests over 9 endpoints.

    python benchmarks/bench_report.py [--rounds 5]

Each round is a process of its own, as `dbperf report` is: imports and the start of the chart engine count. The page's
opening time is measured in Chromium where it is installed.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.sample_run import sample_run

LIMIT_S, LIMIT_BYTES, LIMIT_OPEN_MS = 2.0, 1_500_000, 1000
_CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")


def main() -> None:
    """Prints the figures, and exits with 1 where one is beyond its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        run = sample_run(Path(folder) / "run", statements=1000, requests=1_000_000).path
        took, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(rounds):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "dbperf", "report", str(run)], check=True, capture_output=True)
            took.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / rounds
        size = (run / "report.html").stat().st_size
        opened = _open_ms(run / "report.html") if _CHROMIUM else None
    build = statistics.median(took)
    print(f"dbperf report, 1,000 statements, 1,000,000 requests: median {build:.2f} s (limit {LIMIT_S:g} s)")
    print(f"  of that {cpu:.2f} s of processor time; rounds: {', '.join(f'{t:.2f}' for t in took)} s")
    print(f"report.html: {size / 1e6:.2f} MB (limit {LIMIT_BYTES / 1e6:g} MB)")
    if opened is not None:
        print(f"opens in Chromium (navigation start to load): median {opened:.0f} ms (limit {LIMIT_OPEN_MS} ms)")
    else:
        print("opens: not measured, no chromium on PATH")
    sys.exit(build > LIMIT_S or size > LIMIT_BYTES or (opened or 0) > LIMIT_OPEN_MS)


def _open_ms(page: Path) -> float:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        found = []
        for _ in range(5):
            tab = browser.new_context().new_page()
            tab.goto(page.as_uri())
            tab.wait_for_timeout(50)
            found.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        browser.close()
    return statistics.median(found)


if __name__ == "__main__":
    main()
