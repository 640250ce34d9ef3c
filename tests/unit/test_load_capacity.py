"""The Universal Scalability Law against data made with known parameters, and what is said of a load's stages."""

from __future__ import annotations

import numpy as np
import pytest

from dbperf.load.capacity import capacity
from dbperf.records.capacity import CapacityPoint
from dbperf.records.verdicts import ServiceLevel
from dbperf.stats.capacity import fit_usl, usl_throughput
from tests.support.loads import endpoint, load_of, stage

LOADS = (1, 2, 5, 10, 20, 40, 70, 100)


def points(lambda_: float, sigma: float, kappa: float, noise: float = 0.0) -> list[CapacityPoint]:
    rng = np.random.default_rng(1)
    out = []
    for n in LOADS:
        rate = lambda_ * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))
        out.append(
            CapacityPoint(stage=str(n), load=n, requests_per_s=rate * float(np.exp(rng.normal(0, noise))), p95_ms=None)
        )
    return out


@pytest.mark.parametrize(
    ("lambda_", "sigma", "kappa"), [(20, 0.05, 0.0005), (20, 0.0, 0.001), (20, 0.1, 0.0), (20, 0.0, 0.0)]
)
def test_parameters_are_found_again(lambda_: float, sigma: float, kappa: float) -> None:
    found = fit_usl(points(lambda_, sigma, kappa))
    assert found is not None
    assert (found.lambda_per_s, found.sigma, found.kappa) == (
        pytest.approx(lambda_, rel=1e-6), pytest.approx(sigma, abs=1e-8), pytest.approx(kappa, abs=1e-9),
    )  # fmt: skip
    assert found.relative_error < 1e-6
    assert usl_throughput(found, 10) == pytest.approx(points(lambda_, sigma, kappa)[3].requests_per_s)
    if kappa > 1e-12:
        assert found.knee == pytest.approx(((1 - sigma) / kappa) ** 0.5, rel=1e-3)


def test_intervals_hold_the_truth_and_shrink_with_the_noise() -> None:
    rough, fine = fit_usl(points(20, 0.05, 0.0005, 0.05)), fit_usl(points(20, 0.05, 0.0005, 0.01))
    assert rough is not None
    assert fine is not None
    for found in (rough, fine):
        assert found.sigma_ci is not None
        assert found.sigma_ci[0] <= 0.05 <= found.sigma_ci[1]
        assert found.kappa >= 0
    assert rough.sigma_ci is not None
    assert fine.sigma_ci is not None
    assert fine.sigma_ci[1] - fine.sigma_ci[0] < rough.sigma_ci[1] - rough.sigma_ci[0]


def test_three_loads_are_needed() -> None:
    assert fit_usl(points(20, 0.05, 0.0005)[:2]) is None
    three = fit_usl(points(20, 0.05, 0.0005)[:3])
    assert three is not None
    assert three.sigma_ci is None


def test_breaking_points_are_interpolated_or_predicted() -> None:
    stages = [
        stage(endpoint([ms] * 600, seconds=600 / rate), name=f"{n} users", users=n, start_s=20.0 * i)
        for i, (n, rate, ms) in enumerate([(10, 100, 50.0), (20, 180, 80.0), (40, 250, 130.0), (80, 280, 260.0)])
    ]
    found = capacity(
        load_of(*stages),
        [ServiceLevel(endpoint="GET /a", p50_ms=100, p95_ms=20, p99_ms=400), ServiceLevel(endpoint="*", p50_ms=9000)],
    )
    assert found is not None
    assert found.usl is not None
    breaking = {(b.metric, b.limit_ms): b for b in found.breaking}
    assert breaking["p50", 100].load == pytest.approx(28, abs=0.1)
    assert breaking["p50", 100].reason == "measured: 80 ms at 20 users, 130 ms at 40"
    assert breaking["p95", 20].load == 10
    assert breaking["p99", 400].load is not None
    assert 80 < breaking["p99", 400].load < 160
    assert breaking["p50", 9000].load is None
    assert capacity(load_of(stages[0])) is None
    two = capacity(load_of(*stages[:2]))
    assert two is not None
    assert (two.usl, two.reason) == (None, "2 different loads: the law needs three")
