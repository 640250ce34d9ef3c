"""From times with and without an index to a verdict: pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from dbperf.plans.tree import walk
from dbperf.records.plans import Plan
from dbperf.records.proof import EffectVerdict, ProofVerdict, StatementProof, WriteProof
from dbperf.stats.paired import PairedRatio
from dbperf.units import format_ms, format_ratio, format_share

TOLERANCE = 0.05
"""Of a statement's time: smaller changes are none."""
SLOWER = 1.2
"""A statement that is surely slower by this factor counts against an index, whatever it does for others, ..."""
SLOWER_SHARE = 0.1
"""... unless it loses less than this share of what the others gain."""

RECALL_LEAST = 0.8
"""An approximate index that finds fewer of the rows answers another question."""


def effect_of(ratio: PairedRatio) -> EffectVerdict:
    """Whether a statement got faster or slower, beyond the tolerance and beyond chance."""
    if ratio.low is None or ratio.high is None:
        return "cant_tell"
    if ratio.high < 1 and ratio.ratio < 1 - TOLERANCE:
        return "better"
    if ratio.low > 1 and ratio.ratio > 1 + TOLERANCE:
        return "worse"
    return "unchanged" if ratio.low > 1 - 2 * TOLERANCE and ratio.high < 1 + 2 * TOLERANCE else "cant_tell"


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Weighted by calls, writes included, in ms; with a 95 % interval."""

    saved_ms: float
    low_ms: float
    high_ms: float
    total_ms: float
    """Of all that was measured, without the index."""


def judge(
    statements: Sequence[StatementProof],
    writes: Sequence[WriteProof],
    saving: Saving | None,
    must_use_index: Set[str] = frozenset(),
    *,
    planned: int | None = None,
) -> tuple[ProofVerdict, str]:
    """Keep, reject or can't tell, and why in one sentence.

    Args:
        statements: those whose plan it changes.
        writes: those that write to its table.
        saving: of all of them together.
        must_use_index: ids of statements whose service level asks for an index: what is the first to give such a
            statement one, and makes it faster, is kept whatever it costs others, and the reason says what.
        planned: how many statements were planned with and without it.
    """
    measured = [s for s in statements if s.ratio is not None]
    slower = [s for s in measured if s.verdict == "worse" and s.ratio_low is not None and s.ratio_low > SLOWER]
    if not any(s.uses_index for s in statements):
        return "reject", "no statement's plan uses it" + _of_words(planned) + _write_words(writes)
    if not measured or saving is None:
        why = next((s.error for s in statements if s.error), "nothing could be executed")
        return "cant_tell", f"the statements that use it were not measured: {why}"
    lossy = [s for s in measured if s.recall is not None and s.recall < RECALL_LEAST]
    if lossy:
        share = format_share(lossy[0].recall)
        return "reject", f"{lossy[0].id} finds only {share} of the rows that an exact search finds"
    for s in measured:
        if s.id in must_use_index and s.uses_index and s.verdict == "better" and not _any_index(s.plan_before):
            reason = f"{s.id} must use an index, and takes {_times(s)}; {_saving(saving)}{_write_words(writes)}"
            return "keep", reason
    return _weighed(measured, slower, writes, saving)


def _of_words(planned: int | None) -> str:
    return "" if planned is None else f" ({planned} were planned with and without it)"


def _any_index(plan: Plan | None) -> bool:
    return plan is not None and any(n.index_name for n in walk(plan.root))


def _weighed(
    measured: Sequence[StatementProof],
    slower: Sequence[StatementProof],
    writes: Sequence[WriteProof],
    saving: Saving,
) -> tuple[ProofVerdict, str]:
    gained = sum(s.calls * (s.before_ms - s.after_ms) for s in measured if s.before_ms and s.after_ms and s.ratio_high
                 and s.ratio_high < 1)  # fmt: skip
    for s in sorted(slower, key=lambda s: -(s.ratio or 0)):
        lost = s.calls * ((s.after_ms or 0) - (s.before_ms or 0))
        if lost > SLOWER_SHARE * gained:
            return "reject", f"{s.id} got slower: {_times(s)}" + _cost_words(s)
    if saving.high_ms <= 0:
        worst = max(measured, key=lambda s: s.ratio or 0)
        words = f"; {worst.id}: {_times(worst)}" if worst.verdict == "worse" else ""
        return "reject", f"it saves nothing: {_saving(saving)}{words}{_write_words(writes)}"
    better = [s for s in measured if s.verdict == "better"]
    if saving.low_ms > 0 and better:
        best = max(better, key=lambda s: s.calls * ((s.before_ms or 0) - (s.after_ms or 0)))
        return "keep", f"{best.id} takes {_times(best)}; {_saving(saving)}{_write_words(writes)}"
    if all(s.verdict == "unchanged" for s in measured):
        return "reject", f"its statements take as long as without it: {_saving(saving)}{_write_words(writes)}"
    return "cant_tell", f"the difference is within the noise: {_saving(saving)}{_write_words(writes)}"


def _times(s: StatementProof) -> str:
    interval = "" if s.ratio_low is None else f", {format_ratio(s.ratio_low)} to {format_ratio(s.ratio_high)}"
    recall = "" if s.recall is None else f", recall {format_share(s.recall)}"
    return (
        f"{format_ms(s.after_ms)} instead of {format_ms(s.before_ms)} (ratio {format_ratio(s.ratio)}{interval}){recall}"
    )


def _cost_words(s: StatementProof) -> str:
    if s.cost_before and s.cost_after is not None and s.cost_after < s.cost_before:
        return f", though its estimated cost fell from {s.cost_before:,.0f} to {s.cost_after:,.0f}"
    return ""


def _saving(saving: Saving) -> str:
    share = format_share(abs(saving.saved_ms) / saving.total_ms) if saving.total_ms else "–"
    verb, low, high = "saves", saving.low_ms, saving.high_ms
    if saving.saved_ms < 0:
        verb, low, high = "loses", -saving.high_ms, -saving.low_ms
    return (
        f"the workload {verb} {format_ms(abs(saving.saved_ms))} ({share}; 95 %: {format_ms(low)} to {format_ms(high)})"
    )


def _write_words(writes: Sequence[WriteProof]) -> str:
    slower = [w for w in writes if w.verdict == "worse"]
    if not slower:
        return ""
    worst = max(slower, key=lambda w: w.ratio or 0)
    return f"; {worst.id} writes {format_ratio(worst.ratio)} times as long"
