"""What sampling costs the sampled program, interleaved, and how long reading and drawing large profiles takes."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dbperf.flame.drawing import figure, page  # noqa: E402 - the checkout's own package
from dbperf.flame.ops import Builder, costs  # noqa: E402
from dbperf.flame.pyspy import record  # noqa: E402
from dbperf.flame.readers import parse_collapsed  # noqa: E402
from dbperf.flame.sampler import Sampler  # noqa: E402
from dbperf.flame.writers import collapsed  # noqa: E402
from dbperf.records.stacks import Frame  # noqa: E402

LOOPS = (
    "import sys\nwhile True:\n    for _ in range(2000): sum(range(50))\n    sys.stdout.write('.'); sys.stdout.flush()\n"
)


def spin(seconds: float) -> float:
    """Loops per CPU second of this thread, which a slower machine does not change."""
    n = 0
    start = time.thread_time()
    while time.thread_time() - start < seconds:
        for _ in range(200):
            sum(range(50))
        n += 200
    return n / (time.thread_time() - start)


def sampler_overhead(blocks: int) -> list[float]:
    out = []
    for _ in range(blocks):
        plain = spin(0.3)
        sampler = Sampler(rate=100)
        sampler.start()
        sampled = spin(0.3)
        sampler.stop()
        out.append(1 - sampled / ((plain + spin(0.3)) / 2))
    return out


def pyspy_overhead(blocks: int) -> list[float]:
    child = subprocess.Popen([sys.executable, "-u", "-c", LOOPS], stdout=subprocess.PIPE)
    assert child.stdout

    def progress(seconds: float) -> float:
        assert child.stdout
        end = (start := time.monotonic()) + seconds
        n = 0
        while time.monotonic() < end:
            n += len(child.stdout.read1(1 << 16))
        return n / (time.monotonic() - start)

    out = []
    try:
        progress(1)
        for _ in range(blocks):
            before = progress(1)
            thread = threading.Thread(target=record, args=(child.pid, 1.5))
            thread.start()
            time.sleep(0.3)
            during = progress(1)
            thread.join()
            progress(0.2)
            out.append(1 - during / ((before + progress(1)) / 2))
    finally:
        child.kill()
        child.wait()
    return out


def pyspy_accuracy(runs: int) -> list[float]:
    """The share that py-spy gives a function which has 75 % of a program's CPU time, once per run."""
    program = ROOT / "tests/support/known_profiles.py"
    shares = []
    for _ in range(runs):
        child = subprocess.Popen([sys.executable, program, "forever", "0.03", "0.01"], stdout=subprocess.PIPE)
        assert child.stdout
        try:
            child.stdout.readline()
            found = costs(record(child.pid, 3))
        finally:
            child.kill()
            child.communicate()
        heavy, light = (
            sum(c.total_value for f, c in found.items() if f.name.rpartition(".")[2] == name)
            for name in ("heavy", "light")
        )
        shares.append(heavy / (heavy + light))
    return shares


def drawing() -> dict[str, float]:
    r = random.Random(1)
    b = Builder()
    for _ in range(5000):
        path = [Frame(name=f"f{r.randrange(40)}", file=f"/a/{r.randrange(9)}.py") for _ in range(r.randrange(5, 30))]
        b.add(path, r.random())
    s = b.build(name="x", source="bench", unit="ms")
    text = collapsed(s)
    start = time.perf_counter()
    parse_collapsed(text, source="x")
    read = time.perf_counter()
    body = page("x", [("x", figure(s, figure_id="f"))])
    drawn = time.perf_counter()
    return {"read_s": read - start, "draw_s": drawn - read, "page_bytes": float(len(body))}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--blocks", type=int, default=6)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    result: dict[str, object] = {"drawing_about_80_000_frames": drawing()}
    rng = np.random.default_rng(1)
    for name, values in (("sampler", sampler_overhead(given.blocks)), ("py-spy", pyspy_overhead(given.blocks))):
        drawn = np.median(rng.choice(values, (4000, len(values))), axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        result[name] = {"overhead_share": float(np.median(values)), "ci_low": float(low), "ci_high": float(high)}
        if not given.json:
            print(f"{name:<8} at 100/s: overhead {100 * np.median(values):5.2f} % [{100 * low:.2f}, {100 * high:.2f}]")
    shares = pyspy_accuracy(given.blocks)
    result["py-spy_share_of_75_percent"] = shares
    if not given.json:
        print(f"py-spy gives a function with 75 % of the time {100 * min(shares):.1f} to {100 * max(shares):.1f} %")
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        print(result["drawing_about_80_000_frames"])


if __name__ == "__main__":
    main()
