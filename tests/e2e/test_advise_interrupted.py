"""Ctrl-C while `dbperf advise` plans in several sessions."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from benchmarks.index_workloads import mixed
from dbperf.indexes.sessions import with_workload
from dbperf.indexes.workload import checked
from dbperf.processes import usable_cpus
from dbperf.records.advice import Advice
from dbperf.records.base import parse_document
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    catalog, statements = mixed(2000)
    file = tmp_path_factory.mktemp("exported") / "shadow.json"
    file.write_bytes(with_workload(catalog, checked(statements)).to_json())
    return file


def titles(process: psutil.Process) -> list[str]:
    """Command lines of its children that are there."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(child.cmdline()))
    return found


def interrupted(exported: Path, *, again: bool) -> tuple[int, str, str, Sequence[psutil.Process]]:
    """Exit code, stdout, stderr and processes that were there, after Ctrl-C while it plans, once or until the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dbperf", "advise", "--shadow", str(exported), "--format", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    known = psutil.Process(process.pid)

    def planning() -> bool:
        sessions = [t for t in titles(known) if " shadow [local]" in t]
        return len(sessions) >= min(2, usable_cpus()) and any("SELECT" in t for t in sessions)

    assert eventually(planning, 240)
    there = known.children(recursive=True)
    process.send_signal(signal.SIGINT)
    while again and process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr, there


def gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_ctrl_c_gives_the_best_set_so_far(exported: Path) -> None:
    code, stdout, stderr, there = interrupted(exported, again=False)
    assert code == 130, stderr
    assert stderr == "dbperf: the search was cut short; this is the best set so far\n"
    advice = parse_document(Advice, stdout.encode(), source="stdout")
    assert not advice.complete
    assert advice.cost_after <= advice.cost_before
    assert eventually(lambda: gone(there))


def test_ctrl_c_again_ends_at_once(exported: Path) -> None:
    code, stdout, stderr, there = interrupted(exported, again=True)
    assert code == 130, stderr
    assert stdout == ""
    assert stderr == "dbperf: interrupted before there was a set of indexes\n"
    assert eventually(lambda: gone(there))
