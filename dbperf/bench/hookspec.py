"""The hook that pytest-benchmark lacks, and that guides to it promise."""

from __future__ import annotations

from typing import Any


def pytest_benchmark_compare_failed(
    config: Any, benchmarkgroup: str | None, benchmarks: list[Any], compared: Any
) -> None:
    """Called once per group with regressions, before pytest-benchmark fails the session.

    Args:
        config: pytest's configuration.
        benchmarkgroup: the group's name; None for benchmarks without a group.
        benchmarks: the benchmarks that got worse, each a dict with `name`, `fullname`, `group`, `stats` (now),
            `stats_before` and `reason`; times in seconds, as pytest-benchmark has them.
        compared: what they were compared with: the paths of the saved runs.
    """
