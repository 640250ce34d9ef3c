"""Latency over time: what is kept of it beside the load's figures, and what the report draws."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dbperf.load.heat import MAX_STRETCHES, Heat
from dbperf.records.load import LatencyStretch
from dbperf.report.distribution import MAX_COLUMNS, edge_ms, heat
from dbperf.stats.hdr import Latencies


def test_a_stretch_says_between_which_latencies_its_requests_were() -> None:
    kept = Heat()
    kept.add(3, "10 users", "GET /a", Latencies.of_ms([1.0, 1.05, 40.0]))
    kept.add(3, "10 users", "GET /a", Latencies.of_ms([1.02]))
    (found,) = kept.stretches()
    assert (found.at_s, found.seconds, found.stage, found.endpoint) == (3.0, 1, "10 users", "GET /a")
    assert sum(found.counts) == 4
    assert (found.counts[0], found.counts[-1]) == (3, 1)
    assert edge_ms(found.first) <= 1.0 < edge_ms(found.first + 1)
    last = found.first + len(found.counts)
    assert edge_ms(last - 1) <= 40.0 < edge_ms(last)


@example(1500, 0)
@settings(max_examples=6, deadline=None)
@given(st.integers(1, 1500), st.integers(0, 400))
def test_long_stages_are_joined_and_lose_no_request(seconds: int, start: int) -> None:
    kept, one = Heat(), Latencies(np.zeros(1, dtype=np.int64))
    rng = np.random.default_rng(seconds)
    for second in range(start, start + seconds):
        one = Latencies.of_ms(rng.lognormal(3, 1, 2)) if second < start + 3 else one
        kept.add(second, "s", "GET /a", one)
    found = kept.stretches()
    assert len(found) <= MAX_STRETCHES
    assert sum(sum(s.counts) for s in found) == 2 * seconds
    columns = heat(found)
    assert len(columns) <= MAX_COLUMNS
    assert sum(sum(c.counts) for c in columns) == 2 * seconds
    assert all(len(c.edges_ms) == len(c.counts) + 1 for c in columns)
    assert columns[0].at_s == start


def test_seconds_without_a_request_are_gaps() -> None:
    def stretch(at_s: float) -> LatencyStretch:
        return LatencyStretch(at_s=at_s, seconds=1, stage="s", endpoint="e", first=60, counts=[1, 2, 3])

    columns = heat([stretch(9.0), stretch(2.0)])
    assert [c.at_s for c in columns] == [2.0, 9.0]
    assert columns[0].counts == [3, 3]
    assert columns[0].edges_ms == [1.0, edge_ms(62), edge_ms(64)]
    assert heat([]) == []
