"""Looking at other threads' frames: no collection may begin meanwhile, and the process must live."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from dbperf.frames import no_collection

# A callback of the collector that hands over the interpreter lock while the sampler makes a frame object: before 3.12
# the frames of the deep call were gone when it went on, and the process ended with a segmentation fault within 1 s.
SAMPLED = """
import gc, sys, threading, time
from dbperf.flame.sampler import Sampler

def handed_over(phase, info):
    if phase == "start" and threading.current_thread().name == "dbperf-sampler":
        time.sleep(0.001)

def fall(n):
    if n == 0:
        for _ in range(3000):
            pass
    else:
        fall(n - 1)

gc.callbacks.append(handed_over)
sampler = Sampler(rate=1000, wall=True)
sampler.start()
end = time.monotonic() + 1.0
while time.monotonic() < end:
    for depth in (10, 900, 100, 500):
        fall(depth)
print(max(len(s.frames) for s in sampler.stop().stacks) > 400)
"""


def test_a_process_that_is_sampled_from_inside_lives() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAMPLED], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


STAYS_ON = sys.version_info >= (3, 12)
"""There collections begin between bytecodes only."""


def test_collection_is_off_within_and_as_it_was_behind() -> None:
    assert gc.isenabled()
    with no_collection:
        assert gc.isenabled() is STAYS_ON
        with no_collection:
            assert gc.isenabled() is STAYS_ON
        assert gc.isenabled() is STAYS_ON
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collection:
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
