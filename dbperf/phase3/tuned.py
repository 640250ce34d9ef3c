"""The Phase 3 API with the work where the data is: set-based SQL, pgvector, one transaction, narrow rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import REAL, DateTime, Float, Integer, String, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from dbperf.phase3 import rules
from dbperf.phase3.embedding import DIMENSIONS
from dbperf.phase3.lookups import Lookups
from dbperf.phase3.rules import Facts, Plan
from dbperf.phase3.schemas import ConsolidationRequest, Performance, SummaryResponse

_IDS = ARRAY(String)

_ANALYZE = text("""
WITH newest AS (
    SELECT success, error_type, execution_time_ms
    FROM execution_log
    WHERE case_id = :case_id
    ORDER BY created_at DESC, log_id DESC
    LIMIT :limit
)
SELECT c.case_id, l.error, l.logs, l.successes, l.time_sum_ms, l.timed
FROM case_bank c
LEFT JOIN (
    SELECT CASE WHEN NOT success THEN coalesce(error_type, :unknown) END AS error, count(*) AS logs,
           count(*) FILTER (WHERE success) AS successes, sum(execution_time_ms) AS time_sum_ms,
           count(execution_time_ms) AS timed
    FROM newest
    GROUP BY 1
) l ON true
WHERE c.case_id = :case_id
""")

_BATCH = text("""
WITH ranked AS (
    SELECT l.case_id, l.success, l.error_type, l.execution_time_ms,
           row_number() OVER (PARTITION BY l.case_id ORDER BY l.created_at DESC, l.log_id DESC) AS newest,
           count(*) OVER (PARTITION BY l.case_id) AS logs
    FROM execution_log l
    JOIN case_bank c ON c.case_id = l.case_id
    WHERE c.status = 'active'
)
SELECT case_id, CASE WHEN NOT success THEN coalesce(error_type, :unknown) END AS error, count(*) AS logs,
       count(*) FILTER (WHERE success) AS successes, sum(execution_time_ms) AS time_sum_ms,
       count(execution_time_ms) AS timed
FROM ranked
WHERE newest <= :limit AND logs >= :min_logs
GROUP BY 1, 2
ORDER BY 1
""")

# Rows are locked in the order of the ids, everywhere, so that two requests can't deadlock.
_STORE_RATES = text("""
WITH locked AS (
    SELECT c.case_id, r.rate
    FROM unnest(:ids, :rates) AS r(case_id, rate)
    JOIN case_bank c ON c.case_id = r.case_id
    WHERE c.success_rate IS DISTINCT FROM r.rate
    ORDER BY c.case_id
    FOR NO KEY UPDATE OF c
)
UPDATE case_bank c
SET success_rate = locked.rate
FROM locked
WHERE c.case_id = locked.case_id
""").bindparams(bindparam("ids", type_=_IDS), bindparam("rates", type_=ARRAY(REAL)))

_CANDIDATES = text("""
SELECT case_id, usage_count, success_rate, last_used_at
FROM case_bank
WHERE status = 'active'
  AND (success_rate < :threshold AND usage_count > :low AND usage_count < :high
       OR last_used_at < :since AND usage_count < :inactive_usage)
ORDER BY case_id
""").bindparams(bindparam("threshold", type_=Float(53)), bindparam("since", type_=DateTime(timezone=True)))

# Each vector is 6 kB out of line; subvector brings it in once, where the join would fetch it for every pair.
_PAIRS = text("""
WITH active AS MATERIALIZED (
    SELECT case_id, usage_count, success_rate, last_used_at, subvector(query_vector, 1, :dimensions) AS v
    FROM case_bank
    WHERE status = 'active' AND query_vector IS NOT NULL AND case_id <> ALL (:low)
)
SELECT a.case_id, a.usage_count, a.success_rate, a.last_used_at,
       b.case_id, b.usage_count, b.success_rate, b.last_used_at, 1 - (a.v <=> b.v) AS similarity
