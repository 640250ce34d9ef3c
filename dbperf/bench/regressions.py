"""From pytest-benchmark's checks to the hook `pytest_benchmark_compare_failed`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def call_hook(config: Any, session: Any) -> None:
    """Calls the hook once per group that holds a regression.

    pytest-benchmark keeps the display names of what failed only; its checks are asked again, for the benchmarks.
    """
    by_group: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    paths: dict[str, None] = {}
    for bench in session.benchmarks:
        for path, saved in session.compared_mapping.items() if bench else ():
            if bench.fullname not in saved:
                continue
            before = saved[bench.fullname]["stats"]
            now = {**bench.as_dict(include_data=False, stats=False), **before}
            for check in session.compare_fail:
                if reason := check.fails(bench, now):
                    paths[str(path)] = None
                    by_group[bench.group].append(
                        {
                            "name": bench.name,
                            "fullname": bench.fullname,
                            "group": bench.group,
                            "stats": bench.stats.as_dict(),
                            "stats_before": before,
                            "reason": str(reason),
                        }
                    )
    for group, benchmarks in by_group.items():
        config.hook.pytest_benchmark_compare_failed(
            config=config, benchmarkgroup=group, benchmarks=benchmarks, compared=list(paths)
        )
