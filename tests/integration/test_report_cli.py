"""`dbperf report`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dbperf.cli.main import app
from dbperf.errors import OutputError, RecordError, UsageError
from tests.support.cli import dbperf
from tests.support.sample_run import sample_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return sample_run(tmp_path / "run", endpoints=1, statements=3).path


def test_writes_the_three_files_and_prints_their_paths(run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    written = [run / "report.html", run / "summary.md", run / "report.json"]
    assert result.stdout.splitlines() == [str(p) for p in written]
    assert all(p.stat().st_size for p in written)


def test_the_same_run_gives_the_same_bytes_whatever_the_order_of_sets(run: Path) -> None:
    outputs = [
        [
            (run / name).read_bytes()
            for name in ("report.html", "summary.md", "report.json")
            if dbperf("report", run, env={**os.environ, "PYTHONHASHSEED": seed}).returncode == 0
        ]
        for seed in ("1", "2")
    ]
    assert len(outputs[0]) == 3
    assert outputs[0] == outputs[1]


def test_json_and_markdown_go_to_stdout(run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), "--format", "json"], catch_exceptions=False)
    assert json.loads(result.stdout)["kind"] == "report"
    result = CliRunner().invoke(app, ["report", str(run), "--format", "markdown"], catch_exceptions=False)
    assert result.stdout.startswith("## ")
    assert not (run / "summary.md").exists()


def test_output_names_the_file(run: Path, tmp_path: Path) -> None:
    there = tmp_path / "x.html"
    result = CliRunner().invoke(app, ["report", str(run), "--format", "html", "-o", str(there)], catch_exceptions=False)
    assert result.stdout == f"{there}\n"
    assert there.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["nowhere"], RecordError),
        (["RUN", "-o", "x.html"], UsageError),
        (["RUN", "--format", "json", "--open"], UsageError),
        (["RUN", "--format", "json", "-o", "/nowhere/x.json"], OutputError),
    ],
)
def test_bad_input_is_an_error_of_ours(run: Path, args: list[str], error: type[Exception]) -> None:
    result = CliRunner().invoke(app, ["report", *(str(run) if a == "RUN" else a for a in args)])
    assert isinstance(result.exception, error)


def test_share_writes_a_redacted_copy_beside(run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), "--share"], catch_exceptions=False)
    assert [Path(line).parent for line in result.stdout.splitlines()] == [run / "share"] * 3
    assert json.loads((run / "share" / "report.json").read_text())["redacted"] is True
    assert not (run / "report.html").exists()


def test_no_redact_keeps_what_share_would_hide(run: Path) -> None:
    CliRunner().invoke(app, ["report", str(run), "--share", "--no-redact"], catch_exceptions=False)
    assert json.loads((run / "share" / "report.json").read_text())["redacted"] is False


def test_junit_goes_to_stdout(run: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(run), "--format", "junit"], catch_exceptions=False)
    assert result.stdout.startswith('<?xml version="1.0"')
