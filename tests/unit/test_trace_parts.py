"""A folder of traces keeps within its limit, says what it dropped, and loses or doubles nothing else."""

from __future__ import annotations

import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbperf.trace import stream as writer
from dbperf.trace.collect import collect
from dbperf.trace.follow import Follower
from dbperf.trace.parts import SHARE, SUFFIX
from dbperf.trace.reader import Request, read_folder
from dbperf.trace.state import STATEMENT, RequestTrace, Texts, texts
from dbperf.trace.stream import Recorder

LIMIT = 64 * 1024


@pytest.fixture(autouse=True)
def _only_the_test_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many parts there are must not depend on when the writer's thread comes round, nor on the texts and lines that
    other tests have made known to this process, which each part defines."""
    monkeypatch.setattr(writer, "FLUSH_S", 3600.0)
    for name, value in vars(Texts()).items():
        monkeypatch.setattr(texts, name, value)


def send(recorder: Recorder, numbers: range) -> None:
    """Requests of about 200 bytes, flushed ten at a time, as the writer does twice a second. Their status is a number
    of their own."""
    text = texts.text("SELECT name FROM parts WHERE id = $1")
    source = texts.source_id("/app/parts.py", 7, "names")
    for n in numbers:
        r = RequestTrace(recorder, {"method": "GET", "path": "/parts"}, recorder.next_id(), 0)
        r.status = n
        r.add((STATEMENT, text.text_id, source, r.started_ns, r.started_ns + 1000, 1, 1, n, 1, False))
        r.ended_ns = r.finished_ns = r.started_ns + 2000
        recorder.done(r)
        if n % 10 == 9:
            recorder.flush()


def recorded(folder: Path, numbers: range, limit_bytes: int | None = LIMIT) -> Recorder:
    recorder = Recorder(folder, limit_bytes=limit_bytes)
    recorder.start()
    send(recorder, numbers)
    return recorder


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.glob(f"*{SUFFIX}"))


def statuses(requests: list[Request]) -> list[int]:
    return [r.status for r in requests]


def test_a_long_trace_keeps_its_newest_part_and_says_what_is_gone(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(2000))
    recorder.close()
    assert size_of(tmp_path) <= LIMIT * (1 + 1 / SHARE)
    stream = read_folder(tmp_path)
    kept = statuses(stream.requests)
    assert kept == list(range(kept[0], 2000)), "the newest ones, each once"
    assert len(kept) * size_of(tmp_path) / len(kept) > LIMIT / 2, "no more was removed than had to be"
    assert {stream.texts[e.text_id].text for r in stream.requests for e in r.events} == {
        "SELECT name FROM parts WHERE id = $1"
    }
    assert {stream.sources[e.source_id] for r in stream.requests for e in r.events} == {("/app/parts.py", 7, "names")}
    trace = collect(tmp_path)
    assert trace.processes == 1
    assert trace.requests == len(kept)
    assert not trace.complete
    [note] = trace.notes
    assert "were removed" in note
    assert "limit_bytes" in note


def test_what_was_removed_before_the_window_does_not_concern_it(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(1000))
    time.sleep(0.01)
    since = datetime.now(UTC)
    send(recorder, range(1000, 1020))
    recorder.close()
    trace = collect(tmp_path, since=since)
    assert (trace.requests, trace.complete, trace.notes) == (20, True, [])


def test_without_a_limit_all_is_kept_in_one_file(tmp_path: Path) -> None:
    recorded(tmp_path, range(1000), None).close()
    assert len(list(tmp_path.iterdir())) == 1
    assert collect(tmp_path).requests == 1000


def test_processes_that_come_and_go_share_the_limit(tmp_path: Path) -> None:
    for start in range(0, 3000, 300):  # a server that restarts its workers
        recorded(tmp_path, range(start, start + 300)).close()
        assert size_of(tmp_path) <= LIMIT * (1 + 2 / SHARE)
    stream = read_folder(tmp_path)
    kept = sorted(statuses(stream.requests))
    assert kept == list(range(kept[0], 3000))
    assert stream.dropped
    assert stream.complete


def test_a_process_whose_file_was_removed_goes_on_in_a_new_one(tmp_path: Path) -> None:
    idle = recorded(tmp_path, range(10))
    assert idle.path is not None
    os.utime(idle.path, (1, 1))
    recorded(tmp_path, range(100, 1100)).close()
    assert not idle.path.exists(), "it had not been written to for longest"
    send(idle, range(10, 20))
    idle.close()
    stream = read_folder(tmp_path)
    assert [n for n in statuses(stream.requests) if n < 100] == list(range(10, 20))
    assert stream.processes == 2


@pytest.mark.parametrize("step", [10, 70, 130])
def test_a_follower_gives_each_request_once(tmp_path: Path, step: int) -> None:
    recorder = recorded(tmp_path, range(0))
    follower = Follower(tmp_path, since_ns=0)
    found: Counter[int] = Counter()
    for start in range(0, 2000, step):
        send(recorder, range(start, min(2000, start + step)))
        recorder.flush()
        requests, errors = follower.read()
        found.update(statuses(requests))
        assert not errors
    recorder.close()
    found.update(statuses(follower.read()[0]))
    assert found == Counter(range(2000))


def test_a_follower_that_is_too_slow_says_so_once(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(100))
    follower = Follower(tmp_path, since_ns=0)
    found = statuses(follower.read()[0])
    send(recorder, range(100, 3000))
    requests, [error] = follower.read()
    found += statuses(requests)
    assert "removed for its limit" in error.message
    send(recorder, range(3000, 3010))
    requests, errors = follower.read()
    assert not errors
    found += statuses(requests)
    assert len(found) == len(set(found)) < 3010
    recorder.close()


def test_a_follower_that_begins_later_misses_nothing_and_reads_no_old_file(tmp_path: Path) -> None:
    recorder = recorded(tmp_path, range(1000))
    an_hour_ago = time.time() - 3600
    for path in sorted(tmp_path.iterdir())[:-1]:
        os.utime(path, (an_hour_ago, an_hour_ago))
    follower = Follower(tmp_path, since_ns=time.time_ns())
    requests, errors = follower.read()
    assert not errors
    assert not requests
    assert len(follower._files) < len(list(tmp_path.iterdir()))
    send(recorder, range(1000, 1010))
    assert statuses(follower.read()[0]) == list(range(1000, 1010))
    recorder.close()


def test_the_last_version_is_read(tmp_path: Path) -> None:
    (tmp_path / f"4711-3f1c0de5{SUFFIX}").write_text(
        '["h",2,4711,1000,0,""]\n["r",1,"GET","/x",200,0,1000,0,0,0,0,false,[]]\n["e",2000]\n'
    )
    trace = collect(tmp_path)
    assert (trace.requests, trace.complete) == (1, True)


def test_a_process_that_goes_on_is_no_fault_of_a_window_that_is_over(tmp_path: Path) -> None:
    over = datetime.now(UTC) - timedelta(seconds=2)
    recorder = recorded(tmp_path, range(10))
    assert not collect(tmp_path).complete
    assert collect(tmp_path, until=over).complete
    recorder.close()
    beyond_every_pid = 1 << 23
    (tmp_path / f"killed{SUFFIX}").write_text(f'["h",3,{beyond_every_pid},1000,0,"","killed",1]\n')
    trace = collect(tmp_path, until=over)
    assert not trace.complete
    assert "was killed" in trace.notes[0]
