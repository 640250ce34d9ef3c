"""How long `dbperf --help` takes (limit: 150 ms), in turns with Python alone and with one that imports typer.

`--help` imports no command's module: beside Python's own start it costs the import of typer. `dbperf run --help` adds
one command's options, `dbperf status` is the shortest of the commands that do something.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from dbperf.stats.paired import paired_ratio
from dbperf.stats.quantiles import interval_ranks

LIMIT_MS = 150.0
DBPERF = str(Path(sys.executable).parent / "dbperf")
HELP = "dbperf --help"
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    HELP: [DBPERF, "--help"],
    "dbperf run --help": [DBPERF, "run", "--help"],
    "dbperf status": [DBPERF, "status"],
}


def main() -> None:
    """Prints the figures, and exits with 1 where the limit is surely missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name in random.sample(sorted(COMMANDS), len(COMMANDS)):
            started = time.perf_counter()
            subprocess.run(COMMANDS[name], check=True, capture_output=True)
            if number:  # the first round fills the caches
                took[name].append((time.perf_counter() - started) * 1000)
    low_ms = 0.0
    for name, values in took.items():
        ranks = interval_ranks(len(values), 0.5)
        ordered = sorted(values)
        low, high = (ordered[r - 1] for r in ranks) if ranks else (ordered[0], ordered[-1])
        ratio = paired_ratio(took["python"], values)
        interval = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None else ""
        print(
            f"{name:18} median {np.median(values):4.0f} ms ({low:.0f} to {high:.0f}), "
            f"{ratio.ratio:.2f} times Python's own{interval}"
        )
        low_ms = low if name == HELP else low_ms
    print(f"limit of {HELP}: {LIMIT_MS:.0f} ms")
    sys.exit(low_ms > LIMIT_MS)


if __name__ == "__main__":
    main()
