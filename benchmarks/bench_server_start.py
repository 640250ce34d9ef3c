"""How long the embedded server takes: with initdb (target: below 3 s), warm (below 1.5 s), found running, stopped."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dbperf.postgres import embedded

ROUNDS = 10


def timed(work: Callable[[], object], into: list[float]) -> None:
    start = time.perf_counter()
    work()
    into.append(time.perf_counter() - start)


def main() -> None:
    steps = ("private, with initdb", "lasting, with initdb", "warm", "found running", "stop")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        cache = Path(tempfile.mkdtemp(prefix="dbbench-"))
        cache.chmod(0o755)
        private: list[embedded.Embedded] = []
        timed(lambda: private.append(embedded.start(cache, private=True)), seconds["private, with initdb"])  # noqa: B023
        private[0].stop()
        timed(lambda: embedded.start(cache), seconds["lasting, with initdb"])  # noqa: B023 - called at once
        timed(lambda: embedded.start(cache), seconds["found running"])  # noqa: B023
        timed(lambda: embedded.stop(cache), seconds["stop"])  # noqa: B023
        timed(lambda: embedded.start(cache), seconds["warm"])  # noqa: B023
        embedded.remove(cache)
        shutil.rmtree(cache)
    for name, values in seconds.items():
        print(f"{name:22} median {statistics.median(values):.3f} s, worst {max(values):.3f} s of {ROUNDS}")


if __name__ == "__main__":
    main()
