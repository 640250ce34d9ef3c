"""How fast the processors were, and what of a change that explains."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from dbperf.indexes.verify_endpoints import compare_loads
from dbperf.lab.prove import with_endpoints
from dbperf.load.pace import UNKNOWN, Slowdown, pace_of, piece_ms, slowdown, slowdown_words
from dbperf.records.load import Load
from dbperf.records.proof import Proof
from dbperf.records.telemetry import MachineSample, Telemetry, TelemetrySample
from tests.support.loads import NOW, endpoint, load_of, stage

EMPTY = Proof(target="x", server_version="18", started_at=NOW, elapsed_s=1, indexes=[], kept=True)


def load(scale: float, seed: int) -> Load:
    rng = np.random.default_rng(seed)
    return load_of(stage(endpoint((scale * rng.lognormal(3, 0.2, 2000)).tolist())))


def telemetry(load: Load, pieces: list[float | None]) -> Telemetry:
    [its] = load.stages
    from_s = (its.started_at - load.started_at) / timedelta(seconds=1)
    samples = [
        TelemetrySample(at_s=from_s + 1 + n, machine=MachineSample(cpu_share=1, piece_ms=ms, memory_available_bytes=1))
        for n, ms in enumerate(pieces)
    ]
    return Telemetry(started_at=load.started_at, samples=samples)


def test_a_piece_takes_a_fraction_of_a_millisecond_and_sleeping_none() -> None:
    assert 0.005 < min(piece_ms() for _ in range(20)) < 5


def test_the_pace_is_that_of_the_measured_seconds() -> None:
    one = load(1, 1)
    assert pace_of(one, telemetry(one, [0.2, 0.2, None])) is None
    found = pace_of(one, telemetry(one, [0.2, 0.25, 0.3, 0.25, 4.0, None]))
    assert found is not None
    assert found.median_ms == pytest.approx(0.25)
    assert found.error_ms == pytest.approx(1.858 * 0.05 / 5**0.5, rel=1e-3)
    assert slowdown(None, found) == slowdown(found, None) == UNKNOWN


def test_a_slower_machine_is_no_slower_endpoint_and_what_is_beyond_it_counts() -> None:
    before = load(1, 1)

    def verdicts(scale: float, s: Slowdown) -> tuple[str, str]:
        [raw] = compare_loads(before, load(scale, 2))
        [found] = with_endpoints(EMPTY, before, load(scale, 2), slower=s).endpoints
        assert found.p50_ratio == raw.p50_ratio, "ratios are as measured"
        return raw.verdict, found.verdict

    slower, faster = Slowdown(1.25, 1.2, 1.3), Slowdown(0.8, 0.75, 0.85)
    assert verdicts(1.25, slower) == ("worse", "cant_tell")
    assert verdicts(2, slower) == ("worse", "worse")
    assert verdicts(0.8, faster) == ("better", "cant_tell")
    assert verdicts(0.5, faster) == ("better", "better")
    assert verdicts(0.5, slower) == ("better", "better")
    assert verdicts(1, slower) == ("unchanged", "cant_tell")
    assert verdicts(1, Slowdown(1.0, 0.99, 1.01)) == ("unchanged", "unchanged")


def test_it_is_told_where_it_is_worth_it() -> None:
    assert slowdown_words(Slowdown(0.97, 0.9, 1.05)) is None
    proof = with_endpoints(EMPTY, load(1, 1), load(1, 2), slower=Slowdown(1.25, 1.2, 1.3))
    assert [n for n in proof.notes if "took 1.25 times as long for the same work" in n and "(1.20 to 1.30)" in n]
