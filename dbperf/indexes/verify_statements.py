"""Which statements an index touches, and how long they take with and without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import msgspec

from dbperf.errors import StatementError
from dbperf.indexes.turns import Turns, take_turns
from dbperf.indexes.verdict import Saving, effect_of
from dbperf.indexes.workload import Workload
from dbperf.plans.tree import walk
from dbperf.postgres.cold_cache import ColdCache
from dbperf.postgres.index_trial import Case, Trial
from dbperf.postgres.trial_cases import cases_of, written_table
from dbperf.records.plans import Plan
from dbperf.records.proof import ColdProof, EffectVerdict, StatementProof, WriteProof
from dbperf.records.shadow import WorkloadStatement
from dbperf.stats.paired import PAIRS_LEAST, PairedRatio, paired_ratio, weighted_difference
from dbperf.units import format_ms

_COLD_PAIRS = PAIRS_LEAST
_COLD_S = 4.0
_COLD_STATEMENTS = 1
_WRITES_MOST = 8
"""Writing statements that are measured for each index, those with the most calls."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A statement of the workload that can be executed, or why it can't."""

    statement: WorkloadStatement
    cases: tuple[Case, ...] = ()
    error: str | None = None

    @property
    def values(self) -> Literal["none", "drawn"]:
        return "drawn" if any(c.parameters for c in self.cases) else "none"

    @property
    def writes(self) -> bool:
        return any(c.writes for c in self.cases)


@dataclass(frozen=True, kw_only=True)
class Measured:
    statements: list[StatementProof]
    writes: list[WriteProof]
    saving: Saving | None
    write_cost_ratio: float | None
    wrote: bool
    planned: int
    """Statements whose plans with and without the index were compared."""


async def prepare(conn: asyncpg.Connection[Any], workload: Workload) -> list[Prepared]:
    """Draws values for every statement once, so that all indexes are judged by the same executions."""
    found = []
    for s in workload.statements:
        try:
            found.append(Prepared(statement=s, cases=tuple(await cases_of(conn, s.text))))
        except StatementError as e:
            found.append(Prepared(statement=s, error=e.message))
        except asyncpg.PostgresError as e:
            found.append(Prepared(statement=s, error=e.message or str(e)))
    return found


async def measure(
    trial: Trial,
    prepared: Sequence[Prepared],
    table: tuple[str, str],
    *,
    cut_off: set[Case],
    seconds: float,
    say: Callable[[str], None],
    approximate: bool = False,
    partitioned: bool = False,
) -> Measured:
    """Measures the statements whose plan the index changes, and those that write to its table.

    Args:
        cut_off: see `take_turns`; one set for all indexes, emptied when one is kept.
        seconds: about how long for each statement; those that only write to the table share as much.
        approximate: the index may leave rows out: compare answers, too.
        partitioned: plans name the table's partitions instead of it.

    Raises:
        asyncpg.LockNotAvailableError: others use the table.
    """
    statements: list[StatementProof] = []
    writes: list[WriteProof] = []
    parts: list[tuple[float, list[float], list[float]]] = []
    write_parts: list[tuple[float, list[float], list[float]]] = []
    writing = [p for p in prepared if p.writes and _writes_to(p, table)]
    writing = sorted(writing, key=lambda p: -p.statement.calls)[:_WRITES_MOST]
    planned = 0
    for p, before, after in await _planned(trial, prepared, None if partitioned else table[1]):
        s = p.statement
        if isinstance(before, StatementError) or isinstance(after, StatementError):
            if p in writing:
                failed = before if isinstance(before, StatementError) else after
                assert isinstance(failed, StatementError)
                writes.append(_no_write(p, failed.message))
            continue
        planned += 1
        changed = any(_names(a) != _names(b) for a, b in zip(before, after, strict=True))
        if not changed and p not in writing:
            continue
        say(f"{s.id}: measuring")
        try:
            turns = await take_turns(trial, p.cases, seconds if changed else seconds / len(writing), cut_off)
        except StatementError as e:
            if changed:
                statements.append(_no_statement(p, e.message, uses=any(trial.uses(x) for x in after)))
            else:
                writes.append(_no_write(p, e.message))
            continue
        ratio = paired_ratio(turns.without, turns.within)
        weighted = (s.calls, turns.without, turns.within)
        parts.append(weighted)
        say(f"{s.id}: {format_ms(_median(turns.without))} → {format_ms(_median(turns.within))}")
        if p in writing:
            write_parts.append(weighted)
            writes.append(_write(p, turns, ratio))
        if changed:
            recall = await _recall(trial, p) if approximate else None
            statements.append(await _statement(trial, p, turns, ratio, before, after, recall))
    return Measured(
        statements=statements,
        writes=writes,
        saving=_saving(parts),
        write_cost_ratio=_ratio_of_sums(write_parts),
        wrote=bool(write_parts),
        planned=planned,
    )


