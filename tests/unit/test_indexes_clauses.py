"""What is read from parse trees, and what candidates follow from it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from dbperf.indexes.candidates import Options, candidates, covers, merged, redundant, simpler
from dbperf.indexes.clauses import StatementUse
from dbperf.indexes.resolver import Resolver
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.shadow import (
    Catalog,
    CatalogObject,
    Column,
    ColumnStatistics,
    Index,
    Relation,
    RelationKind,
)


def column(name: str, number: int, type_: str = "integer", n_distinct: float = -0.5, **more: object) -> Column:
    s = ColumnStatistics(inherited=False, null_frac=0, avg_width_bytes=4, n_distinct=n_distinct, **more)  # type: ignore[arg-type]
    return Column(name=name, number=number, type=type_, statistics=[s])


def table(
    name: str, columns: list[Column], indexes: list[Index] | None = None, kind: RelationKind = "table"
) -> Relation:
    return Relation(
        schema="public", name=name, kind=kind, pages=5000, stored_pages=5000, tuples=400000, all_visible_pages=5000,
        columns=columns, indexes=indexes or [],
    )  # fmt: skip


def index(name: str, keys: list[str], **more: object) -> Index:
    plain: dict[str, object] = {
        "name": name, "schema": "public", "definition": "", "method": "btree", "unique": False, "primary": False,
        "valid": True, "keys": keys, "descending": [False] * len(keys), "nulls_first": [False] * len(keys),
        "operator_classes": [""] * len(keys), "pages": 100, "tuples": 400000,
    }  # fmt: skip
    return Index(**{**plain, **more})  # type: ignore[arg-type]


A_COLUMNS = [
    column("id", 1),
    column("x", 2),
    column("y", 3, "text", 4.0),
    column("z", 4, "timestamp with time zone"),
    column("tags", 5, "text[]"),
    column("done", 6, "boolean", 2.0),
]
A = table("a", A_COLUMNS, [index("a_pkey", ["id"], unique=True)])
B = table("b", [column("id", 1), column("a_id", 2), column("x", 3)])
VIEW = CatalogObject(
    kind="view", name="public.v", sql="CREATE VIEW public.v AS SELECT id AS key, x FROM public.a WHERE y = 'k'"
)
CATALOG = Catalog(
    source="x", database="d", server_version="18", server_version_num=180000, read_at=datetime.now(UTC), read_s=0,
    settings={}, search_path='"$user", public', relations=[A, B], objects=[VIEW],
)  # fmt: skip


def read(sql: str) -> StatementUse:
    return Resolver(CATALOG).read(sql)


def conditions(sql: str) -> dict[str, list[tuple[str, str]]]:
    return {t.alias: [(c.kind, c.key.text) for c in t.conditions] for t in read(sql).tables}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1 FROM a WHERE x = 1 AND z > now()", [("equal", "x"), ("range", "z")]),
        ("SELECT 1 FROM a WHERE y IN ('a', 'b')", [("in", "y")]),
        ("SELECT 1 FROM a WHERE 5 = x AND x BETWEEN $1 AND $2", [("equal", "x"), ("range", "x")]),
        ("SELECT 1 FROM a WHERE x = ANY($1) OR id = 3", [("in", "x"), ("equal", "id")]),
        ("SELECT 1 FROM a WHERE y LIKE 'ab%' AND tags @> $1", [("prefix", "y"), ("contains", "tags")]),
        ("SELECT 1 FROM a WHERE y LIKE '%ab'", [("substring", "y")]),
        ("SELECT 1 FROM a WHERE x IS NULL AND NOT done", [("null", "x"), ("true", "done")]),
        ("SELECT 1 FROM a WHERE y IS NOT NULL", [("not_null", "y")]),
        ("SELECT 1 FROM a WHERE lower(y) = $1", [("equal", "lower(y)")]),
        ("SELECT 1 FROM a WHERE y::text = 'k' AND x::text = '3'", [("equal", "y"), ("equal", "x::text")]),
        ("SELECT 1 FROM a WHERE x + $1 = 3 AND x = id AND random() < 0.1", []),
        ("SELECT 1 FROM a WHERE x > (SELECT max(x) FROM b)", [("range", "x")]),
        ("WITH c AS (SELECT * FROM a) SELECT * FROM c WHERE c.x = 4", [("equal", "x")]),
        ("SELECT * FROM (SELECT id AS k, x FROM a) s WHERE s.k = 4", [("equal", "id")]),
        ("SELECT * FROM v WHERE key = 3", [("equal", "y"), ("equal", "id")]),
        ("UPDATE a SET x = 1 WHERE id = $1", [("equal", "id")]),
        ("DELETE FROM public.a WHERE x < 3", [("range", "x")]),
    ],
)  # fmt: skip
def test_conditions(sql: str, expected: list[tuple[str, str]]) -> None:
    assert next(iter(conditions(sql).values())) == expected


def test_joins_in_all_their_forms() -> None:
    for sql in (
        "SELECT 1 FROM a JOIN b ON b.a_id = a.id",
        "SELECT 1 FROM a, b WHERE a.id = b.a_id",
        "SELECT 1 FROM a WHERE EXISTS (SELECT FROM b WHERE b.a_id = a.id)",
        "SELECT 1 FROM a WHERE id IN (SELECT a_id FROM b)",
    ):
        found = conditions(sql)
        assert ("join", "id") in found["a"], sql
        assert ("join", "a_id") in found["b"], sql


def test_orders_groups_and_columns() -> None:
    use = read("SELECT y, x AS other FROM a WHERE id = 1 ORDER BY z DESC NULLS LAST, other LIMIT 5").tables[0]
    assert [(o.key.text, o.descending, o.nulls_first) for o in use.orders[0]] == [
        ("z", True, False),
        ("x", False, None),
    ]
    assert use.limited
    assert use.columns == {"id", "x", "y", "z"}
    assert [k.text for k in read("SELECT y, count(*) FROM a GROUP BY 1").tables[0].groups[0]] == ["y"]
    assert read("SELECT max(x) FROM a").tables[0].orders[0][0].key.text == "x"
    assert read("SELECT y, sum(x) FROM a GROUP BY y ORDER BY 2").tables[0].orders == []
    assert read("SELECT a.* FROM a").tables[0].all_columns
    assert read("UPDATE a SET x = 1, y = 'b'").written == {("public", "a"): frozenset({"x", "y"})}
    assert read("SELEC").tables == []


def test_a_name_of_two_tables_is_not_guessed() -> None:
    found = conditions("SELECT 1 FROM a, b WHERE x = 1")
    assert found == {"a": [], "b": []}


def keys(spec: IndexSpec) -> str:
    text = ",".join((k.column or k.expression or "") + (" DESC" if k.descending else "") for k in spec.keys)
    return (
        text
        + (f"+{','.join(spec.include)}" if spec.include else "")
        + (f" WHERE {spec.predicate}" if spec.predicate else "")
    )


def made(sql: str, **options: object) -> list[str]:
    return [keys(s) for s in candidates(read(sql).tables[0], Options(**options))]  # type: ignore[arg-type]


def test_candidates() -> None:
    found = made("SELECT id FROM a WHERE x = $1 ORDER BY z DESC LIMIT 3")
    assert "x,z DESC" in found
    assert "x,z DESC+id" in found
    assert "x" in found
    assert "x,z WHERE y = 'k'" in made("SELECT id FROM a WHERE y = 'k' AND x = 1 AND z > $1")
    assert made("SELECT * FROM a WHERE id = 3") == [], "the primary key does it"
    assert all(s.count(",") < 2 for s in made("SELECT * FROM a WHERE x = 1 AND y = $1 AND z > $2", max_width=2))
    assert not any("+" in s for s in made("SELECT id FROM a WHERE x = 1", include=False))
    assert not any("WHERE" in s for s in made("SELECT id FROM a WHERE y = 'k' AND x = 1", partial=False))
    # A predicate on a column of many values would serve one statement only.
    assert not any("WHERE" in s for s in made("SELECT id FROM a WHERE x = 17 AND z > $1"))


def test_few_columns_of_groups_of_all_rows_are_offered_in_the_order_of_the_table() -> None:
    """An index-only scan in that order comes to each page of the table once."""
    logs = table(
        "logs",
        [
            column("id", 1, correlation=1.0), column("at", 2, correlation=-0.99), column("who", 3),
            column("what", 4, correlation=0.5),
        ],
        [index("logs_pkey", ["id"], unique=True)],
    )  # fmt: skip
    resolver = Resolver(msgspec.structs.replace(CATALOG, relations=[logs]))

    def offered(sql: str, max_width: int = 3) -> list[str]:
        return [keys(s) for s in candidates(resolver.read(sql).tables[0], Options(max_width=max_width))]

    assert "at,who" in offered("SELECT who, count(*) FROM logs GROUP BY who")
    assert "at,what,who" in offered("SELECT who, max(what) FROM logs GROUP BY who")
    assert not any(s.startswith("at") for s in offered("SELECT who, max(what) FROM logs GROUP BY who", max_width=2))
    assert not any(s.startswith("id") for s in offered("SELECT who, count(*) FROM logs GROUP BY who"))
    assert "at,who" not in offered("SELECT who, count(*) FROM logs WHERE what = 1 GROUP BY who")
    assert not any(s.startswith("at") for s in offered("SELECT who, what FROM logs WHERE who <> 3"))


def test_covering_by_an_existing_index() -> None:
    spec = IndexSpec(schema="public", table="a", keys=(IndexKey(column="x"), IndexKey(column="z")))
    assert covers(index("i", ["x", "z", "y"]), spec)
    assert covers(index("i", ["x", "z"], descending=[True, True], nulls_first=[True, True]), spec), "read backwards"
    assert not covers(index("i", ["x", "z"], descending=[False, True], nulls_first=[False, True]), spec)
    assert not covers(index("i", ["x"]), spec)
    assert not covers(index("i", ["z", "x"]), spec)
    assert not covers(index("i", ["x", "z"], predicate="x > 3"), spec)
    assert not covers(index("i", ["x", "z"], valid=False), spec)
    assert not covers(index("i", ["x", "z"], operator_classes=["", "text_pattern_ops"]), spec)


def test_variants_of_sets() -> None:
    a = IndexSpec(schema="s", table="t", keys=(IndexKey(column="x"),), include=("p",))
    b = IndexSpec(schema="s", table="t", keys=(IndexKey(column="x"), IndexKey(column="y")), include=("q",))
    both = merged(a, b)
    assert both is not None
    assert keys(both) == "x,y+p,q"
    assert merged(b, a) == both
    assert merged(a, IndexSpec(schema="s", table="t", keys=(IndexKey(column="y"),))) is None
    assert [keys(s) for s in simpler(b)] == ["x,y", "x+q", "x"]


def test_redundant_indexes() -> None:
    relation = table("t", [column("x", 1), column("y", 2)], [
        index("t_x", ["x"]), index("t_x2", ["x"]), index("t_xy", ["x", "y"]), index("t_u", ["y"], unique=True),
    ])  # fmt: skip
    assert {a.name for a, _ in redundant(relation)} == {"t_x", "t_x2"}
