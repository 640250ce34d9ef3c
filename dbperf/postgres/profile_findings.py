"""What stands out in a profile, in numbers, and what to do about it (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from dbperf.records.database import DatabaseActivity
from dbperf.records.plans import Finding
from dbperf.records.statements import Statement, Statements
from dbperf.records.waits import CPU, Waits
from dbperf.units import format_bytes, format_count, format_ms, format_share

BLOCKED_MS = 1000.0
"""The service levels allow no transaction to block another for longer."""
IDLE_IN_TRANSACTION_MS = 5000.0
POOL_USE = 0.8
REPLICA_LAG_MS = 10_000.0
SLOT_BYTES = 1 << 30
_ORDER = {"critical": 0, "warning": 1, "info": 2}


def findings(statements: Statements, waits: Waits | None, database: DatabaseActivity | None) -> list[Finding]:
    """Findings, critical ones first, then by the share of time that they explain."""
    found = [*_window(statements, waits), *_statements(statements)]
    if waits is not None:
        found += _waits(waits)
    if database is not None:
        found += _database(database, _explicit_rollbacks(statements))
    return sorted(found, key=lambda f: (_ORDER[f.severity], -(f.share or 0.0), f.rule_id, f.title))


def _window(profile: Statements, waits: Waits | None) -> Iterator[Finding]:
    validity = profile.validity
    settings = validity.settings
    if settings.get("pg_stat_statements.track") == "none" or settings.get("compute_query_id") == "off":
        yield Finding(
            rule_id="statements-not-tracked", severity="critical", title="Statements are not tracked",
            evidence={k: settings.get(k) for k in ("pg_stat_statements.track", "compute_query_id")},
            advice="Set pg_stat_statements.track to top, and compute_query_id to auto or on.",
            sql="ALTER SYSTEM SET pg_stat_statements.track = 'top'; ALTER SYSTEM SET compute_query_id = 'auto';"
            " SELECT pg_reload_conf();",
        )  # fmt: skip
    if validity.evictions:
        yield Finding(
            rule_id="statements-evicted", severity="warning", title="pg_stat_statements is too small for this workload",
            evidence={"evictions": validity.evictions, "max": settings.get("pg_stat_statements.max")},
            advice="Raise pg_stat_statements.max (needs a restart), or make texts vary less: parameters instead of"
            " literals in identifiers, one length of IN lists (= ANY).",
        )  # fmt: skip
    if validity.hidden_statements:
        yield Finding(
            rule_id="statements-hidden", severity="warning", title="Statements of other roles are hidden",
            evidence={"statements": validity.hidden_statements, "hidden_ms": validity.hidden_ms},
            share=validity.hidden_ms / profile.total_ms if profile.total_ms else None,
            # No SQL: who runs the GRANT is not the role that it is for, and that one's name is not known here.
            advice="GRANT pg_read_all_stats to the profiling role, as an administrator; dbperf doctor prints the"
            " statement with its name.",
        )  # fmt: skip
    share = profile.attributed_share
    if share is not None and share < 0.8 and (profile.active_ms or 0.0) > 1000:
        yield Finding(
            rule_id="time-not-attributed", severity="info",
            title=f"{format_share(1 - share)} of the active time belongs to no listed statement",
            evidence={"attributed_share": share, "active_ms": profile.active_ms, "listed_ms": profile.total_ms,
                      "commit_wait_ms": _commit_wait_ms(waits)},
            advice="Not counted: the flush of WAL after a COMMIT (see commit_wait_ms), planning unless"
            " pg_stat_statements.track_planning is on, parsing, and statements that had not ended with the window.",
        )  # fmt: skip


def _commit_wait_ms(waits: Waits | None) -> float | None:
    """Session time in the flush of WAL and in synchronous replication, as sampled.

    pg_stat_statements stops its clock before a COMMIT writes anything, so this time belongs to no statement.
    """
    if waits is None:
        return None
    names = ("walsync", "walwrite", "syncrep")
    return sum(e.session_ms for e in waits.events if e.wait_event.lower() in names)


def _explicit_rollbacks(profile: Statements) -> int:
    """ROLLBACK as a statement: many ORMs end every session that only read with one, which is no error."""
    return sum(
        s.calls for s in profile.statements if s.text.upper().startswith("ROLLBACK") and " TO " not in s.text.upper()
    )


def _statements(profile: Statements) -> Iterator[Finding]:
    for s in profile.statements:
        if s.share < 0.01 or not s.toplevel:
            continue
        about = _one_line(s.text)
        if s.calls_per_request is not None and s.calls_per_request >= 10:
            yield Finding(
                rule_id="many-calls-per-request", severity="warning", share=s.share,
                title=f"{format_count(s.calls_per_request)} calls per request: {about}",
                evidence={"queryid": s.queryid, "calls": s.calls, "calls_per_request": s.calls_per_request},
                advice="A loop in the application runs it row by row (N+1): fetch the rows with one statement.",
            )  # fmt: skip
        if s.temp_blks_written:
            size = s.temp_blks_written * 8192
            yield Finding(
                rule_id="statement-spills", severity="warning", share=s.share,
                title=f"Spills {format_bytes(size / max(s.calls, 1))} per call to disk: {about}",
                evidence={"queryid": s.queryid, "temp_blks_written": s.temp_blks_written, "calls": s.calls},
                advice="A sort or hash does not fit work_mem: raise it for this statement, or give it less to sort.",
            )  # fmt: skip
        if s.planning_ms and s.planning_ms > s.total_ms and s.planning_ms > 100:
            yield Finding(
                rule_id="planning-dominates", severity="info", share=s.share,
                title=f"Planning takes longer than execution: {about}",
                evidence={"queryid": s.queryid, "planning_ms": s.planning_ms, "total_ms": s.total_ms},
                advice="Prepare it once per connection, so that a generic plan can be kept.",
            )  # fmt: skip
        if s.jit_ms and s.jit_ms > 0.2 * s.total_ms:
            yield Finding(
                rule_id="jit-dominates", severity="warning", share=s.share,
                title=f"JIT compilation takes {format_share(min(1.0, s.jit_ms / s.total_ms))} of its time: {about}",
                evidence={"queryid": s.queryid, "jit_ms": s.jit_ms, "total_ms": s.total_ms},
                advice="Raise jit_above_cost, or turn jit off for this database.",
            )  # fmt: skip
        if _reads_disk(s):
            read_ms = s.blk_read_ms or 0.0
            yield Finding(
                rule_id="statement-reads-disk", severity="info", share=s.share, explains_ms=read_ms,
                title=f"Waits {format_share(min(1.0, read_ms / s.total_ms))} of its time for block reads: {about}",
                evidence={"queryid": s.queryid, "blk_read_ms": read_ms, "shared_blks_read": s.shared_blks_read,
                          "hit_ratio": s.hit_ratio},
                advice="Its data does not stay in shared_buffers: read fewer blocks (an index), or add memory.",
            )  # fmt: skip


def _reads_disk(s: Statement) -> bool:
    return s.blk_read_ms is not None and s.total_ms > 0 and s.blk_read_ms > 0.3 * s.total_ms and s.blk_read_ms > 50


def _waits(waits: Waits) -> Iterator[Finding]:
    for chain in waits.blockers:
        if chain.longest_wait_ms < BLOCKED_MS:
            continue
        idle = (chain.root.state or "").startswith("idle in transaction")
        yield Finding(
            rule_id="blocking-chain", severity="critical",
            title=f"{chain.sessions - 1} session(s) waited up to {format_ms(chain.longest_wait_ms)} for pid"
            f" {chain.root.pid}" + (" (idle in transaction)" if idle else ""),
            evidence={"root_pid": chain.root.pid, "sessions": chain.sessions, "depth": chain.depth,
                      "longest_wait_ms": chain.longest_wait_ms, "total_wait_ms": chain.total_wait_ms,
                      "root_text": chain.root.text},
            explains_ms=chain.total_wait_ms,
            advice="Commit sooner: no work outside the database between a write and its COMMIT."
            if idle else "Shorten the transaction that holds the lock; take locks in one order everywhere.",
        )  # fmt: skip
    for idle_one in waits.idle_transactions:
        if idle_one.longest_idle_ms >= IDLE_IN_TRANSACTION_MS:
            who = idle_one.session.application_name or idle_one.session.user or f"pid {idle_one.session.pid}"
            yield Finding(
                rule_id="idle-in-transaction", severity="warning",
                title=f"{who} was idle in a transaction for {format_ms(idle_one.longest_idle_ms)}",
                evidence={"pid": idle_one.session.pid, "longest_idle_ms": idle_one.longest_idle_ms,
                          "last_text": idle_one.session.text},
                advice="It holds locks and keeps VACUUM from removing dead rows; set"
                " idle_in_transaction_session_timeout.",
            )  # fmt: skip
    by_type: dict[str, float] = {}
    for e in waits.events:
        by_type[e.wait_event_type] = by_type.get(e.wait_event_type, 0.0) + e.share
    busy = waits.active_session_ms > 1000
    advice = {
        "Lock": "Sessions wait for each other's locks: see the blocking chains.",
        "LWLock": "Sessions contend for PostgreSQL's own structures: fewer connections, or fewer small transactions.",
        "IO": "Reads and writes wait for storage: see the statements by I/O.",
        "Client": "Sessions wait for the client to take rows: fetch fewer, or faster.",
    }
    for kind, share in by_type.items():
        if kind in advice and share > 0.2 and busy:
            yield Finding(
                rule_id=f"waits-{kind.lower()}", severity="warning" if kind == "Lock" else "info", share=share,
                title=f"{format_share(share)} of the active session time is spent waiting: {kind}",
                evidence={"share": share, "cpu_share": by_type.get(CPU, 0.0)}, advice=advice[kind],
            )  # fmt: skip
    if waits.max_connections and waits.connections_max > POOL_USE * waits.max_connections:
        yield Finding(
            rule_id="connections-near-limit", severity="warning",
            title=f"{waits.connections_max} of {waits.max_connections} connections were open",
            evidence={"connections_max": waits.connections_max, "max_connections": waits.max_connections},
            advice="Use smaller pools, or a pooler; raise max_connections last.",
        )  # fmt: skip
    if waits.sampler.missed_share > 0.1:
        yield Finding(
            rule_id="samples-missed", severity="info",
            title=f"The sampler missed {format_share(waits.sampler.missed_share)} of its samples",
            evidence={"samples": waits.sampler.samples, "missed": waits.sampler.missed},
            advice="Shares of waits rest on fewer samples; a lower rate, or a less busy machine for dbperf, helps.",
        )  # fmt: skip


def _database(database: DatabaseActivity, explicit_rollbacks: int) -> Iterator[Finding]:
    c = database.counters
    if c is not None:
        if c.deadlocks:
            yield Finding(
                rule_id="deadlocks", severity="critical", title=f"{c.deadlocks} deadlock(s)",
                evidence={"deadlocks": c.deadlocks}, advice="Take locks in the same order in every transaction.",
            )  # fmt: skip
        ends = c.commits + c.rollbacks
        failed = max(0, c.rollbacks - explicit_rollbacks)
        if failed > 10 and failed > 0.05 * ends:
            yield Finding(
                rule_id="rollbacks", severity="warning",
                title=f"{format_share(failed / ends)} of the transactions failed",
                evidence={"rollbacks": c.rollbacks, "explicit_rollbacks": explicit_rollbacks, "commits": c.commits},
                advice="Look into the server's log for the errors behind them.",
            )  # fmt: skip
        if c.conflicts:
            yield Finding(
                rule_id="recovery-conflicts", severity="warning", evidence={"conflicts": c.conflicts},
                title=f"{c.conflicts} statement(s) were cancelled by replication",
                advice="Raise max_standby_streaming_delay, or set hot_standby_feedback.",
            )  # fmt: skip
    yield from _tables(database)
    points, wal = database.checkpoints, database.wal
    if points is not None and points.requested > points.timed and points.requested > 1:
        yield Finding(
            rule_id="checkpoints-requested", severity="warning",
            title=f"{points.requested} checkpoints were forced by WAL volume",
            evidence={"requested": points.requested, "timed": points.timed,
                      "wal_bytes": wal.wal_bytes if wal else None},
            advice="Raise max_wal_size, so that checkpoints come by time.",
        )  # fmt: skip
    if wal is not None and wal.wal_buffers_full > 100:
        yield Finding(
            rule_id="wal-buffers-full", severity="info", evidence={"wal_buffers_full": wal.wal_buffers_full},
            title=f"WAL was written {wal.wal_buffers_full} times because wal_buffers was full",
            advice="Raise wal_buffers (16 MB is common).",
        )  # fmt: skip
    for replica in database.replicas:
        if (replica.replay_lag_ms or 0.0) > REPLICA_LAG_MS:
            yield Finding(
                rule_id="replication-lag", severity="warning",
                title=f"{replica.application_name} is {format_ms(replica.replay_lag_ms)} behind",
                evidence={"replay_lag_ms": replica.replay_lag_ms, "replay_lag_bytes": replica.replay_lag_bytes},
                advice="Look at the standby's load and network.",
            )  # fmt: skip
    for slot in database.slots:
        if not slot.active and (slot.retained_wal_bytes or 0) > SLOT_BYTES:
            yield Finding(
                rule_id="slot-retains-wal", severity="warning",
                title=f"The inactive slot {slot.slot} keeps {format_bytes(slot.retained_wal_bytes)} of WAL",
                evidence={"slot": slot.slot, "retained_wal_bytes": slot.retained_wal_bytes},
                advice="Drop it if nobody comes back for it: it fills the disk.",
            )  # fmt: skip


def _tables(database: DatabaseActivity) -> Iterator[Finding]:
    for t in database.tables:
        name = t.relation if t.schema == "public" else f"{t.schema}.{t.relation}"
        if t.seq_scans >= 10 and (t.seq_rows_per_scan or 0.0) > 10_000:
            yield Finding(
                rule_id="large-sequential-scans", severity="warning",
                title=f"{name} was read as a whole {format_count(t.seq_scans)} times,"
                f" {format_count(t.seq_rows_per_scan)} rows each",
                evidence={"relation": name, "seq_scans": t.seq_scans, "seq_rows_read": t.seq_rows_read},
                advice="An index on what its statements filter or sort by may help: dbperf advise looks for it.",
            )  # fmt: skip
        if t.dead_rows > 10_000 and (t.dead_share or 0.0) > 0.2:
            yield Finding(
                rule_id="dead-rows", severity="warning",
                title=f"{format_share(t.dead_share)} of {name} are dead rows",
                evidence={"relation": name, "dead_rows": t.dead_rows, "live_rows": t.live_rows},
                advice="Autovacuum does not keep up: lower autovacuum_vacuum_scale_factor for the table, and look for"
                " long transactions.",
            )  # fmt: skip
        if t.rows_updated > 1000 and (t.hot_share or 0.0) < 0.5:
            yield Finding(
                rule_id="few-hot-updates", severity="info",
                title=f"Only {format_share(t.hot_share)} of the updates of {name} were HOT",
                evidence={"relation": name, "rows_updated": t.rows_updated, "rows_hot_updated": t.rows_hot_updated},
                advice="Each of the others wrote to every index: lower the fillfactor, or drop indexes on columns that"
                " change.",
            )  # fmt: skip


def _one_line(text: str, width: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
