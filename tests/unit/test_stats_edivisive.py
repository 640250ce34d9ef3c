"""E-divisive against a slow reference that follows the paper, and what runs of a program do to it."""

from __future__ import annotations

import numpy as np
import pytest

from dbperf.stats.edivisive import LEVELS, Step, _levels, _winsorized, find_steps, split_energies


def slow_energy(x: list[float], y: list[float]) -> float:
    """The paper's equations 5 and 6, written as they stand: means over pairs."""
    n, m = len(x), len(y)
    between = sum(abs(a - b) for a in x for b in y) / (n * m)
    within_x = sum(abs(x[i] - x[k]) for i in range(n) for k in range(i)) / max(n * (n - 1) / 2, 1)
    within_y = sum(abs(y[i] - y[k]) for i in range(m) for k in range(i)) / max(m * (m - 1) / 2, 1)
    return n * m / (n + m) * (2 * between - within_x - within_y)


def noise(n: int, seed: int, cv: float = 0.03) -> np.ndarray:
    return np.exp(cv * np.random.default_rng(seed).normal(size=n))


def places(steps: list[Step]) -> list[int]:
    return [s.at for s in steps]


@pytest.mark.parametrize("seed", range(5))
def test_energies_are_those_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.permuted(np.tile(rng.integers(0, LEVELS, 23), (3, 1)), axis=1)
    fast = split_energies(levels)
    for row, series in zip(fast, levels.tolist(), strict=True):
        assert row == pytest.approx([slow_energy(series[:k], series[k:]) for k in range(1, 23)], abs=1e-6)


def test_rounding_to_levels_keeps_the_best_split() -> None:
    """The energy of the rounded values against that of the values themselves, over many series."""
    for seed in range(6):
        y = _winsorized(np.log(noise(40, seed)) + np.r_[np.zeros(22), np.full(18, 0.06)])
        exact = [slow_energy(y[:k].tolist(), y[k:].tolist()) for k in range(1, 40)]
        rounded = split_energies(_levels(y)[None])[0] * np.ptp(y) / (LEVELS - 1)
        assert rounded == pytest.approx(exact, abs=0.05 * max(exact))


def test_a_step_is_found_where_it_is() -> None:
    x = 100 * noise(60, 1)
    x[40:] *= 1.2
    (step,) = find_steps(x)
    assert step.earliest <= 40 <= step.latest
    assert step.latest - step.earliest <= 2
    assert step.ratio == pytest.approx(1.2, rel=0.03)
    assert (step.before, step.after) == (np.median(x[: step.at]), np.median(x[step.at :]))
    assert step.p_value <= 0.005
    (again,) = find_steps(x)
    assert again == step


def test_several_steps_up_and_down() -> None:
    x = 50 * noise(120, 2)
    x[30:] *= 1.3
    x[70:] *= 1.25
    x[95:] /= 1.6
    assert [abs(a - b) <= 1 for a, b in zip(places(find_steps(x)), [30, 70, 95], strict=True)] == [True] * 3


def test_the_newest_points_can_be_a_step() -> None:
    x = noise(50, 3)
    x[45:] *= 1.3
    assert places(find_steps(x)) == [45]


@pytest.mark.parametrize("at", [5, 50, 99])
def test_a_single_spike_is_no_step(at: int) -> None:
    x = noise(100, 4)
    x[at] *= 50
    assert find_steps(x) == []


def test_a_spike_does_not_hide_a_step_or_move_it() -> None:
    x = noise(100, 5)
    x[60:] *= 1.15
    x[[20, 75]] *= 30
    assert places(find_steps(x)) == [60]


def test_a_small_step_is_dropped_and_a_large_one_beside_it_stays() -> None:
    x = noise(150, 6, 0.005)
    x[50:] *= 1.03
    x[100:] *= 1.2
    assert places(find_steps(x, least_change=0.01)) == [50, 100]
    assert places(find_steps(x)) == [100]


def test_shares_change_by_differences() -> None:
    x = np.random.default_rng(7).binomial(10_000, 0.001, 80) / 10_000
    x[50:] += 0.02
    x[:10] = 0.0
    assert places(find_steps(x, scale="difference", least_change=0.005)) == [50]


def test_what_can_not_be_judged() -> None:
    assert find_steps([]) == []
    assert find_steps([1.0]) == []
    assert find_steps([2.0] * 40) == []
    assert find_steps([1.0] * 5 + [2.0] * 5) == []  # so few can't reach the significance that is asked for
    for bad in ([1.0, float("nan")], [1.0, 0.0], [1.0, -2.0]):
        with pytest.raises(ValueError, match="finite"):
            find_steps(bad)
    with pytest.raises(ValueError, match="permutations"):
        find_steps([1.0] * 40, permutations=99)


def test_a_noiseless_step() -> None:
    (step,) = find_steps([1.0] * 20 + [1.5] * 20)
    assert (step.at, step.earliest, step.latest, step.ratio) == (20, 20, 20, 1.5)


def test_correlated_noise_is_no_step() -> None:
    """60 series of 100 points. At the measured rate of false alarms (docs/statistics.md: below 1 %) seven or more come
    by chance with a probability below 1e-6; without whitening about a third of the series has one."""
    alarms = 0
    for seed in range(60):
        e = np.random.default_rng(seed).normal(size=150)
        for i in range(1, 150):
            e[i] = 0.5 * e[i - 1] + np.sqrt(0.75) * e[i]
        alarms += bool(find_steps(np.exp(0.1 * e[50:])))
    assert alarms <= 6
