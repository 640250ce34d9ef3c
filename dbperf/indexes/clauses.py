"""What a statement asks of each table: conditions, joins, orders, groups and columns. `resolver` reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dbperf.records.shadow import Relation

Kind = Literal["equal", "in", "join", "range", "prefix", "contains", "substring", "null", "not_null", "true"]
DISTANCES = {"<->": "l2", "<=>": "cosine", "<#>": "ip", "<+>": "l1"}
"""pgvector's distance operators."""


@dataclass(frozen=True)
class Key:
    """A column, or an expression over columns of one table."""

    text: str
    is_column: bool


@dataclass(frozen=True)
class Condition:
    key: Key
    kind: Kind
    operator: str = "="
    sql: str | None = None
    """The condition as SQL where it holds for constants alone: usable as an index's predicate."""
    parameter: int | None = None
    """n of $n that the key is compared with."""


@dataclass(frozen=True)
class Order:
    key: Key
    descending: bool = False
    nulls_first: bool | None = None
    distance: str | None = None
    """Of a vector column ordered by distance: "cosine", ..."""


@dataclass
class TableUse:
    """One table of one query level."""

    relation: Relation
    alias: str
    conditions: list[Condition] = field(default_factory=list)
    orders: list[list[Order]] = field(default_factory=list)
    groups: list[list[Key]] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    """Columns that the statement reads."""
    all_columns: bool = False
    limited: bool = False
    """Its query level has a LIMIT."""


@dataclass
class StatementUse:
    tables: list[TableUse]
    written: dict[tuple[str, str], frozenset[str] | None]
    """Tables that it writes; an UPDATE's columns, None for INSERT and DELETE."""
    inserts: bool = False
