"""The chart engine: what it refuses, and what happens when it ends."""

from __future__ import annotations

import pytest

from dbperf import vega
from dbperf.errors import OutputError
from dbperf.report.charts import spec

LINE = spec([{"data": {"values": []}, "mark": "line", "encoding": {}}])


def test_a_wrong_specification_is_an_error_and_the_next_picture_is_drawn() -> None:
    engine = vega.Engine()
    with pytest.raises(ValueError, match="Vega"):
        engine.draw({"mark": 7})
    assert engine.draw(LINE).startswith("<svg")
    engine.close()


def test_an_engine_that_was_killed_is_said_and_replaced() -> None:
    vega.engine.cache_clear()
    first = vega.engine()
    first._process.kill()
    first._process.wait()
    with pytest.raises(OutputError, match="chart engine ended"):
        first.draw(LINE)
    assert vega.engine() is not first
    assert vega.engine().draw(LINE).startswith("<svg")
