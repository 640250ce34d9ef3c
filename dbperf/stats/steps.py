"""The steps of a figure over runs, in the figure's own words: which way, by how much, between which revisions."""

from __future__ import annotations

from collections.abc import Sequence

from dbperf.records.history import SeriesStep
from dbperf.stats.edivisive import find_steps

LEAST_CHANGE = 0.05
_LEAST_SHARE = 0.005
"""Of shares (errors), as a difference: half a point."""


def steps_of(
    values: Sequence[float],
    revisions: Sequence[str | None],
    *,
    lower_is_better: bool,
    share: bool = False,
    least_change: float = LEAST_CHANGE,
) -> list[SeriesStep]:
    """The steps, first to last, without their commits.

    Args:
        values: of comparable runs, oldest first.
        revisions: git's, of the same runs.
        lower_is_better: a step up is for the worse.
        share: the values are shares, whose changes count as differences.
        least_change: smaller steps are left out; of shares, half a point is the least.

    >>> [(s.at, s.verdict, s.revision_before, s.revision_after) for s in steps_of(
    ...     [10, 11, 10, 10, 11, 10, 20, 21, 20, 20, 21, 20], list("aaaaaabbbbbb"), lower_is_better=True)]
    [(6, 'worse', 'a', 'b')]
    """
    on_ratio = all(v > 0 for v in values) and not share
    floor = least_change if on_ratio else _LEAST_SHARE if share else 0.0
    return [
        SeriesStep(
            at=step.at, earliest=step.earliest, latest=step.latest, before=step.before, after=step.after,
            ratio=step.after / step.before if step.before else None, p_value=step.p_value,
            verdict="worse" if (step.after > step.before) == lower_is_better else "better",
            revision_before=revisions[step.earliest - 1], revision_after=revisions[step.latest],
        )
        for step in find_steps(values, scale="ratio" if on_ratio else "difference", least_change=floor)
    ]  # fmt: skip
