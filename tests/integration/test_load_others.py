"""Whose processor time is whose, and loads beside different company."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import psutil

from dbperf.lab.prove import with_endpoints
from dbperf.load.others import OwnTime, others_share, unlike
from dbperf.records.load import Load
from dbperf.records.proof import Proof
from dbperf.records.telemetry import MachineSample, Telemetry, TelemetrySample
from tests.support.loads import NOW, endpoint, load_of, stage

SPINS = "import sys, time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\nsys.stdin.read()"


def test_what_children_use_is_our_own_and_what_others_use_is_not() -> None:
    own, began = OwnTime(), time.monotonic()
    own.share()
    with subprocess.Popen([sys.executable, "-c", SPINS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        used_s = own.share() * (time.monotonic() - began) * (psutil.cpu_count() or 1)
        child.stdin.close()  # type: ignore[union-attr]
    assert used_s > 0.4  # processor time is told in hundredths of a second


def empty_proof() -> Proof:
    return Proof(target="x", server_version="18", started_at=NOW, elapsed_s=1, indexes=[], kept=True)


def telemetry(load: Load, share: float | None) -> Telemetry:
    seconds = int((load.stages[0].ended_at - load.started_at).total_seconds())
    samples = [
        TelemetrySample(at_s=at, machine=MachineSample(cpu_share=1, others_share=share, memory_available_bytes=1))
        for at in range(seconds)
    ]
    return Telemetry(started_at=load.started_at, samples=samples)


def test_loads_beside_different_company_are_shown_and_not_judged() -> None:
    rng = np.random.default_rng(1)
    before = load_of(stage(endpoint(rng.lognormal(3, 0.3, 800).tolist())))
    after = load_of(stage(endpoint(rng.lognormal(4, 0.3, 800).tolist())))
    assert others_share(before, telemetry(before, None)) is None
    calm, busy = (others_share(before, telemetry(before, share)) for share in (0.05, 0.6))
    assert calm is not None
    assert abs(calm - 0.05) < 1e-9
    assert unlike(calm, calm) is unlike(None, busy) is None
    [slower] = with_endpoints(empty_proof(), before, after, unlike=unlike(calm, calm)).endpoints
    assert slower.verdict == "worse"
    proof = with_endpoints(empty_proof(), before, after, unlike=unlike(calm, busy))
    [shown] = proof.endpoints
    assert (shown.verdict, shown.p50_ratio) == ("cant_tell", slower.p50_ratio)
    assert any("other programs used 5.0 % of the processors" in n for n in proof.notes)
