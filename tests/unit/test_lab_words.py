"""What a run says in passing."""

from __future__ import annotations

from dbperf.lab.under_load import left_out_words
from dbperf.records.load import LeftOut


def test_endpoints_left_out_for_the_same_reason_share_a_sentence() -> None:
    left_out = [
        LeftOut(endpoint="POST /a", reason="it writes"),
        LeftOut(endpoint="GET /b", reason="it needs id"),
        LeftOut(endpoint="POST /c", reason="it writes"),
    ]
    assert left_out_words(left_out) == [
        "left out, because it writes: POST /a, POST /c",
        "left out, because it needs id: GET /b",
    ]
