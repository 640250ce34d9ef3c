"""Ctrl-C of `dbperf load` and of `dbperf run` in its load stage: until the program has ended, its report written.

Three cases: a generator that is asked for several times what it can do, the reference target with its server, and the
whole run. Prints the median and the largest time, of which 3 s are wanted at most, and the program's own CPU time after
the signal, its children's included. `python benchmarks/bench_load_interrupt.py [repetitions] [case …]`
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dbperf.records.load import Load  # noqa: E402 - the checkout's own package
from dbperf.records.rundir import RunDirectory  # noqa: E402

WANTED_S, AFTER_S = 3.0, 8.0
OVERLOADED = """name = "overloaded"
[[stages]]
name = "overloaded"
arrival_rate = 10000
duration = "60s"
[[endpoints]]
path = "/ok"
"""


def cpu_s(pid: int) -> float:
    """CPU time of a process and all its children, those that have ended included."""
    own = psutil.Process(pid).cpu_times()
    living = [p.cpu_times() for p in psutil.Process(pid).children(recursive=True)]
    return float(sum(own[:4]) + sum(sum(t[:2]) for t in living))


def interrupted(arguments: list[str], folder: Path, out: Path) -> tuple[float, float]:
    """Seconds from the signal to the end, and CPU seconds of the program and its children."""
    program = subprocess.Popen(
        [sys.executable, "-m", "dbperf", *arguments, "--out", str(out)], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    log, deadline = out / "load.jsonl", time.monotonic() + 120
    while not (log.exists() and b'"measured"' in log.read_bytes()):
        assert program.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(AFTER_S)
    before, start = cpu_s(program.pid), time.perf_counter()
    program.send_signal(signal.SIGINT)
    _, status, usage = os.wait4(program.pid, 0)
    took_s = time.perf_counter() - start
    program.returncode = os.waitstatus_to_exitcode(status)
    assert program.returncode == 130, program.returncode
    run = RunDirectory.open(out)
    load = run.read(Load)
    assert run.manifest.status == "partial"
    assert (out / "report.html").stat().st_size > 10_000
    assert load.stages
    assert load.stages[0].requests
    assert any("ended early: interrupted" in note for note in load.notes), load.notes
    return took_s, usage.ru_utime + usage.ru_stime - before  # children that it waited for included


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    server = subprocess.Popen([sys.executable, ROOT / "benchmarks/load_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "overloaded.toml").write_text(OVERLOADED)
            cases = {
                "overloaded": ["load", "overloaded.toml", "--url", url],
                "load": ["load", "constant", "--scale", "smoke"],
                "run": ["run", "--quick", "--duration", "60s"],
            }
            for case in sys.argv[2:] or cases:
                found = [interrupted(cases[case], folder, folder / f"{case}-{n}") for n in range(repetitions)]
                times = [took_s for took_s, _ in found]
                print(
                    f"{case}: {statistics.median(times):.2f} s, at most {max(times):.2f} s of {repetitions}, "
                    f"{WANTED_S:g} s are wanted; CPU {statistics.median(cpu for _, cpu in found):.2f} s",
                    flush=True,
                )
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


if __name__ == "__main__":
    main()
