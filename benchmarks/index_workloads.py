"""Workloads for the advisor's benchmark. A shadow needs no rows, so that catalogs are made from their known statistics.

Star Schema Benchmark: O'Neil, O'Neil, Chen (2009), https://www.cs.umb.edu/~poneil/StarSchemaB.PDF, at scale factor 1.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

from dbperf.indexes.candidates import as_spec
from dbperf.indexes.size import estimate
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Index, Relation, WorkloadStatement

WIDTHS = {
    "integer": 4,
    "bigint": 8,
    "smallint": 2,
    "date": 4,
    "numeric": 7,
    "boolean": 1,
    "timestamp with time zone": 8,
}
SETTINGS = {"random_page_cost": "1.1", "effective_cache_size": "4GB", "work_mem": "64MB", "cpu_operator_cost": "0.0025"}
# name, type, number of distinct values (below 0: a share of the rows)
ColumnDef = tuple[str, str, float]


def column(number: int, rows: int, definition: ColumnDef, width: int | None = None) -> Column:
    """Uniform values: a histogram where there are many, most common values where there are few."""
    name, type_, distinct = definition
    count = int(distinct if distinct > 0 else -distinct * rows)
    base = type_.split("(")[0]

    def value(i: int) -> str:
        if base == "date":
            return (date(1992, 1, 1) + timedelta(days=i)).isoformat()
        if base.startswith("timestamp"):
            return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i)).isoformat()
        if base == "boolean":
            return "tf"[i % 2]
        return str(i) if base in WIDTHS else f"{name[-6:]}{i:06d}"

    few = count <= 100
    bounds = None if few else "{" + ",".join(f'"{value(i * (count - 1) // 100)}"' for i in range(101)) + "}"
    s = ColumnStatistics(
        inherited=False,
        null_frac=0.0,
        avg_width_bytes=width or WIDTHS.get(base, 13),
        n_distinct=distinct,
        most_common_vals="{" + ",".join(f'"{value(i)}"' for i in range(count)) + "}" if few else None,
        most_common_freqs=[1 / count] * count if few else None,
        histogram_bounds=bounds,
        correlation=1.0 if distinct == -1 else 0.02,
    )
    return Column(name=name, number=number, type=type_, not_null=True, statistics=[s])


def table(name: str, rows: int, columns: list[ColumnDef], key: str) -> Relation:
    found = [column(n, rows, c) for n, c in enumerate(columns, 1)]
    width = 24 + 4 + sum(c.statistics[0].avg_width_bytes for c in found)
    pages = max(1, rows * (width + 4) // 8150)
    plain = Relation(
        schema="public", name=name, kind="table", pages=pages, stored_pages=pages, tuples=rows, all_visible_pages=pages,
        columns=found,
    )  # fmt: skip
    index = Index(
        name=f"{name}_pkey", schema="public", definition="", method="btree", unique=True, primary=True, valid=True,
        keys=[key], descending=[False], nulls_first=[False], operator_classes=[""], constraint=f"{name}_pkey",
        constraint_definition=f"PRIMARY KEY ({key})", pages=2, tuples=rows,
    )  # fmt: skip
    size = estimate(plain, as_spec(index, plain))
    fields = {f: getattr(index, f) for f in index.__struct_fields__}
    return Relation(
        **{f: getattr(plain, f) for f in plain.__struct_fields__}
        | {"indexes": [Index(**fields | {"pages": size.pages})]}
    )


def catalog(name: str, relations: list[Relation]) -> Catalog:
    return Catalog(
        source=name, database=name, server_version="18", server_version_num=180000, read_at=datetime.now(UTC), read_s=0,
        collate="C", ctype="C", settings=SETTINGS, search_path="public", relations=relations,
    )  # fmt: skip


def ssb() -> tuple[Catalog, list[WorkloadStatement]]:
    """The Star Schema Benchmark's 13 queries at scale factor 1."""
    lo, cu, su, pa, da = 6_000_000, 30_000, 2_000, 200_000, 2_556
    place: list[ColumnDef] = [("city", "varchar(10)", 250), ("nation", "varchar(15)", 25), ("region", "varchar(12)", 5)]
    tables = [
        table("lineorder", lo, [
            ("lo_orderkey", "bigint", -0.25), ("lo_linenumber", "integer", 7), ("lo_custkey", "integer", cu),
            ("lo_partkey", "integer", pa), ("lo_suppkey", "integer", su), ("lo_orderdate", "integer", da),
            ("lo_orderpriority", "varchar(15)", 5), ("lo_quantity", "integer", 50), ("lo_extendedprice", "integer", 1e6),
            ("lo_discount", "integer", 11), ("lo_revenue", "integer", 1e6), ("lo_supplycost", "integer", 1e5),
            ("lo_key", "bigint", -1.0)], "lo_key"),
        table("customer", cu, [("c_custkey", "integer", -1.0), *((f"c_{n}", t, d) for n, t, d in place)], "c_custkey"),
        table("supplier", su, [("s_suppkey", "integer", -1.0), *((f"s_{n}", t, d) for n, t, d in place)], "s_suppkey"),
        table("part", pa, [("p_partkey", "integer", -1.0), ("p_mfgr", "varchar(6)", 5), ("p_category", "varchar(7)", 25),
                           ("p_brand1", "varchar(9)", 1000)], "p_partkey"),
        table("dates", da, [("d_datekey", "integer", -1.0), ("d_year", "integer", 7), ("d_yearmonthnum", "integer", 84),
                            ("d_yearmonth", "varchar(7)", 84), ("d_weeknuminyear", "integer", 53)], "d_datekey"),
    ]  # fmt: skip
    join = {
        "d": "lo_orderdate = d_datekey", "c": "lo_custkey = c_custkey", "s": "lo_suppkey = s_suppkey",
        "p": "lo_partkey = p_partkey",
    }  # fmt: skip
    tables_of = {"d": "dates", "c": "customer", "s": "supplier", "p": "part"}
    discount = "sum(lo_extendedprice * lo_discount)"
    profit = "sum(lo_revenue - lo_supplycost)"

    def query(select: str, dims: str, where: str, group: str | None = None) -> str:
        sources = ", ".join(["lineorder", *(tables_of[d] for d in dims)])
        text = f"SELECT {select} FROM {sources} WHERE {' AND '.join(join[d] for d in dims)} AND {where}"
        return f"{text} GROUP BY {group} ORDER BY {group}" if group else text

    nation, region, city, brand = "nation0000", "region0000", "_city0000", "brand10000"
    queries = [
        query(discount, "d", "d_year = 3 AND lo_discount BETWEEN 1 AND 3 AND lo_quantity < 25"),
        query(discount, "d", "d_yearmonthnum = 25 AND lo_discount BETWEEN 4 AND 6 AND lo_quantity BETWEEN 26 AND 35"),
        query(discount, "d", "d_weeknuminyear = 6 AND d_year = 2 AND lo_discount BETWEEN 5 AND 7 AND lo_quantity > 26"),
        query("sum(lo_revenue), d_year, p_brand1", "dps", f"p_category = 'tegory000012' AND s_region = '{region}01'", "d_year, p_brand1"),
        query("sum(lo_revenue), d_year, p_brand1", "dps", f"p_brand1 BETWEEN '{brand}10' AND '{brand}18' AND s_region = '{region}02'", "d_year, p_brand1"),
        query("sum(lo_revenue), d_year, p_brand1", "dps", f"p_brand1 = '{brand}33' AND s_region = '{region}03'", "d_year, p_brand1"),
        query("c_nation, s_nation, d_year, sum(lo_revenue)", "csd", f"c_region = '{region}02' AND s_region = '{region}02' AND d_year BETWEEN 0 AND 5", "c_nation, s_nation, d_year"),
        query("c_city, s_city, d_year, sum(lo_revenue)", "csd", f"c_nation = '{nation}07' AND s_nation = '{nation}07' AND d_year BETWEEN 0 AND 5", "c_city, s_city, d_year"),
        query("c_city, s_city, d_year, sum(lo_revenue)", "csd", f"c_city IN ('{city}01', '{city}05') AND s_city IN ('{city}01', '{city}05') AND d_year BETWEEN 0 AND 5", "c_city, s_city, d_year"),
        query("c_city, s_city, d_year, sum(lo_revenue)", "csd", f"c_city IN ('{city}01', '{city}05') AND s_city IN ('{city}01', '{city}05') AND d_yearmonth = 'rmonth000011'", "c_city, s_city, d_year"),
        query(f"d_year, c_nation, {profit}", "dcsp", f"c_region = '{region}01' AND s_region = '{region}01' AND p_mfgr IN ('p_mfgr000001', 'p_mfgr000002')", "d_year, c_nation"),
        query(f"d_year, s_nation, p_category, {profit}", "dcsp", f"c_region = '{region}01' AND s_region = '{region}01' AND d_year IN (5, 6) AND p_mfgr IN ('p_mfgr000001', 'p_mfgr000002')", "d_year, s_nation, p_category"),
        query(f"d_year, s_city, p_brand1, {profit}", "dcsp", f"s_nation = '{nation}24' AND d_year IN (5, 6) AND p_category = 'tegory000014'", "d_year, s_city, p_brand1"),
    ]  # fmt: skip
    return catalog("ssb", tables), [WorkloadStatement(id=f"ssb-{n}", text=q) for n, q in enumerate(queries, 1)]


