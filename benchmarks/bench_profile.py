"""What profiling costs a busy server: pgbench's throughput with and without `dbperf profile` beside it.

One pgbench and one `dbperf profile` run all the time; the latter is stopped and continued (SIGSTOP, SIGCONT) in slices
of a fifth of a second, in the order ABBA, so that the machine's drift meets both alike. pgbench's own log says how many
transactions ended in each slice. Each ABBA gives one ratio; told is the trimmed mean of their logarithms, a fifth left
out at each end (what else the machine does hits single groups), and behind it the plain mean, which has the rare looks
at the statistics in full and a wider interval. Half of the
time dbperf stands still, so what it does by the clock (a look at the statistics every 10 s, at all connections every
second) is due half as often here, and as a sample is taken at the very start of each slice the rate is a little lower:
in the time that counts all is as often as by default. The server and pgbench have one
processor, dbperf another, as if it ran on another machine: else what its Python takes from them counts as the server's
loss. The data lie in memory where there is room: a disk's moods drown a loss of 1 %, and a server that waits for its
disk has time to answer dbperf. The target is below 1 % at default settings.

On a machine that does other work as well the interval is wide. So the same ratio is told for transactions per second of
the server's processor time (all its processes, the one that answers dbperf included), which other programs hardly
disturb: where the server is busy all the time, that is its throughput. What the sessions that answer dbperf took of the
server's processor time is told as well: that needs no comparison, but leaves out what they drive out of its caches.

An interval below 1 % takes many groups. `--keep FILE` adds them to those of earlier runs of the same code, and tells
the ratio of all, so that they can be taken in pieces, when the machine is quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dbperf
from benchmarks.intervals import interval, trimmed
from dbperf.postgres import activity, embedded
from dbperf.postgres.profile import INTERIM_S

SLICE_S = 0.2
"""As short as two samples and the clock of /proc allow: the machine's speed drifts by the second."""
GROUPS = 250
MEMORY = Path("/dev/shm")
CLIENTS = 4
AGREEMENTS = 20
SERVER_CPU, OUR_CPU = 0, 1
WORKLOADS = {"select-only": ["-S"], "simple-update": ["-N"]}


@dataclass(frozen=True)
class Slice:
    """A piece of time with profiling or without it. Times in seconds; cpu_s is the server's processor time in it."""

    on: bool
    start: float
    end: float
    cpu_s: float
    ours_s: float
    """Of that: the sessions that answer dbperf."""


def slices(
    child: subprocess.Popen[bytes], bench: subprocess.Popen[bytes], postmaster: int, ours: list[int], groups: int
) -> list[list[Slice]]:
    """Stops and continues dbperf; returns for each group that ended before pgbench did its slices."""
    done = []
    for i in range(groups):
        group: list[Slice] = []
        server = [process.pid for process in psutil.Process(postmaster).children()]
        for on in (True, False, False, True) if i % 2 else (False, True, True, False):
            os.kill(child.pid, signal.SIGCONT if on else signal.SIGSTOP)
            start, before = time.time(), cpu_ns(server)
            time.sleep(SLICE_S)
            after, end = cpu_ns(server), time.time()
            group.append(Slice(on, start, end, used_s(before, after, server), used_s(before, after, ours)))
        if bench.poll() is not None:
            break
        done.append(group)
    os.kill(child.pid, signal.SIGCONT)
    return done


def log_ratios(ends: np.ndarray, groups: Sequence[Sequence[Slice]], per: Callable[[Slice], float]) -> list[float]:
    """Of each group: the logarithm of the transactions per `per` (seconds) with profiling over that without."""
    ratios = []
    for group in groups:
        count, seconds = {True: 0, False: 0}, {True: 0.0, False: 0.0}
        for part in group:
            count[part.on] += int(np.searchsorted(ends, part.end) - np.searchsorted(ends, part.start))
            seconds[part.on] += per(part)
        ratios.append(math.log(count[True] / seconds[True]) - math.log(count[False] / seconds[False]))
    return ratios