Plans = list[Plan] | StatementError


async def _planned(
    trial: Trial, prepared: Sequence[Prepared], table: str | None
) -> list[tuple[Prepared, Plans, Plans]]:
    """The plans of each statement's cases without and with the index, for those that read or write its table.

    Args:
        table: None: all statements.
    """
    after = await _plans_of(trial, [p for p in prepared if p.cases], with_index=True)
    # An index changes no plan that does not have its table.
    chosen = [
        (p, plans)
        for p, plans in after
        if table is None
        or isinstance(plans, StatementError)
        or any(n.relation == table for plan in plans for n in walk(plan.root))
    ]
    before = await _plans_of(trial, [p for p, _ in chosen], with_index=False)
    return [(p, b, a) for (p, a), (_, b) in zip(chosen, before, strict=True)]


async def _plans_of(trial: Trial, prepared: Sequence[Prepared], *, with_index: bool) -> list[tuple[Prepared, Plans]]:
    found = iter(await trial.plans([c for p in prepared for c in p.cases], with_index=with_index))
    result: list[tuple[Prepared, Plans]] = []
    for p in prepared:
        plans = [next(found) for _ in p.cases]
        failed = next((x for x in plans if isinstance(x, StatementError)), None)
        result.append((p, failed or [x for x in plans if not isinstance(x, StatementError)]))
    return result


def _writes_to(p: Prepared, table: tuple[str, str]) -> bool:
    try:
        found = written_table(p.cases[0].text)
    except StatementError:
        return False
    return found is not None and found[1] == table[1] and found[0] in ("", table[0])


async def _statement(
    trial: Trial,
    p: Prepared,
    turns: Turns,
    ratio: PairedRatio,
    before: Sequence[Plan],
    after: Sequence[Plan],
    recall: float | None,
) -> StatementProof:
    # Of the cases that were measured, the one whose plan changed is the one to show.
    measured = [p.cases.index(c) for c in turns.cases]
    at = next((i for i in measured if _names(before[i]) != _names(after[i])), measured[0])
    plan_before = await _analyzed(trial, p.cases[at], with_index=False)
    plan_after = await _analyzed(trial, p.cases[at], with_index=True)
    uses_index = any(trial.uses(x) for x in after) or [_names(b) for b in before] != [_names(a) for a in after]
    return StatementProof(
        id=p.statement.id,
        text=p.statement.text,
        calls=p.statement.calls,
        values=p.values,
        pairs=ratio.pairs,
        before_ms=_median(turns.without),
        after_ms=_median(turns.within),
        ratio=ratio.ratio,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        cost_before=before[at].root.total_cost,
        cost_after=after[at].root.total_cost,
        buffers_before=_buffers(plan_before),
        buffers_after=_buffers(plan_after),
        uses_index=uses_index,
        recall=recall,
        plan_before=plan_before,
        plan_after=plan_after,
        verdict=effect_of(ratio),
    )


async def measure_cold(
    trial: Trial, prepared: Sequence[Prepared], statements: Sequence[StatementProof], cache: ColdCache
) -> list[StatementProof]:
    """The statements, with cold times of those that gain most from an index: emptying the caches takes its time."""

    def gain(s: StatementProof) -> float:
        return s.calls * ((s.before_ms or 0) - (s.after_ms or 0)) if s.uses_index else 0.0

    cases = {p.statement.id: p.cases for p in prepared if not p.writes}
    chosen = {s.id for s in sorted(statements, key=gain, reverse=True)[:_COLD_STATEMENTS] if gain(s) > 0}
    return [
        msgspec.structs.replace(s, cold=await _cold(trial, cases[s.id][0], cache))
        if s.id in chosen and s.id in cases
        else s
        for s in statements
    ]


