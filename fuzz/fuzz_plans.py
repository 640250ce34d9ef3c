"""Coverage-guided fuzzing of the plan readers: `pip install atheris && python fuzz/fuzz_plans.py -max_total_time=60`.

Not part of the test suite (tests/unit/test_plans_read.py fuzzes with hypothesis): it has no wheel for every Python.
The golden plans are the first corpus.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dbperf.plans"]):
    from dbperf.errors import PlanError
    from dbperf.plans.read import read_plans
    from dbperf.plans.render import render_tree
    from dbperf.plans.rules import find

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "plans"


def one_input(data: bytes) -> None:
    try:
        plans = read_plans(data.decode("utf-8", errors="replace"))
    except PlanError:
        return
    for plan in plans:
        find(plan)
        render_tree(plan)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for path in GOLDEN.iterdir():
            (Path(corpus) / path.name).write_bytes(path.read_bytes())
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()