def measure(
    server: embedded.Embedded, bindir: Path, flags: list[str], groups: int
) -> tuple[list[float], list[float], dict[str, Any]]:
    """The ratios of one workload, by time and by the server's processor time, and what the profile says of itself."""
    env = {"PGHOST": str(server.socket_dir), "PGUSER": "postgres", "PGDATABASE": "postgres", "PATH": os.environ["PATH"]}
    seconds = groups * 4 * (SLICE_S + 0.01) + 5
    with tempfile.TemporaryDirectory() as folder:
        bench = subprocess.Popen(
            [bindir / "pgbench", "-n", "-M", "prepared", "-c", str(CLIENTS), "-T", str(math.ceil(seconds)), "-l",
             *flags],
            env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        profile = subprocess.Popen(
            [sys.executable, __file__, "--half", server.dsn(), "--seconds", str(seconds - 1.5)],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        pin(bench.pid, SERVER_CPU)
        pin(profile.pid, OUR_CPU)
        time.sleep(2)  # both have started
        ours: list[int] = []
        while len(ours) < 2 and profile.poll() is None:  # the sampling session, and the one that reads statistics
            ours = dbperf_sessions(bindir, env)
        before = cpu_s(profile.pid)
        groups_done = slices(profile, bench, server.pid, ours, groups)
        cost = (cpu_s(profile.pid) - before) / (len(groups_done) * 2 * SLICE_S)
        told = json.loads(profile.communicate()[0])
        bench.wait()
        lines = [np.loadtxt(path, usecols=(4, 5)) for path in Path(folder).glob("pgbench_log.*")]
    stamps = np.concatenate(lines)
    ends = np.sort(stamps[:, 0] + stamps[:, 1] / 1e6)
    by_time = log_ratios(ends, groups_done, lambda part: part.end - part.start)
    by_cpu = log_ratios(ends, groups_done, lambda part: part.cpu_s)
    return by_time, by_cpu, {**told, "cpu_share": cost, "server_share": server_share(groups_done)}


def profile_half(dsn: str, seconds: float) -> None:
    """`dbperf profile --format json` for a process that stands still half of the time."""
    activity.WHOLE_S *= 2

    async def once() -> None:
        rate_hz = activity.RATE_HZ - 0.5 / SLICE_S
        async with dbperf.profile(dsn, interim_s=2 * INTERIM_S, rate_hz=rate_hz) as window:
            await asyncio.sleep(seconds)
        print(json.dumps(window.profile.contract(), default=msgspec.to_builtins))

    asyncio.run(once())


def dbperf_sessions(bindir: Path, env: dict[str, str]) -> list[int]:
    """The processes that answer `dbperf profile`."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dbperf profile'"
    done = subprocess.run([bindir / "psql", "-Atc", query], env=env, check=True, capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def server_share(groups: Sequence[Sequence[Slice]]) -> list[float]:
    """Of each group: the processor time of dbperf's sessions over the server's, while it profiles."""
    return [sum(p.ours_s for p in g if p.on) / sum(p.cpu_s for p in g if p.on) for g in groups]


def reachable(folder: Path) -> Path:
    """Lets the account in that the server runs under when this is root."""
    folder.chmod(0o755)
    return folder


def pin(pid: int, cpu: int) -> None:
    """Keeps a process, its threads and children on one processor; does nothing where there is no such processor."""
    if cpu not in os.sched_getaffinity(0):
        return
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # an autovacuum worker that has ended
            for thread in each.threads():
                os.sched_setaffinity(thread.id, {cpu})


def cpu_ns(pids: Sequence[int]) -> dict[int, int]:
    """The processor time of each process so far, in nanoseconds (Linux: /proc/PID/schedstat)."""
    used = {}
    for pid in pids:
        with suppress(OSError):  # it ended
            used[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return used


def used_s(before: dict[int, int], after: dict[int, int], pids: Sequence[int]) -> float:
    """What these processes used meanwhile; one that ended (an autovacuum worker) has taken its figures with it."""
    return sum(after[pid] - before[pid] for pid in pids if pid in before and pid in after) / 1e9


def cpu_s(pid: int) -> float:
    """CPU time that a process used so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def agreement(server: embedded.Embedded, bindir: Path, runs: int) -> list[float]:
    """The profile's sum over statements as a share of the time that pgbench measured as their client, once per run.

    On a busy machine the client waits for a processor after the server has answered, and the share falls.
    """
    env = {"PGHOST": str(server.socket_dir), "PGUSER": "postgres", "PGDATABASE": "postgres", "PATH": os.environ["PATH"]}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT bid, sum(abalance), count(DISTINCT aid % 1000) FROM pgbench_accounts GROUP BY bid;\n")
        script.flush()
        bench = [bindir / "pgbench", "-n", "-c", "1", "-t", "5", "-f", script.name]

        async def once() -> float:
            async with dbperf.profile(server.dsn()) as window:
                done = await asyncio.to_thread(
                    subprocess.run, bench, env=env, capture_output=True, text=True, check=True
                )
            latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
            assert latency
            return window.profile.statements.total_ms / (5 * float(latency[1]))

        shares = [asyncio.run(once()) for _ in range(runs)]
    return shares


def main(groups: int, workloads: Sequence[str], keep: Path | None) -> None:
    """Prints the ratio of throughput with profiling to that without."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as place,
        embedded.start(reachable(Path(place)), private=True) as postgres,
    ):
        bindir = Path(psutil.Process(postgres.pid).exe()).parent
        base = {"PGHOST": str(postgres.socket_dir), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        subprocess.run(
            [bindir / "psql", "-qc", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"],
            env=base,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        subprocess.run([bindir / "pgbench", "-i", "-q", "-s", "10"], env=base, check=True, capture_output=True)
        if keep is None:
            shares = agreement(postgres, bindir, AGREEMENTS)
            print(f"statements of the profile / the client's time: {min(shares):.3f} to {max(shares):.3f}")
        pin(postgres.pid, SERVER_CPU)
        for name in workloads:
            by_time, by_cpu, told = measure(postgres, bindir, WORKLOADS[name], groups)
            if keep is not None:
                by_time, by_cpu = together(keep, name, by_time, by_cpu)
            share, half = interval(told["server_share"])
            sampler, collectors = told["activity"]["sampler"], told["collectors"]
            # Wall time, so an upper bound; a session's CPU time is too short for the kernel's ticks to count.
            server = sampler["server_ms_mean"] / 1000 * sampler["rate_hz"]
            print(f"{name}, {len(by_time)} groups of {4 * SLICE_S:g} s, with profiling / without:")
            print(f"  transactions per second: {told_ratio(by_time)}")
            print(f"  transactions per second of the server's processor time: {told_ratio(by_cpu)}")
            print(f"  dbperf's sessions took {100 * share:.2f} % (±{100 * half:.2f}) of the server's processor time")
            print(
                f"  the samples took {100 * server:.2f} % of the server's processor"
                f" ({sampler['server_ms_mean']:.3f} ms each), {collectors['snapshots']} looks at the statistics"
                f" {collectors['snapshots_ms'] / max(1, collectors['snapshots']):.1f} ms each,"
                f" dbperf itself {100 * told['cpu_share']:.2f} % of its own"
            )


def together(keep: Path, workload: str, by_time: list[float], by_cpu: list[float]) -> tuple[list[float], list[float]]:
    """The log ratios of this run behind those that the file has, which keeps them all."""
    kept = json.loads(keep.read_text()) if keep.exists() else {}
    sides = kept.setdefault(workload, {"by_time": [], "by_cpu": []})
    sides["by_time"] += by_time
    sides["by_cpu"] += by_cpu
    keep.write_text(json.dumps(kept))
    return sides["by_time"], sides["by_cpu"]


def told_ratio(logs: list[float]) -> str:
    """The ratio with its interval, and what that says of a loss of 1 %."""
    mean, half = trimmed(logs)
    low, high = math.exp(mean - half), math.exp(mean + half)
    verdict = "below 1 %" if low > 0.99 else "1 % or more" if high < 0.99 else "can't tell"
    plain, wide = interval(logs)
    return (
        f"{math.exp(mean):.4f} (95 %: {low:.4f} to {high:.4f}); loss: {verdict}"
        f" (plain mean {math.exp(plain):.4f}, {math.exp(plain - wide):.4f} to {math.exp(plain + wide):.4f})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("groups", type=int, nargs="?", default=GROUPS)
    parser.add_argument("workloads", nargs="*", help=", ".join(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--half", metavar="DSN", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.half:
        profile_half(given.half, given.seconds)
    else:
        main(given.groups, given.workloads, given.keep)
