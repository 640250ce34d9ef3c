"""A statement with and without an index, in turns, until the interval is clear or the time is up."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from dbperf.errors import StatementError
from dbperf.indexes.verdict import effect_of
from dbperf.postgres.index_trial import Case, Trial
from dbperf.stats.paired import PAIRS_LEAST, PairedRatio, paired_ratio
from dbperf.units import format_seconds

_PAIRS_FIRST = 9
_PAIRS_MOST = 41
_PAIRS_STEP = 4


@dataclass(kw_only=True)
class Turns:
    """Times in ms, planning and execution, the mean over the cases, pair by pair."""

    cases: list[Case]
    """Those that were measured."""
    without: list[float] = field(default_factory=list)
    within: list[float] = field(default_factory=list)


async def take_turns(trial: Trial, cases: Sequence[Case], seconds: float, cut_off: set[Case]) -> Turns:
    """Pairs of turns, the order changing from pair to pair.

    Args:
        seconds: about how long; a few pairs are always taken.
        cut_off: cases that are known to run into the time limit without the index: they count as long as that, and are
            not waited for again. Such cases are entered.

    Raises:
        StatementError: the server refuses a statement, or each case runs into the limit on both sides: nothing is told
            by that. Drawn values may be far from those that the application uses.
        asyncpg.LockNotAvailableError: others use the table.
    """
    turns = Turns(cases=list(cases))
    deadline = time.monotonic() + seconds
    while True:
        first_with = len(turns.without) % 2 == 1
        found: dict[bool, dict[Case, float]] = {}
        for with_index in (first_with, not first_with):
            known = frozenset() if with_index else cut_off
            found[with_index] = {c: await _time_ms(trial, c, known, with_index=with_index) for c in turns.cases}
        cut_off.update(c for c, ms in found[False].items() if ms >= trial.limit_ms)
        if not turns.without:
            turns.cases = [c for c in cases if min(found[True][c], found[False][c]) < trial.limit_ms]
            if not turns.cases:
                limit = format_seconds(trial.limit_ms / 1000)
                raise StatementError(f"with the values drawn for it, it takes longer than {limit} with and without")
        turns.without.append(_mean(found[False], turns.cases))
        turns.within.append(_mean(found[True], turns.cases))
        n = len(turns.without)
        late = time.monotonic() > deadline
        if n >= _PAIRS_MOST or (late and n >= PAIRS_LEAST):
            return turns
        if n >= _PAIRS_FIRST and (n - _PAIRS_FIRST) % _PAIRS_STEP == 0:
            ratio = paired_ratio(turns.without, turns.within)
            if effect_of(ratio) in ("better", "worse") and not _straddles(ratio):
                return turns


async def _time_ms(trial: Trial, case: Case, cut_off: Set[Case], *, with_index: bool) -> float:
    return trial.limit_ms if case in cut_off else await trial.time_ms(case, with_index=with_index)


def _mean(times: dict[Case, float], cases: Sequence[Case]) -> float:
    return sum(times[c] for c in cases) / len(cases)


def _straddles(ratio: PairedRatio) -> bool:
    """Close enough to no change that more pairs are worth their time."""
    return ratio.low is None or ratio.high is None or (ratio.low < 1.1 and ratio.high > 0.9)
