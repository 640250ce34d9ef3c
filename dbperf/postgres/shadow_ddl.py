"""A catalog as SQL for an empty copy: what the planner looks at, and nothing that only runs (triggers, owners, grants).

Each `Step` has variants, best first: the builder takes the first that PostgreSQL accepts and notes what a later one
leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from dbperf.records.shadow import Catalog, CatalogObject, Column, Index, Relation

_KEPT_OPTIONS = ("fillfactor=", "parallel_workers=")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One object to create."""

    object: str
    variants: tuple[str, ...]
    lost: str
    """What a note says where only a later variant worked."""


def quote(name: str) -> str:
    """A quoted identifier.

    >>> print(quote('Größe "x" now'))
    "Größe ""x"" now"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string literal, under standard_conforming_strings = on.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def qualified(schema: str, name: str) -> str:
    return f"{quote(schema)}.{quote(name)}"


def before_tables(catalog: Catalog) -> list[Step]:
    """Schemas, collations, types, sequences and functions. The builder tries those that fail again after the tables."""
    order = ("schema", "collation", "type", "sequence", "function")
    return [_object_step(o) for kind in order for o in catalog.objects if o.kind == kind]


def foreign_servers(catalog: Catalog, available: Set[str]) -> list[Step]:
    """Wrappers and servers, with their cost options and without addresses or accounts.

    Args:
        available: names of the extensions that the shadow's server has.
    """
    steps = []
    for o in catalog.objects:
        if o.kind != "server":
            continue
        wrapper, *options = [line for line in o.sql.split("\n") if line]
        given = ", ".join(f"{k} '{v}'" for k, _, v in (x.partition("=") for x in options))
        create = f"CREATE SERVER {o.name} FOREIGN DATA WRAPPER {quote(wrapper)}" + (
            f" OPTIONS ({given})" if given else ""
        )
        if wrapper in available:
            create = f"CREATE EXTENSION IF NOT EXISTS {quote(wrapper)}; {create}"
        steps.append(Step(object=f"server {o.name}", variants=(create,), lost="its foreign data wrapper is missing"))
    return steps


def table(relation: Relation, known_types: Set[str] | None = None) -> Step:
    """CREATE TABLE of any relation with rows; a materialised view becomes a table.

    Args:
        known_types: names of types that the shadow has; columns of others become text. None: all are there.
    """
    name = qualified(relation.schema, relation.name)
    lost = (
        "defaults and checks" if known_types is None else "columns of types that the shadow does not have became text"
    )
    return Step(
        object=f"{relation.schema}.{relation.name}",
        variants=tuple(_table_sql(relation, name, known_types, full) for full in (True, False)),
        lost=lost,
    )


def _table_sql(relation: Relation, name: str, known_types: Set[str] | None, full: bool) -> str:
    columns = [_column_sql(c, relation, known_types, full) for c in relation.columns]
    checks = [f"CONSTRAINT {c}" for c in relation.constraints] if full else []
    body = f"({', '.join([*columns, *checks])})"
    if relation.kind == "foreign":
        return f"CREATE FOREIGN TABLE {name} {body} SERVER {quote(relation.server or '')}"
    sql = f"CREATE TABLE {name} {body}"
    if relation.partition_key:
        return f"{sql} PARTITION BY {relation.partition_key}"
    if options := [o for o in relation.options if o.startswith(_KEPT_OPTIONS)]:
        sql += f" WITH ({', '.join(options)})"
    return sql


def _column_sql(column: Column, relation: Relation, known_types: Set[str] | None, full: bool) -> str:
    known = known_types is None or column.type in known_types
    parts = [quote(column.name), column.type if known else "text"]
    if column.collation and known:
        parts.append(f"COLLATE {column.collation}")
    if column.generated and column.default:
        if full:
            parts.append(f"GENERATED ALWAYS AS ({column.default}) {column.generated.upper()}")
    elif column.identity and not relation.partition_bound:
        parts.append(f"GENERATED {column.identity.upper()} AS IDENTITY")
    elif column.default and full and not column.generated:
        parts.append(f"DEFAULT {column.default}")
    if column.not_null:
        parts.append("NOT NULL")
    return " ".join(parts)


def attachments(catalog: Catalog) -> Iterator[Step]:
    """Partitions and inheritance, parents before children of children (catalog order is creation order)."""
    for r in catalog.relations:
        for schema, parent in r.parents:
            to, child = qualified(schema, parent), qualified(r.schema, r.name)
            if r.partition_bound:
                sql = f"ALTER TABLE {to} ATTACH PARTITION {child} {r.partition_bound}"
            else:
                sql = f"ALTER TABLE {child} INHERIT {to}"
            yield Step(object=f"{r.schema}.{r.name}", variants=(sql,), lost="it is planned as a table of its own")


def indexes(catalog: Catalog) -> Iterator[Step]:
    """Valid indexes, through their constraint where they have one; then what attaches them to partitioned indexes."""
    attach = []
    for r in catalog.relations:
        for index in r.indexes:
            if not index.valid:
                continue
            yield index_step(r, index)
            if index.parent:
                sql = f"ALTER INDEX {qualified(*index.parent)} ATTACH PARTITION {qualified(index.schema, index.name)}"
                attach.append(
                    Step(object=f"{index.schema}.{index.name}", variants=(sql,), lost="not attached to its parent")
                )
    yield from attach


def index_step(relation: Relation, index: Index) -> Step:
    variants = [index.definition]
    if index.constraint and index.constraint_definition:
        only = "" if relation.kind == "foreign" else "ONLY "
        add = f"ALTER TABLE {only}{qualified(relation.schema, relation.name)} ADD CONSTRAINT {quote(index.constraint)}"
        variants.insert(0, f"{add} {index.constraint_definition}")
    return Step(object=f"{index.schema}.{index.name}", variants=tuple(variants), lost="the constraint that it enforces")


def after_indexes(catalog: Catalog) -> Iterator[Step]:
    """Foreign keys (not validated: that would run a query), views, statistics objects, policies."""
    for k in catalog.foreign_keys:
        definition = k.definition if k.definition.endswith("NOT VALID") else f"{k.definition} NOT VALID"
        add = f"ALTER TABLE {qualified(k.schema, k.table)} ADD CONSTRAINT {quote(k.name)} {definition}"
        yield Step(object=f"foreign key {k.name} of {k.schema}.{k.table}", variants=(add,), lost="")
    for kind in ("view", "statistics", "policy"):
        yield from (_object_step(o) for o in catalog.objects if o.kind == kind)
    for r in catalog.relations:
        if r.row_security:
            name = qualified(r.schema, r.name)
            sql = f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; ALTER TABLE {name} FORCE ROW LEVEL SECURITY"
            yield Step(object=f"{r.schema}.{r.name}", variants=(sql,), lost="row security")


def _object_step(o: CatalogObject) -> Step:
    return Step(object=f"{o.kind} {o.name}", variants=(o.sql,), lost="")


NEWER_PLANNER: Sequence[tuple[int, str]] = (
    (180000, "enable_self_join_elimination"),
    (180000, "enable_distinct_reordering"),
    (170000, "enable_group_by_reordering"),
    (160000, "enable_presorted_aggregate"),
)
"""Planner features with the version that brought them: off in the shadow of an older source."""


def session_settings(catalog: Catalog) -> dict[str, str]:
    """Settings for a session of the shadow, so that it plans as the source's planner would."""
    settings = dict(catalog.settings)
    settings["search_path"] = catalog.search_path
    for since, name in NEWER_PLANNER:
        if catalog.server_version_num < since:
            settings[name] = "off"
    settings["jit"] = "off"  # it changes no cost, and planning alone never compiles
    settings.pop("max_worker_processes", None)
    return settings
