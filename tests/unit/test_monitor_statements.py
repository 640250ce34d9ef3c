"""The exporter's counters: bounded, stable membership, never falling, whatever happens to the statistics."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec

from dbperf.monitor.database import COLUMNS, DatabaseCounters, DatabaseLook
from dbperf.monitor.statements import StatementCounters
from dbperf.postgres.statements import Entry, Snapshot
from dbperf.records.statements import StatementKey

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
ZERO = {
    name: 0
    for name in Entry.__struct_fields__
    if name not in ("user_id", "database_id", "queryid", "toplevel", "calls", "total_ms", "stats_since")
    and not name.endswith("stats_since")
}


def look(second: int, done: dict[int, tuple[int, float]], **changes: object) -> Snapshot:
    """A snapshot with calls and milliseconds by queryid."""
    entries = {}
    for queryid, (calls, ms) in done.items():
        key = StatementKey(user_id=10, database_id=5, queryid=queryid, toplevel=True)
        entries[key] = Entry(user_id=10, database_id=5, queryid=queryid, calls=calls, total_ms=ms, **ZERO)
    snapshot = Snapshot(
        at=BEGAN + timedelta(seconds=second), monotonic_s=second, took_ms=1, extension_version="1.12",
        server_started_at=BEGAN, all_databases=False, database_id=5, sees_all=True, entries_in_use=len(entries),
        evictions=0, reset_at=BEGAN, settings={"pg_stat_statements.max": "5000"}, databases={5: "app"},
        users={10: "me"}, active_ms={}, entries=entries, hidden={}, texts={k: f"SELECT {k.queryid}" for k in entries},
    )  # fmt: skip
    return msgspec.structs.replace(snapshot, **changes)


def seconds(counters: StatementCounters) -> float:
    return counters.other["seconds"] + sum(m["seconds"] for m in counters.members.values())


def test_what_was_before_the_first_look_is_not_counted() -> None:
    counters = StatementCounters(2)
    counters.add(look(0, {1: (100, 5000.0)}))
    assert not counters.members
    counters.add(look(1, {1: (103, 5030.0)}))
    assert counters.members[1]["calls"] == 3
    assert abs(counters.members[1]["seconds"] - 0.03) < 1e-9


def test_two_statements_of_equal_weight_do_not_take_turns() -> None:
    counters = StatementCounters(1)
    counters.add(look(0, {1: (0, 0.0), 2: (0, 0.0)}))
    members = set()
    ms = {1: 0.0, 2: 0.0}
    noise = random.Random(1)
    for second in range(1, 200):
        ms = {q: v + noise.uniform(8, 12) for q, v in ms.items()}
        counters.add(look(second, {q: (second, v) for q, v in ms.items()}))
        members |= counters.members.keys()
    assert len(members) == 1


def test_a_much_heavier_statement_becomes_a_member_and_nothing_falls_or_is_counted_twice() -> None:
    counters = StatementCounters(2)
    done = dict.fromkeys(range(1, 6), (0, 0.0))
    counters.add(look(0, done))
    before: dict[str, float] = {}
    increases = 0.0
    for second in range(1, 60):
        heavy = 1 if second < 20 else 4
        done = {q: (c + 1, ms + (100.0 if q == heavy else 1.0)) for q, (c, ms) in done.items()}
        counters.add(look(second, done))
        assert len(counters.members) <= 2
        now = {"other": counters.other["seconds"], **{str(q): m["seconds"] for q, m in counters.members.items()}}
        assert all(now[name] >= value for name, value in before.items() if name in now)
        increases += sum(value - before.get(name, 0.0) for name, value in now.items())
        before = now
    assert 4 in counters.members
    assert abs(increases - sum(ms for _, ms in done.values()) / 1000) < 1e-6


def test_a_reset_is_told_and_what_was_counted_stays() -> None:
    counters = StatementCounters(2)
    counters.add(look(0, {1: (0, 0.0)}))
    counters.add(look(1, {1: (10, 100.0)}))
    reset_at = BEGAN + timedelta(seconds=1, milliseconds=500)
    counters.add(look(2, {1: (2, 20.0)}, reset_at=reset_at))
    assert (counters.resets, counters.members[1]["calls"]) == (1, 12)


def test_the_statistics_of_a_standby_that_took_over_are_not_counted_as_new() -> None:
    counters = StatementCounters(2)
    counters.add(look(0, {1: (0, 0.0)}))
    counters.add(look(1, {1: (10, 100.0)}))
    other = {"reset_at": BEGAN - timedelta(days=30), "server_started_at": BEGAN - timedelta(days=30)}
    counters.add(look(2, {1: (1_000_000, 1e9)}, **other))
    assert (counters.replaced, counters.members[1]["calls"]) == (1, 10)
    counters.add(look(3, {1: (1_000_001, 1e9 + 5)}, **other))
    assert counters.members[1]["calls"] == 11


def test_the_number_of_series_is_bounded() -> None:
    counters = StatementCounters(50)
    counters.add(look(0, {}))
    counters.add(look(1, {q: (1, float(q)) for q in range(1, 5001)}))
    families = {f.name: f for f in counters.families("app")}
    samples = families["dbperf_statement_calls"].samples
    assert len(samples) == 51
    assert sum(s.value for s in samples) == 5000
    assert {s.labels["queryid"] for s in samples} == {"other", *map(str, range(4951, 5001))}
    assert sum(len(f.samples) for f in families.values()) < 51 * 12


def database_look(commits: float, **changes: object) -> DatabaseLook:
    row = dict.fromkeys(COLUMNS, 0.0) | {"commits": commits}
    look = DatabaseLook(row=row, stats_reset=None, sessions={}, connections=1, max_connections=97, invalid_indexes=0)
    return msgspec.structs.replace(look, **changes)


def test_the_databases_counters_go_on_over_a_crash_a_reset_and_another_server() -> None:
    counters = DatabaseCounters()
    counters.add(database_look(100))
    counters.add(database_look(110))
    assert counters.gained["commits"] == 10
    counters.add(database_look(4))
    assert counters.gained["commits"] == 14, "a crash: counting began at 0"
    counters.add(database_look(2, stats_reset=BEGAN))
    counters.add(database_look(3, stats_reset=BEGAN))
    assert counters.gained["commits"] == 15, "what came between a reset and the look is not known"
    counters.add(database_look(9_000, stats_reset=BEGAN), replaced=True)
    assert counters.gained["commits"] == 15
