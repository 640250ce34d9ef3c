"""The pure parts of a profile: differences of entries, merging, blocking chains, masking, rendering."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbperf.cli.profile_text import _escaped, chain_lines, plain, render
from dbperf.postgres.blocking import Blocking
from dbperf.postgres.fingerprint import fingerprint, shape
from dbperf.postgres.profile_findings import findings
from dbperf.postgres.session_text import masked_text
from dbperf.postgres.statements import Accumulation, Entry, Snapshot, delta
from dbperf.postgres.wait_totals import Names, WaitTotals
from dbperf.records.profile import Collectors, Profile, ProfileSummary
from dbperf.records.statements import StatementKey, Statements
from dbperf.records.waits import Sampler

START = datetime(2026, 1, 1, tzinfo=UTC)
ZEROS: dict[str, Any] = dict.fromkeys(
    (
        "plans", "planning_ms", "rows", "shared_blks_hit", "shared_blks_read", "shared_blks_dirtied",
        "shared_blks_written", "local_blks_hit", "local_blks_read", "local_blks_dirtied", "local_blks_written",
        "temp_blks_read", "temp_blks_written", "blk_read_ms", "blk_write_ms", "wal_records", "wal_fpi", "wal_bytes",
    ),
    0,
)  # fmt: skip


def entry(times_ms: list[float], *, queryid: int = 1, since: datetime | None = None) -> Entry:
    """What pg_stat_statements would show of calls that took so long."""
    return Entry(
        user_id=10, database_id=5, queryid=queryid, calls=len(times_ms), total_ms=math.fsum(times_ms),
        min_ms=min(times_ms, default=0.0), max_ms=max(times_ms, default=0.0),
        stddev_ms=statistics.pstdev(times_ms) if times_ms else 0.0, stats_since=since, **ZEROS,
    )  # fmt: skip


def snap(
    seconds: float, *entries: Entry, texts: dict[int, str] | None = None, clock_s: float = 0.0, **changes: Any
) -> Snapshot:
    def key(queryid: int) -> StatementKey:
        return StatementKey(user_id=10, database_id=5, queryid=queryid, toplevel=True)

    base = Snapshot(
        at=START + timedelta(seconds=seconds + clock_s), monotonic_s=seconds, took_ms=1.0, extension_version="1.10",
        server_started_at=START - timedelta(days=1), all_databases=False, database_id=5, sees_all=True,
        entries_in_use=len(entries), evictions=0, reset_at=START - timedelta(days=1),
        settings={"pg_stat_statements.max": "5000", "pg_stat_statements.track": "top"}, databases={5: "app"},
        users={10: "kim"}, active_ms={5: 1000 * seconds}, entries={key(e.queryid or 0): e for e in entries}, hidden={},
        texts={key(q): t for q, t in (texts or {}).items()},
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


times = st.lists(st.floats(0.01, 10_000), max_size=30)


@settings(deadline=None)
@given(before=times, window=st.lists(st.floats(0.01, 10_000), min_size=1, max_size=30))
def test_the_window_has_the_figures_of_its_own_calls(before: list[float], window: list[float]) -> None:
    profile = delta(snap(0, entry(before)), snap(10, entry(before + window)))
    (statement,) = profile.statements
    assert statement.calls == len(window)
    assert statement.total_ms == pytest.approx(math.fsum(window), rel=1e-6, abs=1e-6)
    assert statement.min_ms is not None
    assert statement.max_ms is not None
    assert statement.min_ms <= min(window) + 1e-9
    if statement.min_max_of == "window":
        assert (statement.min_ms, statement.max_ms) == (min(window), max(window))
    if statement.stddev_ms is not None:
        # Rounding of the whole life's sums of squares is what is left of precision.
        scale = max(before + window)
        assert statement.stddev_ms == pytest.approx(statistics.pstdev(window), rel=1e-3, abs=scale * 1e-3)


@settings(deadline=None)
@given(parts=st.lists(st.lists(st.floats(0.1, 1000), min_size=1, max_size=8), min_size=1, max_size=6))
def test_looks_in_between_change_nothing_where_nothing_happened(parts: list[list[float]]) -> None:
    life: list[float] = [5.0]
    first = snap(0, entry(life))
    folded = Accumulation(first)
    last = first
    for i, part in enumerate(parts):
        life = life + part
        last = snap(i + 1.0, entry(life))
        folded.add(last)
    (one,) = folded.result().statements
    (two,) = delta(first, last).statements
    assert (one.calls, one.min_ms, one.max_ms, one.min_max_of) == (two.calls, two.min_ms, two.max_ms, two.min_max_of)
    assert one.total_ms == pytest.approx(two.total_ms)
    if one.stddev_ms is not None and two.stddev_ms is not None:
        assert one.stddev_ms == pytest.approx(two.stddev_ms, rel=1e-3, abs=1e-3)
    assert folded.result().validity.complete


def test_a_look_in_between_saves_what_an_eviction_loses() -> None:
    first = snap(0, entry([1.0]))
    folded = Accumulation(first)
    folded.add(snap(1, entry([1.0] * 10)))
    folded.add(snap(2, evictions=1))
    folded.add(snap(3, entry([1.0] * 4), evictions=1))
    profile = folded.result()
    (statement,) = profile.statements
    assert (statement.calls, statement.valid) == (13, False)
    assert "vanished" in (statement.validity_note or "")
    assert (profile.validity.evictions, profile.validity.lost_statements) == (1, 1)


def test_an_entry_that_overtook_its_old_counts_is_not_trusted_after_an_eviction() -> None:
    sure = delta(snap(0, entry([2.0, 3.0])), snap(1, entry([2.0, 3.0, 2.5, 2.6]), evictions=1))
    assert sure.statements[0].valid, "its minimum and maximum are the old ones to the last bit"
    unsure = delta(snap(0, entry([2.0, 3.0])), snap(1, entry([1.0, 4.0, 2.0]), evictions=1))
    assert not unsure.statements[0].valid
    told = delta(snap(0, entry([2.0, 3.0], since=START)), snap(1, entry([1.0, 4.0, 2.0], since=START), evictions=1))
    assert told.statements[0].valid, "1.11 and newer say since when an entry counts"


def test_a_clock_that_was_set_is_told_and_does_not_change_the_window() -> None:
    for hours in (-3, 3):
        profile = delta(snap(0, entry([1.0])), snap(10, entry([1.0, 2.0]), clock_s=hours * 3600))
        assert profile.window.seconds == 10
        assert profile.validity.clock_change_s == pytest.approx(hours * 3600)
        assert not profile.validity.complete
        assert profile.statements[0].total_ms == 2.0


def test_attributed_share_is_of_the_active_time_without_dbperf() -> None:
    profile = delta(snap(0, entry([])), snap(10, entry([4000.0])), own_active_ms=2000)
    assert profile.active_ms == 8000
    assert profile.attributed_share == 0.5
    late = delta(snap(0, entry([])), snap(10, entry([4000.0]), active_ms={5: 100.0}))
    assert late.attributed_share == 1.0, "sessions report their active time late"
    reset = delta(snap(5, entry([])), snap(10, entry([4000.0]), active_ms={5: 100.0}))
    assert reset.attributed_share is None


def test_only_variants_in_length_are_merged() -> None:
    texts = {
        1: "SELECT a FROM t WHERE b IN ($1)", 2: "SELECT a FROM t WHERE b IN ($1, $2, $3)",
        3: "SELECT f($1)", 4: "SELECT f($1, $2)", 5: "BEGIN", 6: "BEGIN READ ONLY", 7: "not SQL at all",
        8: "SELECT a FROM t WHERE b IN ($1 /*, ... */)",
    }  # fmt: skip
    assert fingerprint(texts[3]) == fingerprint(texts[4])
    entries = [entry([float(q)] * q, queryid=q) for q in texts]
    profile = delta(snap(0), snap(1, *entries, texts=texts))
    merged = {s.text: (s.merged, s.calls) for s in profile.statements}
    assert merged.pop("SELECT a FROM t WHERE b IN ($1)") == (3, 11)
    assert all(n == 1 for n, _ in merged.values())
    assert len(merged) == 5
    lead = next(s for s in profile.statements if s.merged == 3)
    assert lead.queryid == 8
    assert lead.stddev_ms == pytest.approx(statistics.pstdev([1.0] + [2.0] * 2 + [8.0] * 8))
    assert next(s for s in profile.statements if s.text == texts[7]).fingerprint == "queryid:7"


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_a_shape_and_can_be_masked_and_shown(text: str) -> None:
    shape(text)
    fingerprint(text)
    masked_text(text.encode("utf-8", "replace"))
    assert "\n" not in plain(text)
    assert "\x1b" not in plain(text)


def test_masking_leaves_no_constant_also_in_texts_that_do_not_parse() -> None:
    for text in (b"SELECT 'secret', 4711 FROM", b"INSERT INTO t VALUES ('secret', 4711", b"DO $$ secret 4711 $$ +",
                 b"SELECT $x$secret 4711", b"SELECT E'a''secret 4711"):  # fmt: skip
        assert "secret" not in masked_text(text)
        assert "4711" not in masked_text(text)


def lock(pid: int, blocked_by: str | None, waited_s: float, at_s: float = 10.0) -> dict[str, Any]:
    at = START + timedelta(seconds=at_s)
    return {
        "at": at, "pid": pid, "backend_type": "client backend", "user_id": 10, "database_id": 5,
        "application_name": f"app{pid}", "state": "active" if blocked_by else "idle in transaction", "queryid": pid,
        "xact_start": START, "text": b"UPDATE t SET a = 1", "blocked_by": blocked_by,
        "wait_started_at": at - timedelta(seconds=waited_s) if blocked_by else None, "lock_type": "transactionid",
        "lock_mode": "ShareLock", "relation": "t",
    }  # fmt: skip


NAMES = Names(users={10: "kim"}, databases={5: "app"})


def test_a_queue_looks_like_a_queue() -> None:
    blocking = Blocking(NAMES)
    blocking.add([lock(1, None, 0), lock(2, "1", 3), lock(3, "1,2", 2), lock(4, "1,2,3", 1)])
    (chain,) = blocking.chains()
    assert (chain.depth, chain.sessions, chain.longest_wait_ms, chain.total_wait_ms) == (4, 4, 3000, 6000)
    lines = chain_lines(chain)
    assert lines[0].startswith("pid 1, app1, idle in transaction")
    assert [line.index("└") for line in lines[1:]] == [0, 3, 6]
    assert "still waiting" in lines[1]
    blocking.add([])
    assert blocking.chains()[0].blocked[0].ended


def test_two_who_wait_for_each_other_are_a_circle() -> None:
    blocking = Blocking(NAMES)
    blocking.add([lock(7, "8", 1), lock(8, "7", 1), lock(9, "8", 0.5)])
    (chain,) = blocking.chains()
    assert chain.cycle
    assert chain.sessions == 3


def test_a_prepared_transaction_can_block() -> None:
    blocking = Blocking(NAMES)
    blocking.add([lock(2, "0", 1)])
    (chain,) = blocking.chains()
    assert chain_lines(chain)[0] == "a prepared transaction"


@settings(deadline=None)
@given(st.dictionaries(st.integers(1, 12), st.lists(st.integers(0, 12), min_size=1, max_size=4), max_size=12))
def test_any_graph_of_waits_can_be_drawn(graph: dict[int, list[int]]) -> None:
    pids = set(graph) | {b for blockers in graph.values() for b in blockers if b}
    rows = [lock(p, ",".join(map(str, graph[p])) if p in graph else None, p) for p in sorted(pids)]
    blocking = Blocking(NAMES)
    blocking.add(rows)
    seen = set()
    for chain in blocking.chains():
        chain_lines(chain)
        seen |= {chain.root.pid} | {p for p in graph if f"pid {p}," in "\n".join(chain_lines(chain))}
    assert set(graph) <= seen, "nobody who waits is left out"


def activity(pid: int, state: str | None, event: tuple[str, str] | None = None) -> dict[str, Any]:
    return {
        "at": START, "pid": pid, "user_id": 10, "application_name": "web", "database_id": 5,
        "backend_type": "client backend", "state": state, "queryid": 4 if state == "active" else None,
        "wait_event_type": event[0] if event else None, "wait_event": event[1] if event else None,
        "xact_start": START, "state_change": START - timedelta(seconds=7), "text": b"SELECT 1",
    }  # fmt: skip


SAMPLER = Sampler(
    rate_hz=20, samples=4, missed=4, missed_share=0.5, sample_ms_mean=1, sample_ms_max=2, server_ms_mean=0.1,
    longest_gap_ms=60,
)  # fmt: skip


def waits_of(*samples: list[dict[str, Any]]) -> Any:
    totals = WaitTotals(NAMES)
    for sample in samples:
        totals.add(sample)
    return totals.result(SAMPLER, window_s=10, blockers=[], max_connections=10, texts={}, notes=[])


def test_session_time_is_shared_out_over_the_samples_that_there_were() -> None:
    lock_wait = ("Lock", "transactionid")
    waits = waits_of(
        [activity(1, "active"), activity(2, "active", lock_wait), *(activity(n, "idle") for n in range(3, 10))],
        [activity(1, "active"), activity(2, "idle in transaction")],
        [activity(1, "active", lock_wait)],
        [],
    )
    assert waits.active_session_ms == pytest.approx(10_000)
    assert [(e.wait_event_type, e.session_ms) for e in waits.events] == [("CPU", 5000), ("Lock", 5000)]
    assert sum(e.share for e in waits.events) == pytest.approx(1)
    (statement,) = waits.by_statement
    assert (statement.queryid, statement.text, statement.share) == (4, "SELECT $1", 1)
    assert waits.idle_in_transaction_ms == 2500
    assert waits.idle_transactions[0].longest_idle_ms == 7000
    assert waits.connections_max == 9
    (pool,) = waits.pools
    assert (pool.connections_max, pool.active_max, pool.idle_in_transaction_max) == (9, 2, 1)
    rules = {f.rule_id for f in findings(empty(), waits, None)}
    assert rules == {
        "connections-near-limit", "samples-missed", "waits-lock", "idle-in-transaction", "time-not-attributed",
    }  # fmt: skip


def test_connections_are_counted_in_whole_samples_and_busy_ones_in_all() -> None:
    totals = WaitTotals(NAMES, database_id=5)
    idle = [activity(n, "idle") for n in range(2, 5)]
    elsewhere = [{**activity(n, "active"), "database_id": 6} for n in (11, 12)]
    ours = {**activity(20, "idle"), "application_name": "dbperf serve"}
    vacuum = {**activity(21, "active"), "backend_type": "autovacuum worker"}
    worker = {**activity(22, "active"), "backend_type": "parallel worker"}
    hidden = {**activity(23, None), "backend_type": None}
    totals.add([activity(1, "active"), worker, *idle, *elsewhere, ours, vacuum, hidden], whole=True)
    for _ in range(3):
        totals.add([activity(1, "active"), activity(2, "active")], whole=False)
    waits = totals.result(SAMPLER, window_s=4, blockers=[], max_connections=10, texts={}, notes=[])
    assert waits.connections_max == 7
    assert waits.hidden_sessions_max == 1
    assert waits.active_session_ms == pytest.approx(8000), "the parallel worker's sample, too"
    (pool,) = waits.pools
    assert (pool.connections_mean, pool.connections_max, pool.active_mean) == (5, 5, 1.75)
    assert pool.use_mean == pytest.approx(1.75 / 5)


def test_connections_between_two_whole_samples_were_busy_ones_at_least() -> None:
    totals = WaitTotals(NAMES)
    totals.add([], whole=True)
    totals.add([activity(1, "active"), activity(2, "idle in transaction")], whole=False)
    waits = totals.result(SAMPLER, window_s=1, blockers=[], max_connections=10, texts={}, notes=[])
    (pool,) = waits.pools
    assert (pool.connections_mean, pool.connections_max, pool.use_mean) == (1, 2, 1)
    assert waits.connections_max == 2


def empty() -> Statements:
    return delta(snap(0), snap(10))


def test_markdown_is_escaped_once() -> None:
    assert _escaped("<0.1 % of *a_b* | #1", True) == "&#60;0.1 % of &#42;a&#95;b&#42; &#124; &#35;1"


def test_an_empty_window_can_be_shown() -> None:
    summary = ProfileSummary(
        ended="complete", findings=[],
        collectors=Collectors(snapshots=1, snapshots_ms=1, samples=0, samples_server_ms=0, samples_round_trip_ms=0,
                              share=0),
    )  # fmt: skip
    for waits in (None, waits_of(), waits_of([])):
        profile = Profile(summary=summary, statements=empty(), waits=waits, database=None)
        for output_format in ("text", "json", "markdown"):
            assert render(profile, output_format, order_by="total")
