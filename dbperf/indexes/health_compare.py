"""When one index does another's work."""

from __future__ import annotations

from dbperf.postgres.index_health import IndexFacts

_BACKWARDS = 3
"""Both bits of pg_index.indoption turned: the same order read from the other end."""


def carries_rule(i: IndexFacts) -> bool:
    """Whether the data's rules hang on it: it may be read by nobody and must stay."""
    return i.unique or i.primary or i.constraint is not None or i.replica_identity or i.referenced


def rank(i: IndexFacts) -> int:
    """How much hangs on it: the higher, the rather it stays."""
    return 8 * i.primary + 4 * i.referenced + 2 * (i.constraint is not None or i.replica_identity) + i.unique


def same(a: IndexFacts, b: IndexFacts) -> bool:
    """Whether `b` does all that `a` does: the same index, perhaps unique as well."""
    return (
        a.method == b.method
        and a.keys == b.keys
        and a.options == b.options
        and a.predicate == b.predicate
        and set(a.include) == set(b.include)
        and (b.unique or not a.unique)
        and rank(b) >= rank(a)
    )


def covers(wide: IndexFacts, narrow: IndexFacts) -> bool:
    """Whether the narrow one's keys are the wide one's first, read forwards or backwards, and all it includes is there.

    Equal key lists count where the wide one includes more.
    """
    n = len(narrow.keys)
    if wide.method != "btree" or narrow.method != "btree" or wide.predicate != narrow.predicate:
        return False
    if wide.keys[:n] != narrow.keys or not set(narrow.include) <= {*wide.include, *wide.key_columns}:
        return False
    if len(wide.keys) == n and not wide.unique and len(wide.include) <= len(narrow.include):
        return False
    pairs = list(zip(wide.options[:n], narrow.options, strict=True))
    return all(a == b for a, b in pairs) or all(a == b ^ _BACKWARDS for a, b in pairs)


def serves(i: IndexFacts, columns: tuple[int, ...]) -> bool:
    """Whether a foreign key's check finds rows with it: its columns in any order at the front, without a condition."""
    return (
        i.valid
        and i.predicate is None
        and i.method in ("btree", "hash")
        and set(i.key_columns[: len(columns)]) == set(columns)
    )
