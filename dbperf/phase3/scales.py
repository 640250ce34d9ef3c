"""How much data the reference target gets."""

from __future__ import annotations

from dbperf.errors import UsageError, did_you_mean
from dbperf.records.base import Record


class Scale(Record, frozen=True, kw_only=True):
    """Sizes of one scale."""

    name: str
    cases: int
    logs: int
    active: int
    """Active cases. Few, so that the naive similarity loop (active² / 2 pairs) ends."""
    busy: int
    """Active cases with at least ten logs: what one batch analyses."""
    archive: int
    """Rows of case_bank_archive: cases that can be restored."""
    keep_days: int
    """Untouched data so old is still used: "inactive" drifts with now(), but 10 million rows take minutes."""


SCALES: dict[str, Scale] = {
    s.name: s
    for s in (
        Scale(name="smoke", cases=500, logs=10_000, active=60, busy=20, archive=10, keep_days=1),
        Scale(name="spec", cases=10_000, logs=100_000, active=400, busy=100, archive=200, keep_days=1),
        Scale(name="large", cases=100_000, logs=10_000_000, active=1_000, busy=300, archive=2_000, keep_days=30),
    )
}


def scale_named(name: str) -> Scale:
    """The scale of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return SCALES[name]
    except KeyError:
        raise UsageError(f"there is no scale {name!r}", hint=did_you_mean(name, SCALES)) from None


def case_id(index: int) -> str:
    """The id of the case with that index (0-based).

    >>> case_id(122)
    'case-000123'
    """
    return f"case-{index + 1:06d}"
