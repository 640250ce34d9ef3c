"""Statements with parameters, planned for more than the average value.

A generic plan takes every value of a column to be equally common. Where some values are far more common than that, the
statement is planned for the most common one as well, with the weight that such values have in the column: calls are
taken to ask for values as often as they occur.
"""

from __future__ import annotations

from dataclasses import dataclass

import postgast

from dbperf.indexes.clauses import Condition, StatementUse, TableUse
from dbperf.indexes.redact import array_elements
from dbperf.postgres.shadow_ddl import literal
from dbperf.records.shadow import ColumnStatistics, WorkloadStatement

_SKEWED = 3.0
"""The most common value must be this much more common than the average one."""


@dataclass(frozen=True)
class Variant:
    id: str
    key: str
    text: str
    calls: float
    use: StatementUse


def variants_of(statement: WorkloadStatement, use: StatementUse) -> list[Variant]:
    """The statement as it is, and for common values where its parameters are compared with skewed columns.

    The calls of the variants sum to the statement's.
    """
    values: dict[int, str] = {}
    share = 0.0
    for table in use.tables:
        for c in table.conditions:
            if c.parameter is None or c.kind != "equal" or not c.key.is_column:
                continue
            if found := _common(table, c):
                values[c.parameter] = found[0]
                share = max(share, found[1])
    plain = Variant(statement.id, statement.id, statement.text, statement.calls, use)
    if not values or (text := with_values(statement.text, values)) is None:
        return [plain]
    return [
        Variant(statement.id, statement.id, statement.text, statement.calls * (1 - share), use),
        Variant(statement.id, f"{statement.id} (common values)", text, statement.calls * share, use),
    ]


def _common(table: TableUse, condition: Condition) -> tuple[str, float] | None:
    """The most common value of the column, and how often values are asked for that are common (0..1)."""
    column = next(c for c in table.relation.columns if c.name == condition.key.text)
    s: ColumnStatistics | None = column.statistics[0] if column.statistics else None
    if s is None or not s.most_common_vals or not s.most_common_freqs:
        return None
    distinct = s.n_distinct if s.n_distinct > 0 else -s.n_distinct * max(1.0, table.relation.tuples)
    if s.most_common_freqs[0] * distinct < _SKEWED:
        return None
    return array_elements(s.most_common_vals)[0], min(0.9, sum(s.most_common_freqs))


def with_values(sql: str, values: dict[int, str]) -> str | None:
    """The text with some parameters replaced by literals; None where it does not scan.

    >>> with_values("SELECT '$1' FROM t WHERE a = $1 AND b = $2", {1: "it's"})
    "SELECT '$1' FROM t WHERE a = 'it''s' AND b = $2"
    """
    try:
        tokens = postgast.scan(sql).tokens
    except postgast.PgQueryError:
        return None
    raw, parts, end = sql.encode(), [], 0
    for t in tokens:
        text = raw[t.start : t.end]
        if text.startswith(b"$") and text[1:].isdigit() and int(text[1:]) in values:
            parts += [raw[end : t.start], literal(values[int(text[1:])]).encode()]
            end = t.end
    return b"".join([*parts, raw[end:]]).decode()
