"""What the planner knows of a database: schema, sizes, statistics and settings, and none of its rows.

`Catalog` is what `dbperf shadow export` writes and what a shadow database is made from. Names are kept as the catalog
has them (unquoted); expressions and definitions are PostgreSQL's own text with every name schema-qualified.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from dbperf.records.base import Document, Record

RelationKind = Literal["table", "partitioned", "matview", "foreign"]


class ColumnStatistics(Record, frozen=True, kw_only=True):
    """One row of pg_stats. Arrays are PostgreSQL's text form; None: not collected for the column."""

    inherited: bool
    """Over the table and its children, not the table alone."""
    null_frac: float
    avg_width_bytes: int
    n_distinct: float
    """Above 0: a count; below 0: minus the share of rows (0..1) that are distinct."""
    most_common_vals: str | None = None
    most_common_freqs: list[float] | None = None
    histogram_bounds: str | None = None
    correlation: float | None = None
    most_common_elems: str | None = None
    most_common_elem_freqs: list[float] | None = None
    elem_count_histogram: list[float] | None = None
    range_length_histogram: str | None = None
    range_empty_frac: float | None = None
    range_bounds_histogram: str | None = None


class Column(Record, frozen=True, kw_only=True):
    """A column of a table, or a key of an expression index."""

    name: str
    number: int
    """attnum at the source; gaps are dropped columns."""
    type: str
    """As format_type prints it, schema-qualified."""
    not_null: bool = False
    default: str | None = None
    generated: Literal["stored", "virtual"] | None = None
    identity: Literal["always", "by default"] | None = None
    collation: str | None = None
    """Quoted and qualified; None: the type's own."""
    is_local: bool = True
    """False: it comes from a parent only."""
    statistics: list[ColumnStatistics] = []


class Index(Record, frozen=True, kw_only=True):
    name: str
    schema: str
    definition: str
    """pg_get_indexdef."""
    method: str
    unique: bool
    primary: bool
    immediate: bool = True
    valid: bool
    keys: list[str]
    """Key columns by name, expressions as their text, in order."""
    descending: list[bool] = []
    nulls_first: list[bool] = []
    include: list[str] = []
    predicate: str | None = None
    operator_classes: list[str] = []
    """One per key; "" is the type's default."""
    constraint: str | None = None
    """Name of the constraint that owns it."""
    constraint_definition: str | None = None
    pages: int
    tuples: float
    height: int | None = None
    """Level of a B-tree's root (0: the root is a leaf); None: not read."""
    parent: tuple[str, str] | None = None
    """Schema and name of the partitioned index it belongs to."""
    statistics: dict[int, list[ColumnStatistics]] = {}
    """Of expression keys, by position from 1."""
    scans: int | None = None
    """Times it was used since the statistics were reset."""


class Relation(Record, frozen=True, kw_only=True):
    schema: str
    name: str
    kind: RelationKind
    pages: int
    """The main fork's real size in blocks of 8 kB."""
    stored_pages: int
    """pg_class.relpages: what the last VACUUM or ANALYZE saw."""
    tuples: float
    """pg_class.reltuples; -1: never analysed."""
    all_visible_pages: int
    columns: list[Column]
    indexes: list[Index] = []
    constraints: list[str] = []
    """CHECK and EXCLUDE (without an index) constraints as ADD CONSTRAINT would take them."""
    options: list[str] = []
    partition_key: str | None = None
    partition_bound: str | None = None
    parents: list[tuple[str, str]] = []
    server: str | None = None
    """Of a foreign table."""
    row_security: bool = False
    """Policies apply to the role that read the catalog."""
    updates: int | None = None
    inserts: int | None = None
    deletes: int | None = None
    hot_updates: int | None = None


class ForeignKey(Record, frozen=True, kw_only=True):
    schema: str
    table: str
    name: str
    definition: str


class CatalogObject(Record, frozen=True, kw_only=True):
    """Anything that is carried as SQL: types, functions, views, statistics objects, policies, collations, servers."""

    kind: Literal[
        "schema", "collation", "type", "function", "sequence", "view", "statistics", "policy", "server", "aggregate"
    ]
    name: str
    """Quoted and qualified."""
    sql: str


class ExtendedStatistics(Record, frozen=True, kw_only=True):
    """A statistics object's data, as pg_stats_ext prints it."""

    schema: str
    name: str
    inherited: bool = False
    keys: list[int]
    """Column numbers at the source."""
    n_distinct: str | None = None
    dependencies: str | None = None
    has_mcv: bool = False
    has_expressions: bool = False


class CatalogExtension(Record, frozen=True, kw_only=True):
    name: str
    schema: str
    version: str


class CatalogNote(Record, frozen=True, kw_only=True):
    """Something that could not be read or carried, and what that means for the costs."""

    object: str
    reason: str


class StatementCase(Record, frozen=True, kw_only=True):
    """A statement with values that it was executed with."""

    name: str
    """Where the values come from."""
    text: str
    share: float
    """Of the statement's calls (0..1)."""


class WorkloadStatement(Record, frozen=True, kw_only=True):
    """A statement with its weight."""

    id: str
    text: str
    calls: float = 1.0
    mean_ms: float | None = None
    cases: list[StatementCase] = []
    """Shares sum to 1 at most; the rest of the calls is for `text` itself."""
    database: str | None = None
    """Where it ran; None: not known, or the one that the workload is for."""


class Catalog(Document, frozen=True, kw_only=True):
    """What the planner sees of one database."""

    kind: ClassVar[str] = "shadow"
    file_name: ClassVar[str] = "shadow.json"

    source: str
    """Connection string with the password masked, or what it was made from."""
    database: str
    server_version: str
    server_version_num: int
    read_at: datetime
    read_s: float
    block_size_bytes: int = 8192
    encoding: str = "UTF8"
    collate: str = "C"
    ctype: str = "C"
    locale_provider: str = "c"
    """pg_database.datlocprovider: c (libc), i (ICU), b (builtin)."""
    settings: dict[str, str]
    """Settings that the planner uses, as SHOW prints them in a new session of the role."""
    search_path: str
    extensions: list[CatalogExtension] = []
    objects: list[CatalogObject] = []
    relations: list[Relation]
    foreign_keys: list[ForeignKey] = []
    extended_statistics: list[ExtendedStatistics] = []
    notes: list[CatalogNote] = []
    redacted: bool = False
    workload: list[WorkloadStatement] = []
