"""The Phase 3 API as it is usually written first: objects all the way, and the database as a place to keep them.

Every habit here is one that dbperf should notice: one query per case, one commit per row, whole rows with their
vectors loaded, cosine similarity pair by pair in Python, in the event loop. The answers are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from dbperf.phase3 import rules
from dbperf.phase3.embedding import FloatArray, cosine_distance
from dbperf.phase3.lookups import Lookups
from dbperf.phase3.models import CaseBank, CaseBankArchive, ExecutionLog
from dbperf.phase3.rules import Facts, Merge, Plan
from dbperf.phase3.schemas import ConsolidationRequest, Performance, SummaryResponse


class Naive(Lookups):
    """See `service.Implementation`."""

    async def analyze(self, case_id: str, limit: int) -> Performance | None:
        async with self._sessions() as session:
            if await session.get(CaseBank, case_id) is None:
                return None
            return await _performance(session, case_id, limit)

    async def batch(self, min_logs: int) -> dict[str, Performance]:
        found = {}
        async with self._sessions() as session:
            cases = await session.scalars(
                select(CaseBank)
                .join(ExecutionLog, ExecutionLog.case_id == CaseBank.case_id)
                .where(CaseBank.status == "active")
                .group_by(CaseBank.case_id)
                .having(func.count() >= min_logs)
                .order_by(CaseBank.case_id)
            )
            for case in cases.all():
                performance = await _performance(session, case.case_id, rules.BATCH_LOGS)
                case.success_rate = performance.success_rate
                await session.commit()
                found[case.case_id] = performance
        return found

    async def consolidate(self, request: ConsolidationRequest, now: datetime, *, dry_run: bool) -> Plan:
        async with self._sessions() as session:
            cases = await _active(session)
            low = [_facts(c) for c in cases if rules.is_low(_facts(c), request.threshold)]
            gone = {c.case_id for c in low}
            rest = [c for c in cases if c.case_id not in gone]
            facts = {c.case_id: _facts(c) for c in rest}
            merges = list(rules.merges(facts, _similar(rest, request.similarity_threshold)))
            since = rules.unused_since(now, request.inactive_days)
            plan = rules.plan(low, merges, [f for f in facts.values() if rules.is_inactive(f, since)])
            await session.commit()
            if dry_run:
                return plan
            return Plan(
                low=[c for c in plan.low if await _archive(session, c.case_id, "low_performance")],
                merges=[m for m in plan.merges if await _merge(session, m)],
                inactive=[c for c in plan.inactive if await _archive(session, c.case_id, "inactive")],
            )

    async def summary(self, now: datetime) -> SummaryResponse:
        default = rules.request_for_summary()
        since = rules.unused_since(now, default.inactive_days)
        async with self._sessions() as session:
            cases = [_facts(c) for c in await _active(session)]
        low = {c.case_id for c in cases if rules.is_low(c, default.threshold)}
        inactive = {c.case_id for c in cases if rules.is_inactive(c, since)}
        return SummaryResponse(
            total_active_cases=len(cases),
            low_performance_candidates=len(low),
            inactive_candidates=len(inactive),
            potential_savings=len(low | inactive),
        )

    async def restore(self, case_id: str) -> bool:
        async with self._sessions() as session:
            case = await session.get(CaseBank, case_id, with_for_update=True)
            archived = (
                await session.scalars(
                    select(CaseBankArchive)
                    .where(CaseBankArchive.case_id == case_id)
                    .order_by(CaseBankArchive.archive_id.desc())
                )
            ).first()
            if case is None or archived is None:
                return False
            case.status = "active"
            case.usage_count = archived.usage_count or 0
            case.success_rate = archived.success_rate
            await session.delete(archived)
            await session.commit()
            return True


async def _performance(session: AsyncSession, case_id: str, limit: int) -> Performance:
    logs = await session.scalars(
        select(ExecutionLog)
        .where(ExecutionLog.case_id == case_id)
        .order_by(ExecutionLog.created_at.desc(), ExecutionLog.log_id.desc())
        .limit(limit)
    )
    newest = logs.all()
    times_ms = [log.execution_time_ms for log in newest if log.execution_time_ms is not None]
    return rules.performance(
        total=len(newest),
        successes=sum(log.success for log in newest),
        time_sum_ms=sum(times_ms),
        timed=len(times_ms),
        errors=Counter(log.error_type or rules.UNKNOWN_ERROR for log in newest if not log.success),
    )


async def _active(session: AsyncSession) -> Sequence[CaseBank]:
    return (await session.scalars(select(CaseBank).where(CaseBank.status == "active").order_by(CaseBank.case_id))).all()


def _facts(case: CaseBank) -> Facts:
    return Facts(
        case_id=case.case_id,
        usage_count=case.usage_count or 0,
        success_rate=rules.stored(case.success_rate),
        last_used_at=case.last_used_at,
    )


def _vector(case: CaseBank) -> FloatArray:
    return np.asarray(case.query_vector, dtype=np.float32)


def _similarity(a: FloatArray, b: FloatArray) -> float:
    return 1.0 - cosine_distance(a.astype(np.float64), b.astype(np.float64))


def _similar(cases: Sequence[CaseBank], threshold: float) -> Iterator[tuple[str, str, float]]:
    vectors = [(c.case_id, _vector(c)) for c in cases if c.query_vector is not None]
    for i, (a, va) in enumerate(vectors):
        for b, vb in vectors[i + 1 :]:
            similarity = _similarity(va, vb)
            if similarity > threshold:
                yield a, b, similarity


async def _archive(session: AsyncSession, case_id: str, reason: str) -> bool:
    """Archives one case and commits; False: another request was faster."""
    case = await session.get(CaseBank, case_id, with_for_update=True, populate_existing=True)
    if case is None or case.status != "active":
        await session.rollback()
        return False
    session.add(_archive_row(case, reason))
    case.status = "archived"
    await session.commit()
    return True


async def _merge(session: AsyncSession, merge: Merge) -> bool:
    """Merges two cases and commits; False: another request was faster."""
    wanted = [merge.kept.case_id, merge.archived.case_id]
    cases = await session.scalars(
        select(CaseBank)
        .where(CaseBank.case_id.in_(wanted))
        .order_by(CaseBank.case_id)  # always locked in the same order, so that two merges can't deadlock
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    by_id = {c.case_id: c for c in cases if c.status == "active"}
    if len(by_id) < len(wanted):
        await session.rollback()
        return False
    kept, archived = by_id[merge.kept.case_id], by_id[merge.archived.case_id]
    kept.usage_count = merge.kept.usage_count
    kept.success_rate = merge.kept.success_rate
    session.add(_archive_row(archived, "duplicate"))
    archived.status = "archived"
    await session.commit()
    return True


def _archive_row(case: CaseBank, reason: str) -> CaseBankArchive:
    return CaseBankArchive(
        case_id=case.case_id,
        query=case.query,
        response_text=case.response_text,
        category_path=case.category_path,
        query_vector=case.query_vector,
        usage_count=case.usage_count,
        success_rate=case.success_rate,
        archived_reason=reason,
    )