def mixed(count: int, tables: int = 50, seed: int = 7) -> tuple[Catalog, list[WorkloadStatement]]:
    """Generated statements over generated tables: lookups, ranges, top lists, joins, groups and writes, Zipf-like calls."""
    draw = random.Random(seed)
    relations = []
    for t in range(tables):
        rows = int(10 ** draw.uniform(3.5, 6.7))
        columns: list[ColumnDef] = [("id", "bigint", -1.0), ("parent_id", "bigint", max(50, rows // 20)),
                                    ("status", "varchar(12)", 5), ("kind", "integer", 40), ("created", "timestamp with time zone", -0.9),
                                    ("amount", "numeric(12,2)", rows // 3), ("name", "text", -0.7), ("active", "boolean", 2)]  # fmt: skip
        columns += [(f"c{i}", draw.choice(["integer", "text", "date"]), float(draw.choice([20, 300, 5000, rows // 4])))
                    for i in range(draw.randint(1, 6))]  # fmt: skip
        relations.append(table(f"t{t}", rows, columns, "id"))
    statements = []
    for n in range(count):
        r = relations[min(tables - 1, int(draw.paretovariate(0.7)) - 1)]
        parent = draw.choice(relations)
        extra = [c.name for c in r.columns[8:]]
        equal = draw.sample(["parent_id", "status", "kind", *extra], k=draw.randint(1, 2))
        where = " AND ".join(f"a.{c} = ${i}" for i, c in enumerate(equal, 1))
        constant = "a.status = 'status000001' AND " if draw.random() < 0.2 and "status" not in equal else ""
        text = draw.choice([
            f"SELECT a.id, a.amount FROM {r.name} a WHERE {constant}{where}",
            f"SELECT * FROM {r.name} a WHERE {constant}{where} ORDER BY a.created DESC LIMIT 20",
            f"SELECT a.name, a.created FROM {r.name} a WHERE {where} AND a.created > '2026-03-01'",
            f"SELECT a.kind, count(*), sum(a.amount) FROM {r.name} a WHERE {constant}{where} GROUP BY a.kind",
            f"SELECT a.id, p.name FROM {r.name} a JOIN {parent.name} p ON p.id = a.parent_id WHERE {where} AND p.kind = 7",
            f"SELECT p.id, sum(a.amount) FROM {parent.name} p JOIN {r.name} a ON a.parent_id = p.id WHERE p.status = 'status000002' AND {where} GROUP BY p.id",
            f"SELECT a.id FROM {r.name} a WHERE lower(a.name) = 'x' AND {where}",
            f"UPDATE {r.name} a SET amount = 0 WHERE {where}",
        ])  # fmt: skip
        statements.append(WorkloadStatement(id=f"m{n}", text=text, calls=float(int(1000 / (1 + n % 97)))))
    return catalog(f"mixed-{count}", relations), statements
