"""False alarms and power of every way to decide, on simulated noise and on the reference target against itself.

`python benchmarks/calibrate.py [--scale 1.0] [--measure 4m] [--write]`: --scale multiplies how often everything is
repeated, --measure adds A/A runs of the reference target (two processes of the same code) for so long, --write puts the
figures into docs/statistics.md. `make calibrate` does all of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.calibrate_models import (  # noqa: E402 - the path
    BIMODAL_CV,
    CORRELATED,
    MODELS,
    RUN_TO_RUN,
    SERIES_CV,
    Floats,
    run,
    session,
)
from benchmarks.calibrate_modes import (  # noqa: E402 - comes first
    interleaved,
    pytest_benchmark_fails,
    stored,
    summaries,
    t_test,
)
from dbperf.stats.bootstrap import block_length, sample_quantile_draws  # noqa: E402
from dbperf.stats.distributions import wilson  # noqa: E402
from dbperf.stats.edivisive import find_steps  # noqa: E402
from dbperf.stats.sequential import Plan, toss  # noqa: E402
from dbperf.units import parse_duration_s  # noqa: E402

FACTORS = (1.0, 1.05, 1.10, 1.12, 1.20)
N = Plan().quads * 2 * Plan().run
PAGE = ROOT / "docs" / "statistics.md"
POINTS = 100
ENDPOINTS = ("POST /classify", "GET /taxonomy/{version}/tree")
"""Two that are quick, so that many pairs fit into the time."""
Alarms = dict[str, list[list[bool]]]


def simulate(scale: float) -> list[str]:
    """Tables for the simulated noise models."""
    with ProcessPoolExecutor() as pool:
        found = dict(zip(MODELS, pool.map(simulate_model, MODELS, itertools.repeat(scale)), strict=True))
    lines = []
    for mode in next(iter(found.values())):
        lines += ["", f"**{mode}**", "", *_table({name: alarms[mode] for name, alarms in found.items()})]
    return lines[1:]


def simulate_model(name: str, scale: float) -> Alarms:
    """What each mode says of one noise model, over and over."""
    model, rng = MODELS[name], np.random.default_rng(list(MODELS).index(name))
    alarms: Alarms = {}
    for _ in range(round(1500 * scale)):
        quads = (Plan().quads, 4, Plan().run)
        times, first = session(model)(rng, N * 2).reshape(quads), toss(rng, Plan().quads)[:, None]
        outer, inner = (times[:, places].reshape(Plan().quads, -1) for places in ((0, 3), (1, 2)))
        a, b = np.where(first, outer, inner), np.where(first, inner, outer)
        _note(alarms, "interleaved", interleaved(a, b, FACTORS))
        _note(alarms, "interleaved, P95 alone", interleaved(a, b, FACTORS, (0.95,)))
    for i in range(round(1500 * scale)):
        a, b = run(model, rng, N), run(model, rng, N)
        if i < round((200 if name in CORRELATED else 1000) * scale):  # resampling blocks is slow
            _note(alarms, "stored baseline with samples", stored(a, b, FACTORS, rng))
        _note(alarms, "summaries only", summaries(a, b, FACTORS))
        _note(alarms, "pytest-benchmark median:10%", pytest_benchmark_fails(a, b, FACTORS))
        _note(alarms, "t-test, p < 0.05", t_test(a, b, FACTORS))
    for i in range(round(4000 * scale)):
        series = model(rng, POINTS, BIMODAL_CV if name == "bimodal" else SERIES_CV)
        found = [bool(find_steps(series, seed=i))]
        if i < round(500 * scale):
            for factor in FACTORS[1:]:
                stepped = np.concatenate([series[:60], series[60:] * factor])
                found.append(any(abs(s.at - 60) <= 10 and s.ratio > 1 for s in find_steps(stepped, seed=i)))
        _note(alarms, "step detection", found)
    print(f"{name}: done", file=sys.stderr, flush=True)
    return alarms


def measure(budget_s: float) -> list[str]:
    """The reference target against itself: two processes of the same code, measured in turns."""
    pairs: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in ENDPOINTS}
    plan, rng = Plan(), np.random.default_rng(1)
    with ExitStack() as stack:
        asks = _two_targets(stack)
        deadline = time.monotonic() + budget_s
        for name in itertools.cycle(ENDPOINTS):
            found = _turns(asks[name], plan, rng, deadline)
            if found is None:
                break
            pairs[name].append(found)
    lines = []
    for name, found in pairs.items():
        if not found:
            lines += ["", f"**{name}**: the time did not suffice for a pair of runs."]
            continue
        alarms: Alarms = {}
        for a, b in found:
            _note(alarms, "interleaved", interleaved(a, b, FACTORS))
        # One process in one window against the other process in the next.
        apart = [(a.ravel(), b.ravel()) for (a, _), (_, b) in itertools.pairwise(found)]
        for a, b in apart:
            _note(alarms, "stored baseline with samples", stored(a, b, FACTORS, rng))
            _note(alarms, "summaries only", summaries(a, b, FACTORS))
            _note(alarms, "pytest-benchmark median:10%", pytest_benchmark_fails(a, b, FACTORS))
            _note(alarms, "t-test, p < 0.05", t_test(a, b, FACTORS))
        median = float(np.median(found[0][0]))
        lines += ["", f"**{name}**, {median:.1f} ms, {len(found)} pairs of runs of {N} requests a side", ""]
        lines += _table(alarms)
        if len(apart) > 2:
            shares = [f"P{q * 100:g} {_between(apart, q, rng):.1%}" for q in (0.5, 0.95)]
            lines += [
                "",
                f"Between two windows beyond what their samples show (standard deviation): {', '.join(shares)}.",
            ]
        side = np.concatenate([a.ravel() for a, _ in found])
        chunks = np.quantile(side[: len(side) // 60 * 60].reshape(-1, 60), 0.95, axis=1)
        size = min(POINTS, len(chunks))
        points = chunks[: len(chunks) // size * size].reshape(-1, size)
        stepped = [bool(find_steps(s)) for s in points]
        lines += ["", f"Step detection over P95 of 60 requests each: {sum(stepped)} of {len(stepped)} series of "
                  f"{size} points have a step."]  # fmt: skip
    return lines[1:]


def _two_targets(stack: ExitStack) -> dict[str, list[Callable[[], float]]]:
    """For each endpoint two functions that send a request, one to each process, and return its time in ms."""
    import asyncio

    from dbperf.bench.target import one_value
    from dbperf.phase3.launch import RunningTarget, start_target
    from dbperf.phase3.seed import seed
    from dbperf.postgres import embedded
    from dbperf.postgres.create import create_database

    server = stack.enter_context(embedded.start(private=True))

    async def seeded() -> str:
        dsn = await create_database(server, "calibrate")
        await seed(dsn, "smoke")
        return dsn

    dsn = asyncio.run(seeded())
    version = one_value(dsn, "SELECT version FROM taxonomy_node ORDER BY version LIMIT 1")
    targets = [stack.enter_context(start_target(dsn, "tuned")) for _ in range(2)]

    def asker(target: RunningTarget, name: str) -> Callable[[], float]:
        method, path = name.replace("{version}", version).split()
        body = json.dumps({"text": "the invoice was paid twice and the refund is late"}) if method == "POST" else None
        headers = {"X-API-Key": target.api_key, "Content-Type": "application/json"}
        address = urlsplit(target.url)
        assert address.hostname is not None
        connection = stack.enter_context(closing(HTTPConnection(address.hostname, address.port, timeout=60)))

        idle_since = time.monotonic()

        def ask() -> float:
            nonlocal idle_since
            if time.monotonic() - idle_since > 2:  # the server hangs up after 5 s
                connection.close()
                connection.connect()
            start = time.perf_counter()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"{name} answers {response.status}")
            took = time.perf_counter() - start
            idle_since = time.monotonic()
            return took * 1e3

        for _ in range(50):
            ask()
        return ask

    return {name: [asker(t, name) for t in targets] for name in ENDPOINTS}


def _turns(
    ask: Sequence[Callable[[], float]], plan: Plan, rng: np.random.Generator, deadline: float
) -> tuple[Floats, Floats] | None:
    """The times of a whole plan, or None where the time ends before it."""
    sides: tuple[list[list[float]], list[list[float]]] = ([], [])
    for a_first in toss(rng, plan.quads):
        if time.monotonic() > deadline:
            return None
        order = (0, 1, 1, 0) if a_first else (1, 0, 0, 1)
        quad: tuple[list[float], list[float]] = ([], [])
        for side in order:
            quad[side].extend(ask[side]() for _ in range(plan.run))
        for times, kept in zip(quad, sides, strict=True):
            kept.append(times)
    return np.array(sides[0]), np.array(sides[1])


def _between(apart: Sequence[tuple[Floats, Floats]], q: float, rng: np.random.Generator) -> float:
    """Standard deviation between windows that is left when that of the samples is taken off."""
    ratios = [np.log(np.quantile(b, q) / np.quantile(a, q)) for a, b in apart]
    within = [
        sum(np.log(sample_quantile_draws(x, q, rng, block=block_length(x), draws=1000)).var() for x in pair)
        for pair in apart
    ]
    return float(np.sqrt(max(0.0, np.mean(np.square(ratios)) - np.mean(within)) / 2))


def _note(alarms: Alarms, mode: str, found: list[bool]) -> None:
    alarms.setdefault(mode, []).append(found)


def _table(alarms: Alarms) -> list[str]:
    head = ["", "runs", "no change", *(f"+{f - 1:.0%}" for f in FACTORS[1:])]
    lines = [f"| {' | '.join(head)} |", f"|---|---:{'|---:' * len(FACTORS)}|"]
    for name, found in alarms.items():
        cells = [name, str(len(found))]
        for i in range(len(FACTORS)):
            seen = [f[i] for f in found if len(f) > i]
            low, high = wilson(sum(seen), len(seen), 0.95)
            cells.append(f"{sum(seen) / len(seen):.1%} ({low:.1%}–{high:.1%})")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write(part: str, lines: Sequence[str]) -> None:
    """Puts lines between a part's markers in docs/statistics.md."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- calibrate: {part} -->\n", f"<!-- end of {part} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not rest or not after:
        raise SystemExit(f"{PAGE} has no markers for {part}")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--measure", type=parse_duration_s, default=0.0, metavar="DURATION")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    now = f"{datetime.now(UTC):%Y-%m-%d}"
    parts: dict[str, list[str]] = {}
    if options.scale:
        head = f"{now}; {N} samples a side; between runs and within a session the machine varies by {RUN_TO_RUN:.0%}."
        parts["simulated"] = [head, "", *simulate(options.scale)]
    if options.measure:
        import os

        head = (
            f"{now}, for {options.measure / 60:.0f} minutes on {os.cpu_count()} processors with a load average of "
            f"{os.getloadavg()[0]:.1f}; the slowdowns multiply the measured times of one side."
        )
        parts["measured"] = [head, "", *measure(options.measure)]
    for part, lines in parts.items():
        print("\n".join(lines))
        if options.write:
            write(part, lines)


if __name__ == "__main__":
    main()
