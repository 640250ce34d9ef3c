"""Sizes of indexes of every method, and how many rows they hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dbperf.indexes.btree_size import PAGE_BYTES, KeyStatistics, btree_pages, key_statistics
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.shadow import Column, ColumnStatistics, Relation

_USABLE = PAGE_BYTES - 24 - 16


@dataclass(frozen=True)
class Size:
    pages: int
    tuples: float

    @property
    def size_bytes(self) -> int:
        return self.pages * PAGE_BYTES


def estimate(
    relation: Relation,
    spec: IndexSpec,
    *,
    share: float = 1.0,
    expressions: Mapping[str, ColumnStatistics | None] | None = None,
    known: dict[tuple[str, str, str], KeyStatistics] | None = None,
) -> Size:
    """Size of an index when it is built.

    Args:
        share: of the table's rows that the index's predicate keeps (0..1).
        expressions: statistics of expression keys by their text, where there are some.
        known: what was found out about columns (schema, table, name), where many indexes are estimated; it is added to.
    """
    rows = max(0.0, relation.tuples) * share
    columns = {c.name: c for c in relation.columns}

    def column_of(name: str) -> KeyStatistics:
        of = (relation.schema, relation.name, name)
        found = None if known is None else known.get(of)
        if found is None:
            found = key_statistics(columns[name], relation.tuples)
            if known is not None:
                known[of] = found
        return found

    def key_of(k: IndexKey) -> KeyStatistics:
        if k.column is not None and k.column in columns:
            return column_of(k.column)
        s = (expressions or {}).get(k.expression or "")
        return key_statistics(Column(name="", number=0, type="text"), relation.tuples, s)

    if spec.method == "btree":
        keys = [key_of(k) for k in spec.keys]
        include = [column_of(c) for c in spec.include if c in columns]
        keys = [_within(k, share, relation.tuples) for k in keys]
        return Size(btree_pages(keys, rows, include=include), rows)
    column = columns.get(spec.keys[0].column or "")
    return Size(max(2, _other(spec, relation, column, rows)), rows)


def _within(key: KeyStatistics, share: float, rows: float) -> KeyStatistics:
    """Fewer rows have fewer distinct values: those with at least one row in a draw of `share` (Yao 1977)."""
    if share >= 1:
        return key
    per_value = max(1.0, rows / key.n_distinct)
    left = key.n_distinct * -math.expm1(per_value * math.log1p(-min(share, 1 - 1e-12)))
    return replace(key, n_distinct=max(1.0, left))


def _other(spec: IndexSpec, relation: Relation, column: Column | None, rows: float) -> int:
    options = dict(spec.options)
    s = column.statistics[0] if column and column.statistics else None
    width = s.avg_width_bytes if s else 32
    if column and (dimensions := re.search(r"vector\((\d+)\)", column.type)):
        width = 4 * int(dimensions[1]) + 8  # pg_stats has the width of a TOAST pointer
    if spec.method == "brin":
        ranges = math.ceil(relation.pages / int(options.get("pages_per_range", "128")))
        return 3 + math.ceil(ranges * (16 + 2 * width * len(spec.keys)) / _USABLE)
    if spec.method == "gin":
        return _gin(spec, s, rows)
    if spec.method == "hnsw":
        return _hnsw(int(options.get("m", "16")), width, rows)
    if spec.method == "ivfflat":
        per_page = max(1, int(_USABLE // (8 + 8 + width)))
        lists = int(options.get("lists", "100"))
        return 1 + lists + math.ceil(lists / max(1, _USABLE // (width + 16))) + math.ceil(rows / per_page)
    if spec.method == "hash":
        return 2 + math.ceil(rows / (_USABLE * 0.75 / 20))
    # GiST and others: one entry for each row, pages two thirds full after random insertion.
    return 1 + math.ceil(rows * (12 + 8 * math.ceil(width / 8)) / (_USABLE * 0.66))


def _gin(spec: IndexSpec, s: ColumnStatistics | None, rows: float) -> int:
    """Entry tree plus posting lists, whose varbyte coding takes about two bytes an item (ginpostinglist.c)."""
    if spec.keys[0].operator_class in ("gin_trgm_ops", "public.gin_trgm_ops"):
        items = rows * ((s.avg_width_bytes if s else 32) + 2)
        keys = min(items, 40_000.0)
    elif s is not None and s.elem_count_histogram:
        items = rows * s.elem_count_histogram[-1]
        listed = max(1, len((s.most_common_elems or "").split(",")))
        keys = min(items, listed * 2.0)
    else:
        items = rows * max(1.0, (s.avg_width_bytes if s else 64) / 16)
        keys = items / 10
    return 2 + math.ceil((items * 2.2 + keys * 40) / (_USABLE * 0.8))


def _hnsw(m: int, width: int, rows: float) -> int:
    """An element and its neighbours share a page where they fit (pgvector's hnsw.h)."""
    element = 8 * math.ceil((72 + width) / 8)
    neighbours = 8 * math.ceil((12 + 6 * m * 2.1) / 8)
    per_page = _USABLE // (element + neighbours + 8)
    if per_page >= 1:
        return 1 + math.ceil(rows / per_page)
    return 1 + math.ceil(rows * max(1.0, element / _USABLE)) + math.ceil(rows * neighbours / _USABLE)
