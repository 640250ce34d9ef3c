"""Index advice: candidates, what a set of them costs and saves, and what was left out and why."""

from __future__ import annotations

from typing import ClassVar, Literal

from dbperf.records.base import Document, Record


class IndexKey(Record, frozen=True, kw_only=True):
    """One key of an index: a column by its name, or an expression as SQL."""

    column: str | None = None
    expression: str | None = None
    descending: bool = False
    nulls_first: bool | None = None
    """None: PostgreSQL's default for the direction (last when ascending, first when descending)."""
    operator_class: str | None = None

    def sql(self) -> str:
        text = quoted(self.column) if self.column is not None else f"({self.expression})"
        if self.operator_class:
            text += f" {self.operator_class}"
        if self.descending:
            text += " DESC"
        if self.nulls_first is not None and self.nulls_first != self.descending:
            text += " NULLS FIRST" if self.nulls_first else " NULLS LAST"
        return text


class IndexSpec(Record, frozen=True, kw_only=True):
    """An index that does not exist (yet)."""

    schema: str
    table: str
    method: str = "btree"
    keys: tuple[IndexKey, ...]
    include: tuple[str, ...] = ()
    predicate: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    """Storage parameters, for example (("m", "16"),)."""

    def create_sql(self, name: str, *, concurrently: bool = False) -> str:
        """CREATE INDEX with every name quoted where it must be."""
        parts = ["CREATE INDEX", *(["CONCURRENTLY"] if concurrently else []), quoted(name)]
        parts.append(f"ON {quoted(self.schema)}.{quoted(self.table)}")
        if self.method != "btree":
            parts.append(f"USING {self.method}")
        parts.append(f"({', '.join(k.sql() for k in self.keys)})")
        if self.include:
            parts.append(f"INCLUDE ({', '.join(quoted(c) for c in self.include)})")
        if self.options:
            parts.append(f"WITH ({', '.join(f'{k} = {v}' for k, v in self.options)})")
        if self.predicate:
            parts.append(f"WHERE {self.predicate}")
        return " ".join(parts)


class StatementGain(Record, frozen=True, kw_only=True):
    """What an index does for one statement."""

    id: str
    cost_before: float
    cost_after: float


class Recommendation(Record, frozen=True, kw_only=True):
    """One index to create. Costs are the planner's units, weighted by calls where a workload has them."""

    name: str
    schema: str
    table: str
    method: str
    create_sql: str
    drop_sql: str
    size_bytes: int
    """Estimated size when built."""
    gain: float
    """What the set would lose without this index, as a share of the objective: total cost, and the mean of the
    statements' own ratios (0..1)."""
    gain_cost: float
    """The same in the planner's units, weighted by calls; below 0 where maintenance costs more than is saved."""
    write_cost: float = 0.0
    """Estimated cost of keeping it up to date, in the same units; part of the gain already."""
    statements: list[str]
    """Ids of the statements that use it."""
    makes_redundant: list[str] = []
    """Existing indexes that it replaces."""
    blocks_hot_updates: bool = False
    reason: str


class Rejected(Record, frozen=True, kw_only=True):
    """A candidate or a statement for which no index is advised, and why."""

    sql: str
    table: str | None = None
    statement: str | None = None
    """Id of the statement that `sql` is; None: `sql` is a candidate, or "" for a whole table."""
    reason: str


class Rewrite(Record, frozen=True, kw_only=True):
    """A statement that is to be written otherwise: no index mends it."""

    statement: str
    """Id."""
    rule_id: str
    """Of dbperf.plans.rules or dbperf.trace, or "order-by-random"."""
    reason: str
    """What is wrong, and what to write instead."""
    source: str | None = None
    """"file:line" of the application's frame that asks, where a trace tells it."""
    sql: str | None = None
    """What may help where it can't be rewritten."""


class StatisticsAdvice(Record, frozen=True, kw_only=True):
    """An object for CREATE STATISTICS: a wrong row estimate, not a missing index, is the cause."""

    name: str
    schema: str
    table: str
    create_sql: str
    """With the ANALYZE that fills it."""
    drop_sql: str
    rows: float
    """What the node returned, and below what was expected of it (per loop)."""
    rows_estimated: float
    factor: float
    """How far off that is, above 1."""
    statements: list[str]
    """Ids of the statements in whose plans it was seen."""
    reason: str


class StatementCost(Record, frozen=True, kw_only=True):
    id: str
    calls: float
    cost_before: float
    cost_after: float
    text: str | None = None


OVER_LIMITS = "it does not fit the budget or the limits"
NO_TABLE = "it reads no table of the database"
"""Why what drivers ask of the catalog is left out: nothing is missing then."""


class Skipped(Record, frozen=True, kw_only=True):
    id: str
    reason: str


class BudgetPoint(Record, frozen=True, kw_only=True):
    """The best set of a size."""

    size_bytes: int
    cost: float
    """Of the workload, maintenance included."""
    indexes: list[str]


class Advice(Document, frozen=True, kw_only=True):
    """`advice.json`."""

    kind: ClassVar[str] = "advice"
    file_name: ClassVar[str] = "advice.json"

    planner: Literal["shadow", "hypopg"]
    source: str
    server_version: str
    what_if_calls: int
    elapsed_s: float
    budget_bytes: int | None
    cost_before: float
    cost_after: float
    size_bytes: int
    recommendations: list[Recommendation]
    rejected: list[Rejected]
    statements: list[StatementCost]
    skipped: list[Skipped]
    curve: list[BudgetPoint] = []
    redundant: list[Rejected] = []
    """Existing indexes that others make superfluous."""
    rewrites: list[Rewrite] = []
    statistics: list[StatisticsAdvice] = []
    """From plans with actual rows, where the workload brought some."""
    notes: list[str] = []
    complete: bool = True
    """False: the time limit or Ctrl-C ended the search; what is here is the best set so far."""


class ShadowCost(Record, frozen=True, kw_only=True):
    id: str
    source_cost: float | None
    shadow_cost: float | None
    ratio: float | None
    """Shadow over source."""
    reason: str | None = None


class ShadowCosts(Document, frozen=True, kw_only=True):
    """`dbperf shadow costs`."""

    kind: ClassVar[str] = "shadow_costs"
    file_name: ClassVar[str] = "shadow_costs.json"

    statements: list[ShadowCost]
    notes: list[str] = []


def quoted(name: str) -> str:
    """Quoted where PostgreSQL would fold or refuse it bare; recommendations are for people to read."""
    if name and name[0] in _START and all(c in _START or c in "0123456789$" for c in name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


_START = frozenset("abcdefghijklmnopqrstuvwxyz_")
_WORDS = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
cast char character check coalesce collate collation column concurrently constraint create cross
current_catalog current_date current_role current_schema current_time current_timestamp current_user dec
decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign
freeze from full grant greatest group grouping having ilike in initially inner inout int integer intersect
interval into is isnull join json json_array lateral leading least left like limit localtime localtimestamp
merge_action national natural nchar none normalize not notnull null nullif numeric offset on only or order out
outer overlaps overlay placing position precision primary real references returning right row select
session_user setof similar smallint some substring symmetric system_user table tablesample then time timestamp
to trailing treat trim true union unique user using values varchar variadic verbose when where window with
xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
xmltable
"""
_RESERVED = frozenset(_WORDS.split())