async def _cold(trial: Trial, case: Case, cache: ColdCache) -> ColdProof | None:
    """Pairs of cold executions; None where one can't be executed or the files are out of reach."""
    times: dict[bool, list[float]] = {False: [], True: []}
    deadline = time.monotonic() + _COLD_S
    for n in range(_COLD_PAIRS):
        for with_index in (n % 2 == 1, n % 2 == 0):
            try:
                first = not times[False] and not times[True]
                times[with_index].append(await trial.cold_ms(case, cache, with_index=with_index, first=first))
            except (StatementError, OSError):
                return None
        if time.monotonic() > deadline:
            break
    found = paired_ratio(times[False], times[True])
    return ColdProof(
        pairs=found.pairs,
        before_ms=_median(times[False]),
        after_ms=_median(times[True]),
        ratio=found.ratio,
        ratio_low=found.low,
        ratio_high=found.high,
    )


async def _recall(trial: Trial, p: Prepared) -> float | None:
    """The share of the exact answers' rows that the answers with the index hold, over all cases."""
    found = expected = 0
    for case in p.cases:
        try:
            exact = set(await trial.rows(case, with_index=False))
            given = set(await trial.rows(case, with_index=True))
        except StatementError:
            continue
        found, expected = found + len(exact & given), expected + len(exact)
    return found / expected if expected else None


def _names(plan: Plan) -> list[tuple[str, str | None, str | None]]:
    return [(n.node_type, n.relation, n.index_name) for n in walk(plan.root)]


async def _analyzed(trial: Trial, case: Case, *, with_index: bool) -> Plan | None:
    """None where it runs into the time limit."""
    try:
        return await trial.analyzed(case, with_index=with_index)
    except StatementError:
        return None


def _buffers(plan: Plan | None) -> int | None:
    b = None if plan is None else plan.root.buffers
    return None if b is None else b.shared_hit + b.shared_read


def _no_statement(p: Prepared, error: str, *, uses: bool) -> StatementProof:
    return StatementProof(
        id=p.statement.id, text=p.statement.text, calls=p.statement.calls, values=p.values, pairs=0, before_ms=None,
        after_ms=None, ratio=None, ratio_low=None, ratio_high=None, cost_before=None, cost_after=None,
        buffers_before=None, buffers_after=None, uses_index=uses, verdict="cant_tell", error=error,
    )  # fmt: skip


def _write(p: Prepared, turns: Turns, ratio: PairedRatio) -> WriteProof:
    effect: EffectVerdict = effect_of(ratio)
    return WriteProof(
        id=p.statement.id, text=p.statement.text, calls=p.statement.calls, pairs=ratio.pairs,
        before_ms=_median(turns.without), after_ms=_median(turns.within), ratio=ratio.ratio, ratio_low=ratio.low,
        ratio_high=ratio.high, verdict=effect,
    )  # fmt: skip


def _no_write(p: Prepared, error: str) -> WriteProof:
    return WriteProof(
        id=p.statement.id, text=p.statement.text, calls=p.statement.calls, pairs=0, before_ms=None, after_ms=None,
        ratio=None, ratio_low=None, ratio_high=None, verdict="cant_tell", error=error,
    )  # fmt: skip


def _saving(parts: Sequence[tuple[float, list[float], list[float]]]) -> Saving | None:
    if not parts:
        return None
    saved, low, high = weighted_difference(parts)
    return Saving(saved_ms=saved, low_ms=low, high_ms=high, total_ms=sum(w * _median(b) for w, b, _ in parts))


def _ratio_of_sums(parts: Sequence[tuple[float, list[float], list[float]]]) -> float | None:
    before = sum(w * _median(b) for w, b, _ in parts)
    return sum(w * _median(a) for w, _, a in parts) / before if before else None


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
