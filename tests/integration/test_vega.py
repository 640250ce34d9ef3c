"""The chart engine: what it refuses, many pictures at a time, and what happens when it ends."""

from __future__ import annotations

import pytest

from dbperf import vega
from dbperf.errors import OutputError
from dbperf.report.charts import Spec, spec


def line(values: int = 0) -> Spec:
    """A picture whose specification grows with the number of its values, and whose SVG is as large."""
    rows = [{"x": i, "y": i * 7919 % 101} for i in range(values)]
    encoding = {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}}
    return spec([{"data": {"values": rows}, "mark": "line", "encoding": encoding}])


def test_a_wrong_specification_is_an_error_and_the_next_picture_is_drawn() -> None:
    engine = vega.Engine()
    wrong, right = engine.draw({"mark": 7}), engine.draw(line())
    for _ in range(2):
        with pytest.raises(ValueError, match="Vega"):
            wrong.svg()
    assert right.svg().startswith("<svg")
    engine.close()


def test_pictures_asked_for_ahead_come_in_their_order_however_large_they_are() -> None:
    """More than the pipes hold, both ways: nobody waits for somebody who waits."""
    engine = vega.Engine()
    asked = [engine.draw(line(values)) for values in (3000, 0, 5000, 8000)]
    sizes = [len(one.svg()) for one in asked]
    assert sizes[1] < 10_000 < 30_000 < sizes[0] < sizes[2] < sizes[3]
    engine.close()


def test_an_engine_that_was_killed_is_said_and_replaced() -> None:
    first = vega.start()
    waiting = first.draw(line(3000))
    first._process.kill()
    with pytest.raises(OutputError, match="chart engine ended"):
        waiting.svg()
    with pytest.raises(OutputError, match="chart engine ended"):
        first.draw(line()).svg()
    assert vega.draw(line()).svg().startswith("<svg")
    assert vega.start() is not first


def test_an_engine_that_ends_in_the_middle_of_an_answer_lets_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    half = "import sys; sys.stdin.readline(); print('{\"svg\": \"<svg', end='', flush=True)"
    monkeypatch.setattr(vega, "_PROGRAM", half)
    engine = vega.Engine()
    for drawing in (engine.draw(line()), engine.draw(line())):
        with pytest.raises(OutputError, match="chart engine ended"):
            drawing.svg()
    engine.close()
