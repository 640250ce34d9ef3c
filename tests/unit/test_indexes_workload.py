from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.errors import RecordError, UsageError
from dbperf.indexes.redact import array_elements, redact
from dbperf.indexes.workload import LONGEST_BYTES, checked
from dbperf.indexes.workload_files import read_workload
from dbperf.records.advice import IndexKey, IndexSpec
from dbperf.records.shadow import Catalog, Column, ColumnStatistics, Relation, WorkloadStatement


def test_folder_of_sql_files(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("-- calls: 12\nSELECT * FROM a WHERE b = 1;\n")
    (tmp_path / "two.sql").write_text("SELECT 1; SELECT * FROM \"Große\" WHERE x = ';'; -- end\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "three.sql").write_text("UPDATE a SET b = $1")
    (tmp_path / "bad.sql").write_text("SELEC 1")
    (tmp_path / "utility.sql").write_text("VACUUM; SELECT 2;")
    (tmp_path / "huge.sql").write_text(f"SELECT '{'x' * LONGEST_BYTES}'")
    (tmp_path / "empty.sql").write_text("  \n")
    (tmp_path / "weights.json").write_text('{"two:1": 7}')
    found = read_workload(tmp_path)
    assert {s.id: s.calls for s in found.statements} == {
        "one": 12, "two:1": 7, "two:2": 1, "sub/three": 1, "utility:2": 1,
    }  # fmt: skip
    reasons = {s.id: s.reason for s in found.skipped}
    assert set(reasons) == {"bad", "utility:1", "huge"}
    assert "does not parse" in reasons["bad"]
    assert "utility statement" in reasons["utility:1"]
    assert "longer than" in reasons["huge"]


def test_equal_statements_are_one_with_their_calls_added() -> None:
    given_ = [WorkloadStatement(id=str(i), text="SELECT 1 FROM t WHERE a = $1;", calls=2) for i in range(3)]
    [one] = checked(given_).statements
    assert one.id == "0"
    assert one.calls == 6


def test_texts_of_pg_stat_statements_are_repaired() -> None:
    [one] = checked([WorkloadStatement(id="1", text="SELECT now() - interval $1")]).statements
    assert one.text == "SELECT now() - $1::interval"


@pytest.mark.parametrize("text", ["SELECT '\0'", "", ";;", "SELECT 1; SELECT 2", "CREATE TABLE x (a int)"])
def test_what_has_no_plan_is_skipped_with_a_reason(text: str) -> None:
    found = checked([WorkloadStatement(id="x", text=text)])
    assert found.statements == []
    assert found.skipped[0].reason


def test_no_workload(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_workload(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"nor \.sql files"):
        read_workload(tmp_path)
    (tmp_path / "a.sql").write_text("")
    with pytest.raises(UsageError, match="are empty"):
        read_workload(tmp_path)
    (tmp_path / "weights.json").write_text("[1]")
    with pytest.raises(RecordError, match=r"weights\.json"):
        read_workload(tmp_path)


def _catalog(*columns: Column) -> Catalog:
    relation = Relation(
        schema="public", name="t", kind="table", pages=10, stored_pages=10, tuples=100, all_visible_pages=0,
        columns=list(columns),
    )  # fmt: skip
    return Catalog(
        source="x", database="d", server_version="18", server_version_num=180000,
        read_at=datetime(2026, 1, 2, tzinfo=UTC), read_s=0, settings={}, search_path="public", relations=[relation],
        workload=[WorkloadStatement(id="1", text="SELECT * FROM t WHERE name = 'Kim Secret' AND n > 4711471147")],
    )  # fmt: skip


def _values(**values: object) -> list[ColumnStatistics]:
    return [ColumnStatistics(inherited=False, null_frac=0.0, avg_width_bytes=8, n_distinct=-1.0, **values)]  # type: ignore[arg-type]


def test_redacting_keeps_no_value_of_a_row_and_no_literal() -> None:
    catalog = _catalog(
        Column(name="name", number=1, type="text", statistics=_values(
            most_common_vals='{"Kim Secret",Ada}', most_common_freqs=[0.5, 0.1], histogram_bounds='{"Eve A",Zoe}')),
        Column(name="other", number=2, type="character varying(40)", statistics=_values(
            most_common_vals="{Ada}", most_common_freqs=[0.2])),
        Column(name="code", number=3, type="character varying(3)", statistics=_values(
            most_common_vals="{x-y}", most_common_freqs=[0.2])),
        Column(name="n", number=4, type="integer", statistics=_values(
            most_common_vals="{4711471147}", most_common_freqs=[0.2], histogram_bounds="{1,99}")),
        Column(name="tags", number=5, type="text[]", statistics=_values(
            most_common_elems="{red}", most_common_elem_freqs=[0.2, 0.2, 0.2, 0.0])),
    )  # fmt: skip
    found = redact(catalog)
    text = found.to_json().decode()
    for secret in ("Kim", "Ada", "Eve", "Zoe", "x-y", "4711471147", "99}", "red}"):
        assert secret not in text, secret
    name, other, code, n, _ = (c.statistics[0] for c in found.relations[0].columns)
    assert name.most_common_freqs == [0.5, 0.1]
    # The same value has the same stand-in in every column: joins are estimated as before.
    assert array_elements(name.most_common_vals or "")[1] == array_elements(other.most_common_vals or "")[0]
    assert code.most_common_vals is None
    assert code.most_common_freqs is None
    assert n.n_distinct == -1.0
    assert found.workload[0].text == "SELECT * FROM t WHERE name = $1 AND n > $2"
    assert redact(catalog).to_json() != text.encode(), "another export has other stand-ins"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=5))
def test_array_elements_reads_what_postgresql_writes(values: list[str]) -> None:
    quoted = ('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
    assert array_elements("{" + ",".join(quoted) + "}") == values


def test_index_sql_quotes_what_must_be_quoted() -> None:
    spec = IndexSpec(
        schema="public",
        table="Order",
        keys=(
            IndexKey(column="user"),
            IndexKey(column="at", descending=True, nulls_first=False),
            IndexKey(expression="lower(name)", operator_class="text_pattern_ops"),
            IndexKey(column="n", nulls_first=False),
        ),
        include=('a"b',),
        predicate="n > 0",
    )
    assert spec.create_sql("i x", concurrently=True) == (
        'CREATE INDEX CONCURRENTLY "i x" ON public."Order" '
        '("user", at DESC NULLS LAST, (lower(name)) text_pattern_ops, n) INCLUDE ("a""b") WHERE n > 0'
    )