FROM active a
JOIN active b ON a.case_id < b.case_id AND 1 - (a.v <=> b.v) > :similarity
ORDER BY a.case_id, b.case_id
""").bindparams(bindparam("low", type_=_IDS), bindparam("similarity", type_=Float(53)))

_LOCK = text("""
SELECT case_id, usage_count, success_rate, last_used_at
FROM case_bank
WHERE case_id = ANY (:ids) AND status = 'active'
ORDER BY case_id
FOR NO KEY UPDATE
""").bindparams(bindparam("ids", type_=_IDS))

_KEEP = text("""
UPDATE case_bank c
SET usage_count = k.usage_count, success_rate = k.rate
FROM unnest(:ids, :usages, :rates) AS k(case_id, usage_count, rate)
WHERE c.case_id = k.case_id
""").bindparams(
    bindparam("ids", type_=_IDS), bindparam("usages", type_=ARRAY(Integer)), bindparam("rates", type_=ARRAY(REAL))
)

_ARCHIVE = text("""
WITH gone AS (
    UPDATE case_bank c
    SET status = 'archived'
    FROM unnest(:ids, :reasons) WITH ORDINALITY AS r(case_id, reason, position)
    WHERE c.case_id = r.case_id
    RETURNING c.*, r.reason, r.position
)
INSERT INTO case_bank_archive (case_id, query, response_text, category_path, query_vector, usage_count, success_rate,
                               archived_reason)
