"""Takes data out of a catalog before it leaves the DBA's hands: what stays is schema, sizes and shapes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from functools import lru_cache

import msgspec

from dbperf.indexes.workload import masked
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Index, Relation

_TEXT = re.compile(r"(text|character varying|varchar|character|bpchar|name)\b")
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}]+)')
_UNQUOTED = re.compile(r"\\(.)")


def redact(catalog: Catalog) -> Catalog:
    """A copy without values from rows, and without literals in the workload.

    Histogram bounds go, as do common values that are not text. Common values of text columns become keyed hashes (a new
    key each time, not kept): frequencies, and which columns share values, survive, so that equality with a parameter
    and joins are estimated as before. Ranges and comparisons with constants are then estimated by default rules.
    Partition bounds, CHECK constraints, predicates and view definitions are schema and stay.
    """
    key = secrets.token_bytes(32)

    def surrogate(value: str) -> str:
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]

    return msgspec.structs.replace(
        catalog,
        redacted=True,
        relations=[_relation(r, surrogate) for r in catalog.relations],
        workload=masked(catalog.workload),
    )


def _relation(relation: Relation, surrogate: Callable[[str], str]) -> Relation:
    return msgspec.structs.replace(
        relation,
        columns=[_column(c, surrogate) for c in relation.columns],
        indexes=[_index(i) for i in relation.indexes],
    )


def _column(column: Column, surrogate: Callable[[str], str]) -> Column:
    hashed = surrogate if _TEXT.match(column.type) and "[]" not in column.type else None
    return msgspec.structs.replace(
        column, statistics=[_statistics(s, _fitting(hashed, column.type)) for s in column.statistics]
    )


def _fitting(surrogate: Callable[[str], str] | None, type_name: str) -> Callable[[str], str] | None:
    """varchar(3) takes no hash of 16 characters."""
    limit = re.search(r"\((\d+)\)", type_name)
    return None if limit and int(limit[1]) < 16 else surrogate


def _index(index: Index) -> Index:
    found = {position: [_statistics(s, None) for s in kept] for position, kept in index.statistics.items()}
    return msgspec.structs.replace(index, statistics=found)


def _statistics(s: ColumnStatistics, surrogate: Callable[[str], str] | None) -> ColumnStatistics:
    values = None
    if surrogate and s.most_common_vals is not None:
        values = "{" + ",".join(surrogate(v) for v in array_elements(s.most_common_vals)) + "}"
    return msgspec.structs.replace(
        s,
        most_common_vals=values,
        most_common_freqs=s.most_common_freqs if values else None,
        histogram_bounds=None,
        most_common_elems=None,
        most_common_elem_freqs=None,
        elem_count_histogram=None,
        range_length_histogram=None,
        range_bounds_histogram=None,
        range_empty_frac=None,
    )


def array_elements(text: str) -> list[str]:
    """Elements of a one-dimensional array in PostgreSQL's text form.

    >>> array_elements('{a,"b \\\\"x\\\\" c",3}')
    ['a', 'b "x" c', '3']
    """
    return list(_elements(text))


@lru_cache(maxsize=4096)
def _elements(text: str) -> tuple[str, ...]:
    found = _ELEMENT.finditer(text.removeprefix("{"))
    return tuple(_UNQUOTED.sub(r"\1", m[1]) if m[1] is not None else m[2] for m in found)
