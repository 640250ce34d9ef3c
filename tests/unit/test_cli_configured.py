"""`dsn` of dbperf.toml in every command that looks at a database: which one counts, and what is left out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dbperf.cli.commands import COMMANDS
from dbperf.cli.configured import OWN_WAY
from dbperf.cli.main import command_named, main
from dbperf.cli.reference import commands

LOOKING = {
    "advise": ["advise"],
    "apply": ["apply", "folder", "--dry-run"],
    "doctor": ["doctor"],
    "explain": ["explain", "SELECT 1"],
    "indexes": ["indexes"],
    "profile": ["profile", "--seconds", "1"],
    "serve": ["serve", "--port", "0"],
    "shadow costs": ["shadow", "costs"],
    "shadow export": ["shadow", "export", "-o", "x.shadow"],
    "verify": ["verify", "--apply"],
}


FILE, NAMED = (f"postgresql://u:geheim@h/app?connect_timeout={word}" for word in ("of_the_file", "of_the_named_file"))
"""No command gets past them, and the error names the word."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DBPERF_DSN", "PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    index_changes = tmp_path / "folder"
    index_changes.mkdir()
    for name in ("up.sql", "down.sql"):
        (index_changes / name).write_text("CREATE INDEX CONCURRENTLY i ON public.t (a);\n")
    return tmp_path


def said(args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["dbperf", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    captured = capsys.readouterr()
    return ended.value.code, captured.out + captured.err


def test_every_command_that_looks_at_a_database_is_tested() -> None:
    with_dsn = {path.removeprefix("dbperf ") for path, c in commands() if any(p.name == "dsn" for p in c.params)}
    assert {c for c in with_dsn if c.split()[0] not in OWN_WAY} == set(LOOKING)
    assert set(COMMANDS) >= OWN_WAY


@pytest.mark.parametrize("name", LOOKING)
def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = LOOKING[name]
    (folder / "dbperf.toml").write_text(f'dsn = "{FILE}"\n')
    code, text = said(args, monkeypatch, capsys)
    assert (code, "of_the_file" in text, "geheim" in text) == (code or 2, True, False), text
    monkeypatch.setenv("DBPERF_DSN", FILE.replace("file", "environment"))
    _, text = said(args, monkeypatch, capsys)
    assert ("of_the_environment" in text, "of_the_file" in text) == (True, False), text
    _, text = said([*args, "--dsn", FILE.replace("of_the_file", "as_given")], monkeypatch, capsys)
    assert ("as_given" in text, "of_the_environment" in text, "of_the_file" in text) == (True, False, False), text


@pytest.mark.parametrize(
    "name", [n for n in LOOKING if any(p.name == "config" for p in command_named(n.split()[0]).params)]
)
def test_a_named_file_goes_before_the_one_here(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dbperf.toml").write_text(f'dsn = "{FILE}"\n')
    (folder / "other.toml").write_text(f'dsn = "{NAMED}"\n')
    _, text = said([*LOOKING[name], "--config", "other.toml"], monkeypatch, capsys)
    assert ("of_the_named_file" in text, "of_the_file" in text) == (True, False), text


@pytest.mark.parametrize("name", ["indexes", "serve", "verify", "apply", "shadow costs"])
def test_without_a_database_the_three_ways_to_name_one_are_told(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(LOOKING[name], monkeypatch, capsys)
    assert code == 2
    assert f"dbperf {name} needs a database" in text
    assert all(way in text for way in ("--dsn", "$DBPERF_DSN", "dbperf.toml"))


def test_the_files_database_is_in_no_help(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dbperf.toml").write_text(f'dsn = "{FILE}"\n')
    _, text = said(["indexes", "--help"], monkeypatch, capsys)
    assert "--dsn" in text
    assert "of_the_file" not in text


def test_what_else_the_file_takes_from_the_environment_need_not_be_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dbperf.toml").write_text(f'dsn = "{FILE}"\napi_key = "env:NOT_SET_HERE"\n')
    _, text = said(["indexes"], monkeypatch, capsys)
    assert "of_the_file" in text
    (folder / "dbperf.toml").write_text('dsn = "env:NOT_SET_HERE"\n')
    code, text = said(["indexes"], monkeypatch, capsys)
    assert code == 2
    assert "dsn is read from $NOT_SET_HERE" in text


def test_a_plan_that_is_named_needs_no_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dbperf.toml").write_text('dsn = "env:NOT_SET_HERE"\n')
    (folder / "plan.txt").write_text("Seq Scan on t  (cost=0.00..1.00 rows=1 width=4)\n")
    code, text = said(["explain", "--plan", "plan.txt"], monkeypatch, capsys)
    assert code == 0, text
    _, text = said(["advise", "--shadow", "no.shadow"], monkeypatch, capsys)
    assert "no.shadow" in text


def test_a_production_mark_holds_for_the_files_own_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "dbperf.toml").write_text(
        'dsn = "postgresql://u@db.internal/app"\n[safety]\nproduction = ["db.internal"]\n'
    )
    for args in (["apply", "folder"], ["verify", "--apply"]):
        code, text = said(args, monkeypatch, capsys)
        assert (code, "marked as production" in text) == (2, True), text
