"""How large a B-tree will be, from column statistics.

The model builds the tree as nbtsort.c does: tuples are aligned, leaf pages filled to the fillfactor, duplicates merged
into posting lists of up to a tenth of a page (nbtdedup.c, since PostgreSQL 13), internal pages filled to 70 %. Sources:
src/backend/access/nbtree/{nbtsort,nbtdedup}.c, README; src/include/access/{itup,nbtree}.h.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbperf.indexes.redact import array_elements
from dbperf.records.shadow import Column, ColumnStatistics

PAGE_BYTES = 8192
_LINE_POINTER = 4
_TUPLE_HEADER = 8
_NULLS_HEADER = 16
"""With a null bitmap: 8 + 4, aligned."""
_TID = 6
_FREE_FIRST = PAGE_BYTES - 24 - 16 - 2 * _LINE_POINTER
"""Free space of a new leaf: page header, special space, the high key's line pointer and the next one off."""
_POSTING_MAX = (PAGE_BYTES // 10) // 8 * 8 - _LINE_POINTER
_SAMPLES = 64
_SAMPLE = np.arange(_SAMPLES)
_STEPS = (10007, 10009, 10037, 10039, 10061, 10067)
"""Primes, so that columns run through their samples out of step."""

# typlen and typalign of types with a fixed width (pg_type.dat).
_FIXED = {
    "boolean": (1, 1), '"char"': (1, 1), "smallint": (2, 2), "integer": (4, 4), "bigint": (8, 8), "oid": (4, 4),
    "real": (4, 4), "double precision": (8, 8), "date": (4, 4), "time without time zone": (8, 8),
    "time with time zone": (12, 8), "timestamp without time zone": (8, 8), "timestamp with time zone": (8, 8),
    "interval": (16, 8), "uuid": (16, 1), "money": (8, 8), "macaddr": (6, 4), "point": (16, 8), "pg_lsn": (8, 8),
}  # fmt: skip
# Operator classes without btequalimage: equal values may look different, so that duplicates are kept apart.
_NO_DEDUPLICATION = ("numeric", "real", "double precision", "jsonb", "interval", "tsvector")
# PostgreSQL 15.20 builds indexes on char(n) without deduplication, 18.6 with it, from the same catalog entries: what is
# estimated is the larger, so that a budget is kept on both.
_MAYBE_DEDUPLICATION = ("character", "bpchar")


@dataclass(frozen=True)
class KeyStatistics:
    """What the model needs of one key or INCLUDE column."""

    type: str
    null_frac: float
    n_distinct: float
    """Distinct values among all rows, as a count."""
    common: tuple[float, ...]
    """Frequencies of the most common values (0..1)."""
    widths: tuple[float, ...]
    """A sample of stored widths in bytes."""
    align: int
    deduplicates: bool


def key_statistics(column: Column, rows: float, s: ColumnStatistics | None = None) -> KeyStatistics:
    """From a column's statistics; without any, distinct values are guessed to be a tenth of the rows."""
    if s is None and column.statistics:
        s = column.statistics[0]
    base = column.type.split("(")[0].strip()
    fixed = _FIXED.get(column.type) or _FIXED.get(base) or _fixed_with_precision(column.type)
    if fixed is None and s is not None and s.avg_width_bytes == 4 and "." in base:
        fixed = (4, 4)  # an enum
    widths = (float(fixed[0]),) if fixed else _widths(column.type, s)
    deduplicates = not (
        base.startswith(_NO_DEDUPLICATION) or base in _MAYBE_DEDUPLICATION or base.endswith("[]") or "range" in base
    )
    if s is None:
        distinct, nulls = max(1.0, rows / 10), 0.0
    else:
        distinct = s.n_distinct if s.n_distinct > 0 else -s.n_distinct * rows
        nulls = s.null_frac
    return KeyStatistics(
        type=column.type,
        null_frac=nulls,
        n_distinct=max(1.0, distinct),
        common=tuple((s.most_common_freqs if s else None) or ()),
        widths=widths,
        align=fixed[1] if fixed else 1,
        deduplicates=deduplicates,
    )


def _fixed_with_precision(name: str) -> tuple[int, int] | None:
    """``timestamp(3) without time zone`` is as wide as without the precision."""
    head, _, rest = name.partition("(")
    return _FIXED.get(f"{head}{rest.partition(')')[2]}") if rest else None


def _widths(type_name: str, s: ColumnStatistics | None) -> tuple[float, ...]:
    """Stored widths with their header: of the sampled values of text and numbers, else around the average."""
    if s is None:
        return (16.0,)
    stored = _stored_numeric if type_name.startswith("numeric") else _stored_text
    if type_name.startswith(("text", "character", "citext", "numeric")) and "[]" not in type_name:
        common = array_elements(s.most_common_vals) if s.most_common_vals else []
        found: list[int] = []
        for value, frequency in zip(common, s.most_common_freqs or (), strict=False):
            found += [stored(value)] * round(frequency * _SAMPLES)
        if s.histogram_bounds:
            bounds = array_elements(s.histogram_bounds)
            room = max(1, _SAMPLES - len(found))
            found += [stored(bounds[i * len(bounds) // room]) for i in range(room)]
        if found:
            # The sample is small: its shape is taken, the average is ANALYZE's own.
            shift = s.avg_width_bytes - sum(found) / len(found)
            shift = 0 if abs(shift) < 0.6 or len(set(found)) == 1 else shift
            return tuple(max(1.0, x + shift) for x in found)
    return tuple(float(max(1, s.avg_width_bytes + d)) for d in (-2, -1, 0, 0, 1, 2))


def _stored_text(value: str) -> int:
    length = len(value.encode())
    return length + 1 if length < 127 else length + 4


def _stored_numeric(value: str) -> int:
    """Short varlena and numeric headers, then two bytes for every four decimal digits (numeric.c)."""
    whole, _, fraction = value.lstrip("-").partition(".")
    groups = -(-len(whole.lstrip("0")) // 4) + -(-len(fraction.rstrip("0")) // 4)
    return 3 + 2 * groups


def btree_pages(
    keys: Sequence[KeyStatistics],
    rows: float,
    *,
    include: Sequence[KeyStatistics] = (),
    fillfactor: int = 90,
    unique: bool = False,
) -> int:
    """Blocks of a freshly built B-tree over `rows` entries, the metapage included."""
    if rows < 1:
        return 2
    base = float(_tuple_bytes([*keys, *include]).mean())
    capacity_free = PAGE_BYTES * (100 - fillfactor) // 100
    if include or unique or not all(k.deduplicates for k in keys):
        leaves = rows / _per_page(base, 0, capacity_free)
    else:
        leaves = _deduplicated_leaves(keys, rows, base, capacity_free)
    leaves = max(1, math.ceil(leaves))
    pivot = _pivot_bytes(keys, rows)
    pages, level = leaves, leaves
    fanout = max(2.0, (_FREE_FIRST - PAGE_BYTES * 0.3) / (pivot + _LINE_POINTER))
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
    return pages + 1


def _tuple_bytes(columns: Sequence[KeyStatistics]) -> npt.NDArray[np.float64]:
    """Sizes of index tuples, aligned, over a sample of width combinations; columns are taken as independent.

    A NULL takes no room of its own, and the tuple a bitmap.
    """
    offset, nulls = np.zeros(_SAMPLES), np.zeros(_SAMPLES, dtype=bool)
    for n, c in enumerate(columns):
        turn = _SAMPLE * _STEPS[n % len(_STEPS)]
        widths = np.asarray(c.widths)[(turn + 5 * n) % len(c.widths)]
        align = np.where(widths > 127, 4, 1) if c.align == 1 else c.align
        end = np.ceil(offset / align) * align + widths
        if missing := round(c.null_frac * _SAMPLES):
            null = (turn + n) % _SAMPLES < missing
            nulls |= null
            end = np.where(null, offset, end)
        offset = end
    return np.ceil(np.round(np.where(nulls, _NULLS_HEADER, _TUPLE_HEADER) + offset, 6) / 8) * 8


def _aligned(size: float) -> float:
    return math.ceil(round(size, 6) / 8) * 8


def _per_page(item: float, truncated: float, free_target: int) -> float:
    """Items of one size on a leaf, as _bt_buildadd fills it: the last that fits opens the next page.

    Args:
        item: bytes without line pointer.
        truncated: bytes of a posting list, which the high key would not keep.
    """
    room = _FREE_FIRST
    if item < PAGE_BYTES / 64:
        return (room + _LINE_POINTER - free_target) / (item + _LINE_POINTER)
    count = 0
    free = float(room)
    while free >= item + 8 and (count == 0 or free + truncated >= free_target):
        count += 1
        free -= item + _LINE_POINTER
    return max(1, count - 1)


def _deduplicated_leaves(keys: Sequence[KeyStatistics], rows: float, base: float, free_target: int) -> float:
    """Leaves with posting lists: each group of equal keys takes full lists and one for the rest."""
    base = _aligned(base - 0.5) if base % 8 else base
    longest = int((_POSTING_MAX // 8 * 8 - base) // _TID)
    if longest < 2:
        return rows / _per_page(base, 0, free_target)
    full = _aligned(base + longest * _TID)
    bytes_used, full_lists = 0.0, 0.0
    for frequency, count in _joint(keys, rows):
        expected = rows * frequency
        lists, rest = _group(expected, base, longest)
        full_lists += count * lists
        bytes_used += count * rest
    small = bytes_used / (_FREE_FIRST + _LINE_POINTER - free_target)
    return small + full_lists / _per_page(full, full - base, free_target)


def _group(expected: float, base: float, longest: int) -> tuple[float, float]:
    """Full posting lists, and bytes of what is not in one, of a group of about `expected` equal keys (Poisson)."""
    if expected < 1e-9:
        return 0.0, expected * (base + _LINE_POINTER)
    if expected > 60:
        lists = math.floor(expected / longest)
        # The rest is anything from one entry to nearly a full list.
        rest = expected - lists * longest
        return lists, _posting(max(1.0, rest), base)
    probability, total = math.exp(-expected), 0.0
    for k in range(1, int(expected + 8 * math.sqrt(expected)) + 4):
        probability *= expected / k
        total += probability * _posting(k, base)
    return 0.0, total


def _posting(entries: float, base: float) -> float:
    if entries < 2:
        return base + _LINE_POINTER
    return _aligned(base + entries * _TID) + _LINE_POINTER


def _joint(keys: Sequence[KeyStatistics], rows: float) -> list[tuple[float, float]]:
    """Groups of equal keys as (frequency of one, number of such), columns taken as independent."""
    classes = [(1.0, 1.0)]
    for key in keys:
        classes = [(f * g, n * m) for (f, n), (g, m) in itertools.product(classes, _classes(key, rows))]
        classes = _merged(classes)
    return classes


def _classes(key: KeyStatistics, rows: float) -> list[tuple[float, float]]:
    rest = max(0.0, 1 - key.null_frac - sum(key.common))
    found = [(f, 1.0) for f in key.common]
    if key.null_frac > 0:
        found.append((key.null_frac, 1.0))
    if rest > 1e-9:
        others = max(1.0, key.n_distinct - len(key.common))
        per_value = _drawn_from(others / (rest * rows)) if rest * rows > others else 1e-9
        found.append((per_value / rows, rest * rows / per_value))
    return _merged(found)


def _drawn_from(share: float) -> float:
    """Expected rows per possible value, where `share` distinct values per row were seen.

    Solves (1 - exp(-x)) / x = share: values that happen to have no row are possible too, and in a combination with
    other columns most have none.
    """
    if share >= 0.9999:
        return 1e-4
    low, high = 1e-4, 1 / share
    for _ in range(60):
        x = (low + high) / 2
        low, high = (x, high) if -math.expm1(-x) / x > share else (low, x)
    return (low + high) / 2


def _merged(classes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Classes whose frequencies are within a factor of the square root of two are put together."""
    merged: dict[int, tuple[float, float]] = {}
    for frequency, count in sorted(classes):
        if frequency <= 0 or count <= 0:
            continue
        bin_ = math.floor(2 * math.log2(frequency))
        mass, number = merged.get(bin_, (0.0, 0.0))
        merged[bin_] = (mass + frequency * count, number + count)
    return [(mass / number, number) for mass, number in merged.values()]


def _pivot_bytes(keys: Sequence[KeyStatistics], rows: float) -> float:
    """A downlink's tuple: suffix truncation keeps columns until neighbours differ, else the heap TID is added."""
    distinct = 1.0
    for n, key in enumerate(keys, 1):
        distinct *= key.n_distinct
        if distinct >= rows / 10:
            return float(_tuple_bytes(keys[:n]).mean())
    return float(_tuple_bytes(keys).mean()) + 8
