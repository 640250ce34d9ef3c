"""Statements with parameters, planned for more than the average value.

A generic plan takes every value of a column to be equally common, a range to keep a third (or, closed, 0.5 %) of the
rows, and LIMIT $1 to keep a tenth. So a statement is planned with values as well: those that a log had, or a common, a
typical and a rare case from the column's statistics, drawn as `dbperf explain` draws them. How they are weighted is in
docs/advice.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from dbperf.indexes.cases import GENERIC_SHARE, with_values
from dbperf.indexes.clauses import Condition, StatementUse, TableUse
from dbperf.indexes.redact import array_elements
from dbperf.indexes.resolver import Resolver
from dbperf.postgres.bindings import Binding, bindings
from dbperf.postgres.representative import CASES, Case, column_of, value_for
from dbperf.postgres.representative import Column as Drawn
from dbperf.postgres.sql_text import parameters_of
from dbperf.postgres.whatif import Answer, PlanJson, nodes
from dbperf.records.shadow import Column, ColumnStatistics, WorkloadStatement

_SKEWED = 3.0
"""The most common value must be this much more common than the average one for frequencies to be the weights."""
_SAME_ROWS = 2.0
"""Cases whose plans expect rows within this factor are one..."""
_FEW_ROWS = 10.0
"""...and below this many rows all are."""
_CAST = re.compile(r"\$(\d+)\s*::\s*(?:pg_catalog\.)?\"?([a-z][a-z_ ]*(?:\[\])?)")


@dataclass(frozen=True)
class Variant:
    """A statement with or without values. The calls of a statement's variants sum to its own."""

    id: str
    key: str
    text: str
    calls: float
    use: StatementUse
    apart: bool = False
    """It has a pattern for LIKE where the generic plan has a parameter, which no index serves."""


def variants_of(statement: WorkloadStatement, resolver: Resolver) -> list[Variant]:
    """The statement as it is, and with values; see the module."""
    use = resolver.read(statement.text)
    if statement.cases:
        return _observed(statement, use, resolver)
    shares = _shares(use)
    bound = bindings(statement.text)
    apart = any(b.role == "like" for b in bound)
    found = [Variant(statement.id, statement.id, statement.text, statement.calls, use)]
    for case, text in _drawn(statement.text, use, bound):
        if shares[case] > 0 and all(text != v.text for v in found):
            calls = statement.calls * shares[case]
            found.append(Variant(statement.id, f"{statement.id} ({case} values)", text, calls, use, apart))
            found[0] = replace(found[0], calls=found[0].calls - calls)
    return found


def _observed(statement: WorkloadStatement, use: StatementUse, resolver: Resolver) -> list[Variant]:
    """A log's own values. A constant in the text may stand in an index's predicate; a parameter's value may not."""
    rest = max(0.0, 1 - sum(c.share for c in statement.cases))
    found = [Variant(statement.id, statement.id, statement.text, statement.calls * rest, use)]
    fixed = parameters_of(statement.text) == 0
    apart = not fixed and any(b.role == "like" for b in bindings(statement.text))
    for n, case in enumerate(statement.cases, 1):
        key = f"{statement.id} ({case.name} {n})"
        read = resolver.read(case.text) if fixed else use
        found.append(Variant(statement.id, key, case.text, statement.calls * case.share, read, apart))
    return found


class _Bands(NamedTuple):
    """How often a skewed column's values are asked for, where each is asked for as often as it occurs (0..1)."""

    common: float
    """Of values at least half as frequent as the most common one."""
    typical: float
    """Of the other values in the list of common ones."""
    rare: float
    middle: str | None
    """The value in the middle of the typical ones, by frequency."""


def _shares(use: StatementUse) -> dict[Case, float]:
    """Each case's share of the calls; what is left is the generic plan's.

    All four count the same, but where a parameter is compared with a skewed column: there the three cases share their
    three quarters as the column's values do.
    """
    found = [b for t in use.tables for c in t.conditions if (b := _bands(t, c)) is not None]
    if not found:
        return dict.fromkeys(CASES, GENERIC_SHARE)
    bands = max(found, key=lambda b: b.common)
    rest = 1 - GENERIC_SHARE
    return {"common": rest * bands.common, "typical": rest * bands.typical, "rare": rest * bands.rare}


