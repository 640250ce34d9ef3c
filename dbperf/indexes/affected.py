"""Which statements a gap in the shadow's statistics may mislead: a note on an object alone helps nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dbperf.indexes.clauses import StatementUse
from dbperf.records.advice import quoted
from dbperf.records.shadow import Catalog, Relation

_NAMED_MOST = 5
_DEFINITION = re.compile(
    r"CREATE STATISTICS (?P<name>.+?) (?:\((?P<kinds>[a-z, ]+)\) )?ON (?P<on>.+) FROM (?P<table>.+?);?\s*$", re.DOTALL
)
_KINDS = ("ndistinct", "dependencies", "mcv")


class Defined(NamedTuple):
    """A statistics object, as its definition (pg_get_statisticsobjdef) says."""

    name: str
    """Quoted and qualified."""
    relation: Relation
    columns: frozenset[str]
    expressions: bool
    kinds: frozenset[str]
    """Empty: one expression's own statistics."""


def defined(catalog: Catalog) -> Iterator[Defined]:
    """The statistics objects of a database; those on tables that could not be read are left out."""
    by_name: dict[str, Relation] = {}
    for r in catalog.relations:
        by_name[f"{quoted(r.schema)}.{quoted(r.name)}"] = r
        by_name.setdefault(quoted(r.name), r)
    for o in catalog.objects:
        m = _DEFINITION.match(o.sql) if o.kind == "statistics" else None
        if m is None or (relation := by_name.get(m["table"].strip())) is None:
            continue
        parts = [p.strip() for p in m["on"].split(",")]
        columns = frozenset(c.name for c in relation.columns if quoted(c.name) in parts)
        expressions = len(columns) < len(parts)
        kinds = frozenset(k.strip() for k in m["kinds"].split(",")) if m["kinds"] else frozenset(_KINDS)
        yield Defined(o.name, relation, columns, expressions, kinds if len(parts) > 1 else frozenset())


def affected_notes(catalog: Catalog, uses: Mapping[str, Sequence[StatementUse]]) -> list[str]:
    """One line for each statistics object that could not be carried over whole, with the statements that it is for.

    Args:
        uses: by statement id.
    """
    known = {f"{quoted(s.schema)}.{quoted(s.name)}": s for s in catalog.extended_statistics}
    notes = []
    for d in defined(catalog):
        data = known.get(d.name)
        if data is None:
            what = "data, which only the table's owner is shown,"
        elif data.has_mcv:
            what = "most common value combinations"
        elif data.has_expressions:
            what = "statistics of expressions"
        else:
            continue
        ids = [id_ for id_, several in uses.items() if any(_concerned(d, use) for use in several)]
        if ids:
            more = f" and {len(ids) - _NAMED_MOST} more" if len(ids) > _NAMED_MOST else ""
            notes.append(f"{d.name}: without its {what} estimates of {', '.join(ids[:_NAMED_MOST])}{more} may be off")
    return notes


def _concerned(d: Defined, use: StatementUse) -> bool:
    """Whether a statement compares or groups by two of the columns, or by an expression."""
    for table in use.tables:
        if table.relation is not d.relation:
            continue
        keys = [c.key for c in table.conditions] + [k for group in table.groups for k in group]
        if len({k.text for k in keys if k.is_column} & d.columns) > 1:
            return True
        if d.expressions and any(not k.is_column for k in keys):
            return True
    return False
