"""The gate over real servers: how often `dbperf bench --against` alarms with no change, and catches 12 % more.

A repository with the reference target is made anew. In its working tree one endpoint sleeps for 12 % of its own P95,
which is measured first; the working tree is compared with its commit. Each run is a whole `dbperf bench --against`.
Then the same by the stored baseline: one run becomes the baseline, later runs with and without the slowdown are judged
by `dbperf compare`. Prints counts with Wilson's 95 % intervals. `--runs 20` is what the gate promises, and takes an
hour or two; `--quick` makes one of each. `--json` for machines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dbperf.stats.distributions import wilson  # noqa: E402 - the checkout's own package
from tests.support.revisions import git, repository, slow_down_analyze  # noqa: E402

ENDPOINT = "POST /reflection/analyze"
SLOWDOWN = 0.12


def dbperf(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in the repository, with the repository's own code."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "dbperf", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr}")
    return done


def p95_ms(folder: Path, out: Path) -> float:
    """The endpoint's own P95, measured in turns with itself."""
    return _p95(against(folder, out, "--samples", "400"))


def against(folder: Path, out: Path, *more: str) -> dict[str, object]:
    """One comparison of the working tree with its commit."""
    options = ("-k", "analyze", "--out", out, "--force", "--format", "json", *more)
    result: dict[str, object] = json.loads(dbperf(folder, "bench", "--against", "HEAD", *options).stdout)
    return result


def _p95(result: dict[str, object]) -> float:
    metrics: list[dict[str, object]] = result["metrics"]  # type: ignore[assignment]  # the comparison's JSON
    return float(next(m["a"] for m in metrics if m["name"] == f"{ENDPOINT} p95"))  # type: ignore[arg-type]


def stored(folder: Path, out: Path) -> Path:
    """One run of the benchmarks of the endpoint."""
    dbperf(folder, "bench", "-k", "PERF-001 or PERF-002", "--out", out, "--force")
    return out


def rate(label: str, hits: int, runs: int) -> dict[str, object]:
    """A line with a count and its interval."""
    low, high = wilson(hits, runs)
    print(f"{label:54} {hits:3} of {runs:3}  ({low:.1%} to {high:.1%})", flush=True)
    return {"what": label, "hits": hits, "runs": runs, "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one of each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    with tempfile.TemporaryDirectory(prefix="dbperf-gate-") as scratch:
        folder = repository(Path(scratch) / "repo")
        out = Path(scratch) / "out"
        usual_ms = p95_ms(folder, out)
        print(
            f"{ENDPOINT} has a P95 of {usual_ms:.1f} ms; the slow version sleeps for {SLOWDOWN:.0%} of it", flush=True
        )
        same = [against(folder, out)["verdict"] for _ in range(runs)]
        base = stored(folder, Path(scratch) / "base")
        baseline = Path(scratch) / "baseline.json"
        dbperf(folder, "baseline", "promote", base, "--reason", "gate", "--baseline", baseline)
        calm = [dbperf(folder, "compare", baseline, stored(folder, out)).returncode for _ in range(runs)]
        slow_down_analyze(folder, SLOWDOWN * usual_ms / 1e3)
        slow = [against(folder, out)["verdict"] for _ in range(runs)]
        seen = [dbperf(folder, "compare", baseline, stored(folder, out)).returncode for _ in range(runs)]
        git(folder, "checkout", "--quiet", ".")
    found = [
        rate("in turns, no change: regression called", sum(v == "fail" for v in same), runs),
        rate("in turns, no change: passed", sum(v == "pass" for v in same), runs),
        rate(f"in turns, P95 +{SLOWDOWN:.0%}: caught", sum(v == "fail" for v in slow), runs),
        rate("stored baseline, no change: regression called", sum(c == 1 for c in calm), runs),
        rate(f"stored baseline, P95 +{SLOWDOWN:.0%}: caught", sum(c == 1 for c in seen), runs),
    ]
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
