"""The calibration judges as the commands do, and writes its figures where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibrate
from benchmarks.calibrate_models import MODELS, run
from benchmarks.calibrate_modes import interleaved, pytest_benchmark_fails, stored, summaries, t_test
from dbperf.records.comparison import Conditions, Measurement
from dbperf.regress.judge import Rules, decide, examine
from dbperf.stats.sequential import Plan, rehearse, toss


@pytest.mark.parametrize("factor", [1.0, 1.09, 1.2])
def test_in_turns_as_the_rehearsal(factor: float) -> None:
    model, plan = MODELS["lognormal"], Plan()
    for seed in range(3):
        rehearsed = rehearse(model, np.random.default_rng(seed), factor=factor)
        rng = np.random.default_rng(seed)
        times, first = model(rng, plan.quads * 20).reshape(plan.quads, 4, plan.run), toss(rng, plan.quads)[:, None]
        outer, inner = (times[:, places].reshape(plan.quads, -1) for places in ((0, 3), (1, 2)))
        a, b = np.where(first, outer, inner), np.where(first, inner, outer)
        assert interleaved(a, b, [factor]) == [rehearsed.verdict == "worse"]


def test_stored_samples_as_dbperf_compare() -> None:
    rng = np.random.default_rng(1)
    for name in ("normal", "5 % spikes"):
        model = MODELS[name]
        a, b = run(model, rng, 300), run(model, rng, 300)
        for factor in (1.0, 1.6):
            sides = [Measurement(subject="x", conditions=Conditions(), samples_ms=x.tolist()) for x in (a, b * factor)]
            rules = Rules(services=[], overrides={})
            judged = decide(examine(*sides, label="x", service=None, rules=rules), rules)
            assert stored(a, b, [factor], rng) == [any(m.gate and m.verdict == "worse" for m in judged)]


def test_what_stands_beside() -> None:
    a = np.random.default_rng(1).normal(100, 5, 1200)
    factors = (1.0, 1.09, 1.11, 1.6)
    assert pytest_benchmark_fails(a, a, factors) == [False, False, True, True]
    assert t_test(a, a, factors) == [False, True, True, True]
    assert summaries(a, a, factors) == [False, False, False, True]


def test_figures_go_between_their_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "s.md"
    page.write_text("a\n<!-- calibrate: measured -->\nold\n<!-- end of measured -->\nz\n")
    monkeypatch.setattr(calibrate, "PAGE", page)
    calibrate.write("measured", ["new"])
    calibrate.write("measured", ["newer"])
    assert page.read_text() == "a\n<!-- calibrate: measured -->\n\nnewer\n\n<!-- end of measured -->\nz\n"
    with pytest.raises(SystemExit, match="no markers"):
        calibrate.write("other", [])


def test_the_page_has_the_markers() -> None:
    text = calibrate.PAGE.read_text(encoding="utf-8")
    for part in ("simulated", "measured"):
        assert f"<!-- calibrate: {part} -->\n" in text
        assert f"<!-- end of {part} -->" in text
