"""Indexes that might serve a statement: from its conditions, joins, order, groups and columns.

A candidate only has to be plausible: the planner decides. What is known to be useless is not made: duplicates of and
prefixes of existing indexes, keys of unindexable types, tables of a few pages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from dbperf.indexes.clauses import Condition, Key, Order, TableUse
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.shadow import Column, Index, Relation

SMALLEST_PAGES = 8
"""A table below this is read in less time than an index on it is opened."""
_NO_BTREE = ("json", "point", "xml", "box", "line", "lseg", "path", "polygon", "circle", "vector", "public.vector")
_COVERED_MOST = 5
_COVERED_WIDTH_BYTES = 160
_BRIN_PAGES = 1000
_PER_TABLE_USE = 60
_JOINS_MOST = 4
_PARTIAL_VALUES = 50
_IN_ORDER, _IN_ORDER_MOST = 0.9, 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """What candidates may look like."""

    max_width: int = 3
    """Key columns."""
    include: bool = True
    partial: bool = True
    expressions: bool = True
    other_methods: bool = True
    """BRIN, GIN, HNSW."""
    ivfflat: bool = False
    """Also IVFFlat, which is built faster than HNSW at a recall that needs tuning (probes)."""
    c_collation: bool = False
    """The database sorts text by bytes: a plain index serves LIKE 'x%'."""
    extensions: frozenset[str] = frozenset()


def candidates(use: TableUse, options: Options) -> list[IndexSpec]:
    """Indexes for one table of one statement, most promising first; at most a few dozen."""
    relation = use.relation
    if relation.kind == "foreign" or (relation.kind != "partitioned" and relation.pages < SMALLEST_PAGES):
        return []
    maker = _Maker(use, options)
    found: dict[IndexSpec, None] = {}
    for spec in maker.all():
        if spec.method != "btree" or not any(covers(i, spec) for i in relation.indexes):
            found[spec] = None
    return list(found)[:_PER_TABLE_USE]


class _Maker:
    def __init__(self, use: TableUse, options: Options) -> None:
        self.use = use
        self.options = options
        self.columns: Mapping[str, Column] = {c.name: c for c in use.relation.columns}

    def all(self) -> Iterator[IndexSpec]:
        yield from self.btrees()
        if self.options.other_methods:
            yield from self.other_methods()

    def btrees(self) -> Iterator[IndexSpec]:
        sequences = list(self.sequences())
        for keys in sequences:
            if spec := self.spec(keys):
                yield spec
        if self.options.partial:
            yield from self.partial()
        if self.options.include and not self.use.all_columns:
            for keys in sequences:
                if (spec := self.spec(keys)) and (covering := self.covering(spec)):
                    yield covering

    def sequences(self) -> Iterator[list[IndexKey]]:
        """Key lists: equality first, then one range or an order (the order of columns in Lahdenmäki and Leach)."""
        equal = self.ordered_by_distinct(self.keys("equal", "null", "true"))
        fixed = self.ordered_by_distinct([*equal, *self.keys("in")])
        ranges = self.keys("range", "prefix")
        for order in self.orders():
            yield from ([*equal, *order], order, [*fixed, *order])
        heads = [fixed, fixed[::-1], *([k] for k in fixed)]
        for head in heads:
            yield from ([*head, last] for last in ranges)
            yield head
        yield from self.join_sequences(equal, fixed, ranges)
        for group in self.use.groups:
            keys = [k for g in group if (k := self.key(g))]
            if len(keys) == len(group):
                yield from ([*fixed, *keys], keys)
        yield from ([one, two] for one in ranges for two in ranges if one != two)
        yield from ([last] for last in ranges)
        if self.use.groups and not self.use.conditions and not self.use.all_columns:
            yield from self.narrow_copies()

    def join_sequences(
        self, equal: list[IndexKey], fixed: list[IndexKey], ranges: list[IndexKey]
    ) -> Iterator[list[IndexKey]]:
        joins = self.keys("join")
        for join in joins:
            for head in (fixed, equal):
                yield from ([join, *head], [*head, join])
                for last in ranges:
                    yield from ([join, *head, last], [*head, join, last])
        if len(joins) <= _JOINS_MOST:
            for width in range(2, self.options.max_width + 1):
                yield from map(list, itertools.permutations(joins, width))

    def narrow_copies(self) -> Iterator[list[IndexKey]]:
        """For a statement that groups all rows and reads few columns of them: these, behind a column that follows the
        order of the rows in the table. An index-only scan then comes to pages that are not all visible in turn."""
        led = {i.keys[0] for i in self.use.relation.indexes}
        in_order = [c for c in self.columns.values() if _correlation(c) > _IN_ORDER and c.name not in led]
        for column in sorted(in_order, key=_correlation, reverse=True)[:_IN_ORDER_MOST]:
            names = dict.fromkeys([column.name, *sorted(self.use.columns)])
            keys = [self.key(Key(text=name, is_column=True)) for name in names]
            if all(keys) and len(keys) <= self.options.max_width:
                yield [k for k in keys if k]

    def keys(self, *kinds: str) -> list[IndexKey]:
        found: dict[str, IndexKey] = {}
        for c in self.use.conditions:
            if c.kind in kinds and (key := self.key(c.key, prefix=c.kind == "prefix")):
                found.setdefault(c.key.text, key)
        return list(found.values())

    def key(self, key: Key, *, prefix: bool = False) -> IndexKey | None:
        if not key.is_column:
            return IndexKey(expression=key.text) if self.options.expressions else None
        column = self.columns[key.text]
        if column.type.split("(")[0].startswith(_NO_BTREE) or column.type.endswith("[]"):
            return None
        operator_class = None
        if prefix and not self.options.c_collation and column.collation is None:
            operator_class = _pattern_class(column.type)
        return IndexKey(column=key.text, operator_class=operator_class)

    def ordered_by_distinct(self, keys: Iterable[IndexKey]) -> list[IndexKey]:
        """Most distinct values first: such an index serves the most other statements."""

        def distinct(key: IndexKey) -> float:
            column = self.columns.get(key.column or "")
            if column is None or not column.statistics:
                return 0.0
            n = column.statistics[0].n_distinct
            return n if n > 0 else -n * max(1.0, self.use.relation.tuples)

        return sorted(keys, key=distinct, reverse=True)

    def orders(self) -> Iterator[list[IndexKey]]:
        for order in self.use.orders:
            if order and not any(o.distance for o in order):
                keys = [self.order_key(o) for o in order]
                if all(keys):
                    yield _simplified([k for k in keys if k])

    def order_key(self, order: Order) -> IndexKey | None:
        if (key := self.key(order.key)) is None:
            return None
        nulls = order.nulls_first
        if order.key.is_column and self.columns[order.key.text].not_null:
            nulls = None
        return msgspec.structs.replace(key, descending=order.descending, nulls_first=nulls)

    def spec(self, keys: list[IndexKey], predicate: str | None = None) -> IndexSpec | None:
        kept: list[IndexKey] = []
        for key in keys:
            if not any((k.column, k.expression) == (key.column, key.expression) for k in kept):
                kept.append(key)
        kept = kept[: self.options.max_width]
        if not kept:
            return None
        relation = self.use.relation
        return IndexSpec(schema=relation.schema, table=relation.name, keys=tuple(kept), predicate=predicate)

    def covering(self, spec: IndexSpec) -> IndexSpec | None:
        """The same with INCLUDE for all other columns that the statement reads, where those are few and narrow."""
        keys = {k.column for k in spec.keys}
        rest = sorted(c for c in self.use.columns if c not in keys)
        if not rest or len(rest) > _COVERED_MOST or any(k.expression for k in spec.keys):
            return None
        width = 0
        for name in rest:
            found = self.columns[name].statistics
            width += found[0].avg_width_bytes if found else 64
        return msgspec.structs.replace(spec, include=tuple(rest)) if width <= _COVERED_WIDTH_BYTES else None

    def partial(self) -> Iterator[IndexSpec]:
        """Indexes over the rows that a constant condition keeps, with the other conditions as keys."""
        for c in self.use.conditions:
            if c.sql is None or c.kind not in ("equal", "in", "null", "not_null", "true") or not c.key.is_column:
                continue
            if c.kind == "not_null" and self.columns[c.key.text].not_null:
                continue
            if c.kind in ("equal", "in") and not self.few_values(c.key.text):
                continue
            for keys in self.sequences():
                rest = [k for k in keys if k.column != c.key.text]
                if rest and (spec := self.spec(rest, c.sql)):
                    yield spec
                    if self.options.include and not self.use.all_columns and (covering := self.covering(spec)):
                        # The predicate's own column is known where the index is used.
                        include = tuple(x for x in covering.include if x != c.key.text)
                        yield msgspec.structs.replace(covering, include=include)

    def few_values(self, column: str) -> bool:
        """Few distinct values: an index for one of them serves more than the one statement that was seen."""
        found = self.columns[column].statistics
        return bool(found) and 0 < found[0].n_distinct <= _PARTIAL_VALUES

    def other_methods(self) -> Iterator[IndexSpec]:
        relation = self.use.relation
        for c in self.use.conditions:
            if not c.key.is_column:
                continue
            column = self.columns[c.key.text]
            if c.kind == "range" and _correlation(column) > _IN_ORDER and relation.pages >= _BRIN_PAGES:
                yield self.single(IndexKey(column=column.name), "brin")
            elif c.kind == "contains":
                yield from self.containment(c, column)
            elif c.kind == "substring" and "pg_trgm" in self.options.extensions:
                yield self.single(IndexKey(column=column.name, operator_class="gin_trgm_ops"), "gin")
        for order in self.use.orders:
            if order and order[0].distance and self.use.limited and "vector" in self.options.extensions:
                key = IndexKey(column=order[0].key.text, operator_class=f"vector_{order[0].distance}_ops")
                # pgvector's defaults; m = 16 and ef_construction = 64 suit up to a few million rows.
                yield self.single(key, "hnsw", (("m", "16"), ("ef_construction", "64")))
                if self.options.ivfflat:
                    # pgvector's advice: rows / 1000 lists up to a million rows, then the square root.
                    lists = relation.tuples / 1000 if relation.tuples <= 1e6 else relation.tuples**0.5
                    yield self.single(key, "ivfflat", (("lists", str(max(10, round(lists)))),))

    def containment(self, c: Condition, column: Column) -> Iterator[IndexSpec]:
        key = IndexKey(column=column.name)
        if column.type.endswith("[]") or column.type == "tsvector":
            yield self.single(key, "gin")
        elif column.type == "jsonb":
            yield self.single(key, "gin")
            if c.operator in ("@>", "@@", "@?"):
                yield self.single(IndexKey(column=column.name, operator_class="jsonb_path_ops"), "gin")
        elif "range" in column.type:
            yield self.single(key, "gist")

    def single(self, key: IndexKey, method: str, options: tuple[tuple[str, str], ...] = ()) -> IndexSpec:
        relation = self.use.relation
        return IndexSpec(schema=relation.schema, table=relation.name, method=method, keys=(key,), options=options)


def _simplified(keys: list[IndexKey]) -> list[IndexKey]:
    """An index is read backwards as well as forwards: all keys descending is the same as all ascending."""
    if all(k.descending and k.nulls_first in (None, True) for k in keys) and len(keys) > 1:
        return [msgspec.structs.replace(k, descending=False, nulls_first=None) for k in keys]
    return keys


def _pattern_class(type_name: str) -> str | None:
    if type_name.startswith("character varying"):
        return "varchar_pattern_ops"
    return "text_pattern_ops" if type_name == "text" else None


def _correlation(column: Column) -> float:
    return abs(column.statistics[0].correlation or 0.0) if column.statistics else 0.0


def covers(index: Index, spec: IndexSpec) -> bool:
    """Whether an existing index makes a candidate superfluous: the same keys at its front, and nothing else needed."""
    if index.method != spec.method or not index.valid:
        return False
    if index.predicate is not None and index.predicate != spec.predicate:
        return False
    if len(index.keys) < len(spec.keys):
        return False
    have = list(zip(index.keys, index.descending, index.nulls_first, index.operator_classes, strict=True))
    want = [(k.column or k.expression or "", k.descending, k.nulls_first, k.operator_class or "") for k in spec.keys]
    pairs = list(zip(have, want, strict=False))
    if any(_plain(h[0]) != _plain(w[0]) or h[3] != w[3] for h, w in pairs):
        return False
    forwards = all(h[1] == w[1] and h[2] == (w[1] if w[2] is None else w[2]) for h, w in pairs)
    backwards = all(h[1] != w[1] and h[2] != (w[1] if w[2] is None else w[2]) for h, w in pairs)
    return (forwards or backwards) and set(spec.include) <= {*index.include, *index.keys}


def _plain(expression: str) -> str:
    """Expressions print differently in the catalog and in statements: parentheses, casts to text, spaces."""
    return expression.replace("(", "").replace(")", "").replace(" ", "").replace("::text", "").lower()


def prefix_of(a: IndexSpec, b: IndexSpec) -> bool:
    """Whether everything that `a` serves `b` serves too: same table, method and predicate, keys at its front."""
    return (
        a != b
        and (a.schema, a.table, a.method, a.predicate) == (b.schema, b.table, b.method, b.predicate)
        and a.method == "btree"
        and b.keys[: len(a.keys)] == a.keys
        and set(a.include) <= {*b.include, *(k.column for k in b.keys)}
    )


def merged(a: IndexSpec, b: IndexSpec) -> IndexSpec | None:
    """One index for the work of two on the same table: where the keys of one begin the other's, INCLUDE is united."""
    if (a.schema, a.table, a.method, a.predicate) != (b.schema, b.table, b.method, b.predicate) or a.method != "btree":
        return None
    short, long = sorted((a, b), key=lambda s: len(s.keys))
    if long.keys[: len(short.keys)] != short.keys:
        return None
    keys = {k.column for k in long.keys}
    include = tuple(sorted({*a.include, *b.include} - keys))
    if len(include) > _COVERED_MOST + 1:
        return None
    return msgspec.structs.replace(long, include=include)


