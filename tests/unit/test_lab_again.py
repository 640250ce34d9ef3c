"""The second load of a run: how long it is, and what is said where it was shorter than the first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from dbperf.lab.again import shortened
from dbperf.lab.prove import endpoint_words, proof_words, with_endpoints
from dbperf.load import load_suite
from dbperf.records.proof import Proof
from tests.support.loads import endpoint, load_of, stage

EMPTY = Proof(target="x", server_version="18", started_at=datetime(2026, 1, 1, tzinfo=UTC), elapsed_s=1, indexes=[])


def test_what_is_short_is_repeated_whole_and_what_is_long_in_part() -> None:
    suite = load_suite("phase3")
    (one,) = suite.stages
    for given, expected in ((6.0, 6.0), (60.0, 25.0), (40.0, 25.0), (600.0, 240.0)):
        changed = msgspec.structs.replace(suite, stages=[msgspec.structs.replace(one, duration_s=given)])
        (after,) = shortened(changed).stages
        assert after.duration_s == expected
        assert (after.users, after.ramp_s) == (one.users, one.ramp_s)
    assert shortened(suite).endpoints == suite.endpoints


def test_windows_of_unlike_length_are_noted() -> None:
    times = [20.0 + i % 7 for i in range(400)]
    before = stage(endpoint(times), start_s=0)
    longer = msgspec.structs.replace(before, ended_at=before.ended_at + timedelta(seconds=50))
    alike = with_endpoints(EMPTY, load_of(before), load_of(before))
    assert (alike.load_before_s, alike.load_after_s, alike.notes) == (10, 10, [])
    unlike = with_endpoints(EMPTY, load_of(longer), load_of(stage(endpoint([t / 2 for t in times]))))
    assert (unlike.load_before_s, unlike.load_after_s) == (60, 10)
    (note,) = unlike.notes
    assert "1 min 00 s before and for 10.0 s after" in note
    (changed,) = unlike.endpoints
    assert changed.verdict == "better"
    assert endpoint_words(unlike) == "1 endpoints faster, 0 slower, 0 the same, 0 can't be told"
    assert proof_words(unlike) == "0 to keep, 0 rejected, 0 can't be told"
