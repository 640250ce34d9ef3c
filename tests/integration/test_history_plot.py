"""The picture of `dbperf history`: drawing it takes an engine that the unit tests need not start."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import altair

from dbperf.records.comparison import Conditions
from dbperf.records.history import Series, StoredFigure, StoredRun
from dbperf.regress.series import series_of, with_steps
from dbperf.report.history_plot import history_svg, series_spec
from tests.support.comparing import START


def one(values: list[float], subject: str, metric: str, unit: str) -> Series:
    def run(i: int, value: float) -> StoredRun:
        figure = StoredFigure(
            metric=metric, value=value, subject=subject, unit=unit, direction="lower", conditions=Conditions()
        )
        return StoredRun(
            run_id=f"id{i}", source=f"r{i}", kind="run", measured_at=START + timedelta(days=i), figures=[figure]
        )

    (found,) = series_of([run(i, value) for i, value in enumerate(values)])
    return found


def test_the_plot_is_a_file_that_stands_alone() -> None:
    series = with_steps(one([100.0, 101, 99, 100, 102] * 5 + [130.0, 131, 129] * 5, "GET /<b>&\x1b", "p95", "ms"))
    assert series.steps
    altair.Chart.from_dict(series_spec(series))
    svg = history_svg([series, one([0.0], "GET /a", "errors", "share")], ["10 users", "x"])
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--" not in svg
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2