def _bands(table: TableUse, c: Condition) -> _Bands | None:
    """None where the condition has no parameter, or the column no skew."""
    if c.parameter is None or c.kind != "equal" or not c.key.is_column:
        return None
    s = _statistics(next(x for x in table.relation.columns if x.name == c.key.text))
    if s is None or not s.most_common_vals or not s.most_common_freqs:
        return None
    frequencies = s.most_common_freqs
    distinct = s.n_distinct if s.n_distinct > 0 else -s.n_distinct * max(1.0, table.relation.tuples)
    if frequencies[0] * distinct < _SKEWED:
        return None
    top = sum(f >= frequencies[0] / 2 for f in frequencies)
    common, typical = sum(frequencies[:top]), sum(frequencies[top:])
    upto = list(accumulate(frequencies[top:]))
    at = next((i for i, f in enumerate(upto) if f >= typical / 2), None)
    values = array_elements(s.most_common_vals)
    middle = values[top + at] if at is not None and top + at < len(values) else None
    return _Bands(common, typical, max(0.0, 1 - common - typical), middle)


def _drawn(text: str, use: StatementUse, bound: Sequence[Binding]) -> Iterator[tuple[Case, str]]:
    """The text with values of each case, as far as statistics have some; other parameters stay."""
    if not parameters_of(text):
        return
    casts = {int(n): name.strip() for n, name in _CAST.findall(text)}
    columns = _columns(bound, use)
    pairs = [(c.parameter, _bands(t, c)) for t in use.tables for c in t.conditions]
    middles = {number: bands.middle for number, bands in pairs if bands is not None}
    for case in CASES:
        values: dict[int, str | None] = {}
        times: dict[tuple[str | None, str], int] = {}
        for b in bound:
            column = column_of(b, columns)
            if b.column is not None:
                if column is None or not (column.common or column.bounds):
                    continue
                # IN ($1, $2) asks for different values.
                turn = times.get((b.column, b.role), 0)
                times[b.column, b.role] = turn + 1
                column = column._replace(common=_turned(column.common, turn), bounds=_turned(column.bounds, turn))
                if case == "typical" and (middle := middles.get(b.number)) is not None:
                    column = column._replace(common=[middle], bounds=[])
            declared = casts.get(b.number, _declared(b, column))
            value, origin = value_for(case, b, column, declared)
            if "a default of type" not in origin:
                values[b.number] = value
        if values and (filled := with_values(text, values)) is not None:
            yield case, filled


def _declared(b: Binding, column: Drawn | None) -> str:
    if column is None:
        return "bigint"
    return f"{column.type}[]" if b.role == "any" else column.type


def _turned(values: list[str], by: int) -> list[str]:
    by = by % len(values) if values else 0
    return values[by:] + values[:by]


def _columns(bound: Sequence[Binding], use: StatementUse) -> dict[tuple[str, str], Drawn]:
    wanted = {(t, b.column) for b in bound if b.column for t in b.tables}
    found: dict[tuple[str, str], Drawn] = {}
    for table in use.tables:
        for c in table.relation.columns:
            name = (table.relation.name, c.name)
            if name in wanted and name not in found and (s := _statistics(c)) is not None:
                common = array_elements(s.most_common_vals) if s.most_common_vals else []
                bounds = array_elements(s.histogram_bounds) if s.histogram_bounds else []
                found[name] = Drawn(c.type.removeprefix("pg_catalog."), common, bounds)
    return found


def _statistics(column: Column) -> ColumnStatistics | None:
    """Of the table with its children, where there are such."""
    return max(column.statistics, key=lambda s: s.inherited, default=None)


def planned_apart(variants: Sequence[Variant], answers: Sequence[Answer]) -> list[tuple[Variant, Answer]]:
    """A statement's variants that the planner tells apart; the calls of the others go to the ones they are like.

    A case that can't be planned counts for the first that can. Empty where none can.
    """
    kept: list[tuple[Variant, Answer, Mapping[str, float]]] = []
    lost = 0.0
    for v, answer in zip(variants, answers, strict=True):
        if answer.cost is None or answer.plan is None:
            lost += v.calls
            continue
        rows = _rows(answer.plan)
        for i, (other, its, known) in enumerate(kept):
            if v.apart == other.apart and _alike(rows, known):
                # The one with a parameter stands for both: what it was asked with is no constant of the statement.
                kept[i] = (replace(other, calls=other.calls + v.calls), its, known)
                break
        else:
            kept.append((v, answer, rows))
    if kept:
        first, answer, known = kept[0]
        kept[0] = (replace(first, calls=first.calls + lost), answer, known)
    asked = any(v.calls > 0 for v, _, _ in kept)
    return [(v, a) for v, a, _ in kept if v.calls > 0 or not asked]


def _rows(plan: PlanJson) -> dict[str, float]:
    """Expected rows of the result and of each table, over all loops being one."""
    found = {"": float(plan["Plan Rows"])}
    for node in nodes(plan):
        if alias := node.get("Alias"):
            found[alias] = max(found.get(alias, 0.0), float(node["Plan Rows"]))
    return found


def _alike(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and all(
        max(a[k], b[k], _FEW_ROWS) <= _SAME_ROWS * max(min(a[k], b[k]), _FEW_ROWS) for k in a
    )