SELECT case_id, query, response_text, category_path, query_vector, usage_count, success_rate, reason
FROM gone
ORDER BY position
""").bindparams(bindparam("ids", type_=_IDS), bindparam("reasons", type_=_IDS))

_SUMMARY = text("""
SELECT count(*), count(*) FILTER (WHERE low), count(*) FILTER (WHERE inactive), count(*) FILTER (WHERE low OR inactive)
FROM (
    SELECT coalesce(success_rate < :threshold AND usage_count > :low AND usage_count < :high, false) AS low,
           coalesce(last_used_at < :since AND usage_count < :inactive_usage, false) AS inactive
    FROM case_bank
    WHERE status = 'active'
) c
""").bindparams(bindparam("threshold", type_=Float(53)), bindparam("since", type_=DateTime(timezone=True)))

_RESTORE = text("""
WITH locked AS (
    SELECT case_id FROM case_bank WHERE case_id = :case_id FOR NO KEY UPDATE
), newest AS (
    DELETE FROM case_bank_archive
    WHERE archive_id = (
        SELECT max(archive_id) FROM case_bank_archive WHERE case_id = (SELECT case_id FROM locked)
    )
    RETURNING case_id, usage_count, success_rate
)
UPDATE case_bank c
SET status = 'active', usage_count = coalesce(n.usage_count, 0), success_rate = n.success_rate
FROM newest n
WHERE c.case_id = n.case_id
""")


class Tuned(Lookups):
    """See `service.Implementation`."""

    async def analyze(self, case_id: str, limit: int) -> Performance | None:
        async with self._sessions() as session:
            rows = await session.execute(_ANALYZE, {"case_id": case_id, "limit": limit, "unknown": rules.UNKNOWN_ERROR})
            return _performances(rows).get(case_id)

    async def batch(self, min_logs: int) -> dict[str, Performance]:
        async with self._sessions.begin() as session:
            rows = await session.execute(
                _BATCH, {"min_logs": min_logs, "limit": rules.BATCH_LOGS, "unknown": rules.UNKNOWN_ERROR}
            )
            found = _performances(rows)
            await session.execute(_STORE_RATES, {"ids": list(found), "rates": [p.success_rate for p in found.values()]})
        return found

    async def consolidate(self, request: ConsolidationRequest, now: datetime, *, dry_run: bool) -> Plan:
        async with self._sessions.begin() as session:
            plan = await _plan(session, request, now)
            return plan if dry_run else await _apply(session, plan)

    async def summary(self, now: datetime) -> SummaryResponse:
        default = rules.request_for_summary()
        async with self._sessions() as session:
            counts = (await session.execute(_SUMMARY, _limits(default, now))).one()
        return SummaryResponse(
            total_active_cases=counts[0],
            low_performance_candidates=counts[1],
            inactive_candidates=counts[2],
            potential_savings=counts[3],
        )

    async def restore(self, case_id: str) -> bool:
        async with self._sessions.begin() as session:
            done: Any = await session.execute(_RESTORE, {"case_id": case_id})
            return bool(done.rowcount)


def _performances(rows: Iterable[Sequence[Any]]) -> dict[str, Performance]:
    """Rows are (case_id, error type or None for successes, logs, successes, sum of times, number of times)."""
    by_case: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        by_case.setdefault(row[0], []).append(row)
    return {
        case_id: rules.performance(
            total=sum(row[2] or 0 for row in found),
            successes=sum(row[3] or 0 for row in found),
            time_sum_ms=sum(row[4] or 0 for row in found),
            timed=sum(row[5] or 0 for row in found),
            errors={row[1]: row[2] for row in found if row[1] is not None},
        )
        for case_id, found in by_case.items()
    }


def _limits(request: ConsolidationRequest, now: datetime, *, slack: float = 0) -> dict[str, object]:
    low, high = rules.LOW_USAGE
    return {
        "threshold": request.threshold + slack,
        "low": low,
        "high": high,
        "since": rules.unused_since(now, request.inactive_days),
        "inactive_usage": rules.INACTIVE_USAGE,
    }


def _facts(case_id: str, usage_count: int | None, success_rate: float | None, last_used_at: datetime | None) -> Facts:
    return Facts(
        case_id=case_id,
        usage_count=usage_count or 0,
        success_rate=rules.stored(success_rate),
        last_used_at=last_used_at,
    )


async def _plan(session: AsyncSession, request: ConsolidationRequest, now: datetime) -> Plan:
    # A rate as stored may lie a hair below its two decimals: SQL lets such a case through, and is_low decides.
    rows = await session.execute(_CANDIDATES, _limits(request, now, slack=0.01))
    candidates = [_facts(*row) for row in rows]
    low = [c for c in candidates if rules.is_low(c, request.threshold)]
    since = rules.unused_since(now, request.inactive_days)
    pairs = (
        await session.execute(
            _PAIRS,
            {
                "dimensions": DIMENSIONS,
                "low": [c.case_id for c in low],
                "similarity": request.similarity_threshold,
            },
        )
    ).all()
    facts = {f.case_id: f for row in pairs for f in (_facts(*row[:4]), _facts(*row[4:8]))}
    merges = rules.merges(facts, ((row[0], row[4], row[8]) for row in pairs))
    return rules.plan(low, merges, [c for c in candidates if rules.is_inactive(c, since)])


async def _apply(session: AsyncSession, plan: Plan) -> Plan:
    """Archives and merges what is still there; another request may have been faster."""
    ids = {c.case_id for c in (*plan.low, *plan.inactive)}
    ids |= {c.case_id for m in plan.merges for c in (m.kept, m.archived)}
    if not ids:
        return plan
    rows = await session.execute(_LOCK, {"ids": sorted(ids)})
    locked = {row[0]: _facts(*row) for row in rows}
    pairs = [
        (min(m.kept.case_id, m.archived.case_id), max(m.kept.case_id, m.archived.case_id), m.similarity)
        for m in plan.merges
    ]
    done = Plan(
        low=[c for c in plan.low if c.case_id in locked],
        merges=list(rules.merges(locked, pairs)),
        inactive=[c for c in plan.inactive if c.case_id in locked],
    )
    kept = {m.kept.case_id: m.kept for m in done.merges}
    if kept:
        await session.execute(
            _KEEP,
            {
                "ids": list(kept),
                "usages": [c.usage_count for c in kept.values()],
                "rates": [c.success_rate for c in kept.values()],
            },
        )
    archived = [(c.case_id, "low_performance") for c in done.low]
    archived += [(m.archived.case_id, "duplicate") for m in done.merges]
    archived += [(c.case_id, "inactive") for c in done.inactive]
    if archived:
        await session.execute(_ARCHIVE, {"ids": [i for i, _ in archived], "reasons": [r for _, r in archived]})
    return done
