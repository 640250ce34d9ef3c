"""What a run tells while it runs: in a log, one line for each message."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import dbperf.cli.progress as module
from dbperf.cli.progress import TerminalProgress
from tests.support.waiting import eventually

LONG = "keep: DB-004 must use an index, and takes 43.3 µs instead of 3.83 ms; " * 3


def logged(file: io.StringIO) -> TerminalProgress:
    return TerminalProgress(Console(file=file, width=80, force_terminal=False, highlight=False))


def test_a_log_has_a_line_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_ANNOUNCED_AFTER_S", 60.0)
    file = io.StringIO()
    with logged(file) as progress:
        progress.stage_started("Start PostgreSQL", 2.0)
        progress.stage_update(LONG)
        progress.stage_ended("Start PostgreSQL", "done", 0.5, LONG)
        progress.note(LONG)
    lines = file.getvalue().splitlines()
    assert ": keep" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["✓", "note:"]
    assert len(lines) == 3, "a short stage is one line, and none is wrapped"
    assert all(LONG.strip() in line for line in lines)


def test_a_stage_that_takes_longer_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANNOUNCED_AFTER_S", 0.01)
    file = io.StringIO()
    with logged(file) as progress:
        progress.stage_started("Prove the advice", 37.0)
        assert eventually(lambda: file.getvalue() == "… Prove the advice (about 37.0 s)\n")
        progress.stage_ended("Prove the advice", "done", 38.0, None)
    assert file.getvalue().splitlines()[1:] == ["✓ Prove the advice  38.0 s"]
