"""What a series of samples tells about itself."""

from __future__ import annotations

import numpy as np
import pytest

from dbperf.bench.quality import MachineState, judge_samples
from dbperf.bench.rounds import rounds_for
from dbperf.stats.samples import modes, neighbours, outliers, sample_quantile, warm_up_length


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(20))
def test_one_mode_is_not_two(seed: int) -> None:
    for x in (
        rng(seed).lognormal(3, 0.5, 300),
        rng(seed).normal(100, 5, 300),
        rng(seed).exponential(5, 300),
        rng(seed).uniform(10, 20, 300),
    ):
        assert modes(x) == 1


def test_two_modes_are_two() -> None:
    x = np.concatenate([rng().normal(100, 5, 250), rng(2).normal(180, 5, 40)])
    assert modes(x) == 2
    assert modes(np.concatenate([rng().normal(100, 5, 290), [300.0] * 3])) == 1


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_warm_up(seed: int) -> None:
    assert warm_up_length(rng(seed).lognormal(3, 0.5, 200)) == 0


def test_a_warm_up_is_found_and_a_slow_end_is_none() -> None:
    x = np.concatenate([rng().normal(200, 5, 25), rng(2).normal(100, 5, 200)])
    assert 23 <= warm_up_length(x) <= 27
    assert warm_up_length(x[::-1]) == 0


def test_few_samples_have_no_percentile() -> None:
    assert sample_quantile([1.0] * 300, 0.99).reason == "300 samples, 368 are needed"
    assert sample_quantile([1.0] * 368, 0.99).value_ms == 1


def test_intervals_widen_where_neighbours_resemble_each_other() -> None:
    steps = np.repeat(rng().lognormal(3, 0.4, 60), 8)
    rho, block = neighbours(steps)
    assert rho is not None
    assert rho > 0.5
    assert block > 3
    plain, blocks = sample_quantile(steps.tolist(), 0.5), sample_quantile(steps.tolist(), 0.5, block=block)
    assert plain.ci_high_ms is not None
    assert plain.ci_low_ms is not None
    assert blocks.ci_high_ms is not None
    assert blocks.ci_low_ms is not None
    assert blocks.ci_high_ms - blocks.ci_low_ms > 1.5 * (plain.ci_high_ms - plain.ci_low_ms)
    assert blocks.design_effect > 2


def test_outliers_are_counted() -> None:
    assert outliers([1.0] * 50 + [1.1] * 50 + [9.0] * 3) == 3


def state(**changes: float) -> MachineState:
    values = {"total_s": 0.0, "idle_s": 0.0, "steal_s": 0.0, "own_s": 0.0, "mhz": 3000.0, "throttled_s": 0.0}
    return MachineState(**{**values, **changes})


@pytest.mark.parametrize(
    ("after", "warning", "invalid"),
    [
        (state(total_s=100, idle_s=95, own_s=4), None, None),
        (state(total_s=100, idle_s=80, own_s=15, steal_s=5), "5% of the CPU time was stolen", None),
        (state(total_s=100, idle_s=40, own_s=15, steal_s=45), None, "45% of the CPU time was stolen"),
        (state(total_s=100, idle_s=40, own_s=15), "other processes used 45%", None),
        (state(total_s=100, idle_s=90, own_s=9, throttled_s=1), "throttled", None),
        (state(total_s=100, idle_s=90, own_s=9, mhz=2000), "clock rate fell by 33%", None),
    ],
)
def test_the_machines_state_weakens_or_invalidates(
    after: MachineState, warning: str | None, invalid: str | None
) -> None:
    samples = [float(x) for x in rng().normal(10, 0.1, 100)]
    quality = judge_samples(samples, before=state(), after=after)
    assert [warning in w for w in quality.warnings] == ([True] if warning else [])  # type: ignore[operator]  # no element where None
    assert [invalid in w for w in quality.invalid] == ([True] if invalid else [])  # type: ignore[operator]  # the same
    assert (
        judge_samples(samples, before=state(), after=state(total_s=100, idle_s=40), others_expected=True).warnings == []
    )


def test_a_clock_too_coarse_is_told() -> None:
    assert judge_samples([0.0] * 50).invalid
    coarse = judge_samples([2e-6 + i * 1e-9 for i in range(50)])
    assert any("clock's resolution" in x for x in coarse.invalid)


def test_rounds_suffice_and_end() -> None:
    assert rounds_for(0.95, 1e-4) == 200
    assert rounds_for(0.99, 10) > 368