def simpler(spec: IndexSpec) -> Iterator[IndexSpec]:
    """Smaller indexes that may do nearly as well: without INCLUDE, without the last key, without the predicate."""
    if spec.include:
        yield msgspec.structs.replace(spec, include=())
    if len(spec.keys) > 1:
        yield msgspec.structs.replace(spec, keys=spec.keys[:-1])
        if spec.include:
            yield msgspec.structs.replace(spec, keys=spec.keys[:-1], include=())
    if spec.predicate:
        yield msgspec.structs.replace(spec, predicate=None)


def redundant(indexes: Relation) -> Iterator[tuple[Index, Index]]:
    """Existing indexes with the one that makes each superfluous."""
    for a in indexes.indexes:
        if a.unique or a.constraint or a.method != "btree" or not a.valid:
            continue
        for b in indexes.indexes:
            same = len(a.keys) == len(b.keys) and a.include == b.include
            if a is b or b.method != "btree" or (same and a.name < b.name and not b.unique):
                continue
            spec = as_spec(a, indexes)
            if a.predicate == b.predicate and covers(b, spec):
                yield a, b
                break


def as_spec(index: Index, relation: Relation) -> IndexSpec:
    """An existing index in a candidate's form."""
    columns = {c.name for c in relation.columns}
    keys = tuple(
        IndexKey(
            column=k if k in columns else None,
            expression=None if k in columns else k,
            descending=d,
            nulls_first=n,
            operator_class=o or None,
        )
        for k, d, n, o in zip(index.keys, index.descending, index.nulls_first, index.operator_classes, strict=True)
    )
    return IndexSpec(
        schema=relation.schema, table=relation.name, method=index.method, keys=keys, include=tuple(index.include),
        predicate=index.predicate,
    )  # fmt: skip


def table_sql(schema: str, table: str) -> str:
    """A table's quoted name."""
    return ".".join('"' + n.replace('"', '""') + '"' for n in (schema, table))
