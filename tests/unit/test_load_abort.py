"""When a load is ended because of a gate, and when not."""

from __future__ import annotations

from typing import Literal

import msgspec

from dbperf.load.abort import AbortOnFail
from dbperf.load.progress import LoadEvent
from dbperf.load.suite_file import parse_suite
from dbperf.records.load import Load
from tests.support.loads import endpoint, load_of, stage

SUITE = parse_suite(
    """
name = "x"
abort_on_fail = true
grace = "10s"
gates = ["requests > 1000000", "p95 < 20ms"]
[[stages]]
users = 1
duration = "1m"
[[endpoints]]
path = "/"
""",
    "x",
)
SLOW, FINE = load_of(stage(endpoint([90.0] * 500))), load_of(stage(endpoint([9.0] * 500)))


def event(kind: Literal["measuring", "measured", "second"]) -> LoadEvent:
    return LoadEvent(kind=kind, at=0, stage_index=0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def after(seconds: list[float], load: Load, suite: object = SUITE) -> list[str | None]:
    clock = Clock()
    abort = AbortOnFail(suite, lambda: load, clock)  # type: ignore[arg-type]  # a Suite
    assert abort.failed(event("second")) is None
    assert abort.failed(event("measuring")) is None
    out = []
    for s in seconds:
        clock.now = 100 + s
        out.append(abort.failed(event("second")))
    return out


def test_a_failed_gate_ends_the_load_after_the_grace_period() -> None:
    early, late = after([9, 10], SLOW)
    assert early is None
    assert late is not None
    assert late.startswith("gate 'p95 < 20ms' failed: 500 of 500 requests (100 %) took longer than 20 ms")


def test_gates_that_are_kept_or_still_grow_do_not_end_it() -> None:
    assert after([10, 20, 50], FINE) == [None, None, None]


def test_it_is_not_judged_more_often_than_every_five_seconds() -> None:
    first, soon, later = after([10, 12, 15], SLOW)
    assert (first is None, soon is None, later is None) == (False, True, False)


def test_without_abort_on_fail_nothing_ends_it() -> None:
    assert after([10], SLOW, msgspec.structs.replace(SUITE, abort_on_fail=False)) == [None]
