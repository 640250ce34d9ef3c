"""Documents survive the round trip, old ones are upgraded, broken ones are named with line and field."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from dbperf.errors import OutputError, RecordError
from dbperf.records.base import Document, parse_document, write_atomic
from dbperf.records.run import Host, Manifest, RunStage
from dbperf.records.rundir import RunDirectory, default_path
from dbperf.records.statements import Statements, Validity, Window


def manifest(**changes: Any) -> Manifest:
    base = Manifest(
        name="t",
        status="running",
        provenance="measured",
        started_at=datetime.now(UTC),
        dbperf_version="0",
        command=["dbperf", "run"],
        pid=os.getpid(),
        host=Host(hostname="h", system="s", python_version="3", cpu_count=2, memory_bytes=1),
    )
    return msgspec.structs.replace(base, **changes)


def statements() -> Statements:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Statements(
        window=Window(started_at=at, ended_at=at, seconds=0.0),
        validity=Validity(complete=True),
        extension_version="1.12",
        total_ms=0.0,
        total_calls=0,
        attributed_share=None,
        statements=[],
    )


def test_round_trip_gives_the_same_bytes() -> None:
    one = statements()
    two = parse_document(Statements, one.to_json(), source="x")
    assert two == one
    assert two.to_json() == one.to_json()


def test_a_wrong_type_is_named_with_line_and_field() -> None:
    text = statements().to_json().replace(b'"total_calls": 0', b'"total_calls": "many"')
    line = next(i for i, t in enumerate(text.splitlines(), 1) if b'"total_calls"' in t)
    with pytest.raises(
        RecordError, match=rf"st\.json, line {line}, column 18, field total_calls: Expected `int`, got `str`"
    ):
        parse_document(Statements, text, source="st.json")


def test_a_missing_field_is_named() -> None:
    text = statements().to_json().replace(b'    "seconds": 0.0\n', b"").replace(b'00Z",\n  },', b'00Z"\n  },')
    with pytest.raises(RecordError, match=r"field window: .*missing required field `seconds`"):
        parse_document(Statements, text, source="st.json")


@pytest.mark.parametrize("keep", [0, 1, 50, 300])
def test_a_truncated_file_is_named_with_its_line(keep: int) -> None:
    text = statements().to_json()[:keep]
    last = text.count(b"\n") + 1
    with pytest.raises(RecordError, match=rf"st\.json, line {last}, column \d+: ") as e:
        parse_document(Statements, text, source="st.json")
    assert e.value.hint


def test_another_kind_and_a_newer_version_are_refused() -> None:
    with pytest.raises(RecordError, match="'run' was found where 'statements' belongs"):
        parse_document(Statements, manifest().to_json(), source="x")
    newer = statements().to_json().replace(b'"schema_version": 1', b'"schema_version": 99')
    with pytest.raises(RecordError, match="newer dbperf"):
        parse_document(Statements, newer, source="x")


def test_an_old_version_is_upgraded_step_by_step() -> None:
    class Thing(Document, frozen=True, kw_only=True):
        kind: ClassVar[str] = "thing"
        version: ClassVar[int] = 3
        file_name: ClassVar[str] = "thing.json"
        upgrades: ClassVar = {
            1: lambda d: {"total_s": d["seconds"]},
            2: lambda d: {"total_ms": d["total_s"] * 1000},
        }
        total_ms: float

    old = b'{"kind": "thing", "schema_version": 1, "seconds": 2}'
    assert parse_document(Thing, old, source="x") == Thing(total_ms=2000)


def test_every_document_can_be_found_by_kind_and_has_upgrades_for_all_versions() -> None:
    seen = set()
    for cls in Document.__subclasses__():
        if not cls.__module__.startswith("dbperf."):
            continue
        assert cls.kind not in seen
        seen.add(cls.kind)
        assert set(range(1, cls.version)) <= set(cls.upgrades)
    assert {"run", "statements"} <= seen


def test_write_atomic_keeps_the_old_file_when_the_folder_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "a" / "f.json"
    with pytest.raises(OutputError):
        write_atomic(target, b"x")
    target.parent.mkdir()
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in target.parent.iterdir()] == ["f.json"]


def test_a_run_directory_keeps_what_is_there(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "r", manifest())
    run.write(statements())
    with pytest.raises(OutputError, match="exists and is kept"):
        RunDirectory.create(tmp_path / "r", manifest())
    assert RunDirectory.open(tmp_path / "r").read(Statements) == statements()
    RunDirectory.create(tmp_path / "r", manifest(), force=True)
    assert not RunDirectory.open(tmp_path / "r").has(Statements)


def test_a_replaced_run_is_back_if_the_new_one_measured_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r"
    RunDirectory.create(path, manifest()).write(statements())
    assert RunDirectory.create(path, manifest(), force=True).give_back()
    assert RunDirectory.open(path).read(Statements) == statements()
    RunDirectory.create(path, manifest(), force=True)  # killed before it measured anything
    assert not RunDirectory.open(path).has(Statements)
    assert RunDirectory.create(path, manifest(), force=True).give_back()
    assert RunDirectory.open(path).read(Statements) == statements()
    new = RunDirectory.create(path, manifest(), force=True)
    new.write(statements())
    assert not new.give_back()
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_force_through_a_link_or_from_inside_replaces_the_run_that_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    RunDirectory.create(tmp_path / "sub" / "r", manifest()).write(statements())
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "r")
    RunDirectory.create(tmp_path / "link", manifest(), force=True).write(statements())
    assert (tmp_path / "link").is_symlink()
    assert RunDirectory.open(tmp_path / "sub" / "r").has(Statements)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["r"]
    monkeypatch.chdir(tmp_path / "sub" / "r")
    RunDirectory.create(Path(), manifest(), force=True).write(statements())
    assert RunDirectory.open(tmp_path / "sub" / "r").has(Statements)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["r"]


def test_force_never_removes_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(OutputError, match="holds no run"):
        RunDirectory.create(tmp_path, manifest(), force=True)
    assert (tmp_path / "precious").exists()


def test_a_run_whose_process_is_gone_is_partial(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    run = RunDirectory.create(tmp_path / "r", manifest(pid=2**22 - 1))
    run.set_stage(RunStage(name="load", title="Load", status="running", started_at=now))
    again = RunDirectory.open(tmp_path / "r")
    assert again.manifest.status == "partial"
    assert again.manifest.stages[0].status == "interrupted"
    alive = RunDirectory.create(tmp_path / "a", manifest())
    assert RunDirectory.open(alive.path).manifest.status == "running"


def test_stages_keep_their_order(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "r", manifest())
    now = datetime.now(UTC)
    for name in ("a", "b"):
        run.set_stage(RunStage(name=name, title=name, status="running", started_at=now))
    run.set_stage(RunStage(name="a", title="a", status="done", started_at=now))
    assert [(s.name, s.status) for s in run.manifest.stages] == [("a", "done"), ("b", "running")]


def test_names_that_do_not_fit_a_file_are_replaced(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert default_path(tmp_path, "my run/../x", at).name == "20260102T030405Z-my-run-..-x"
