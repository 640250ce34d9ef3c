"""`dbperf run` ended early: what was measured is kept, and nothing goes on running.

A module of its own, so that another process can run the complete one meanwhile.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from tests.support.cli import STAGES, environment, left_behind, started, warm_cache
from tests.support.doc_pages import ROOT

# A short load is enough to be interrupted in.
QUICK = ("run", "--quick", "--duration", "1s", "--warm-up", "0s", "--suite", "s.toml")


INT, KILL = signal.SIGINT, signal.SIGKILL
EARLY = [(s, how) for s in ("database", "load") for how in (INT, KILL)]
EARLY += [("seed", INT), ("target", KILL)]
LATE = [("statements", KILL), ("plans", INT), ("flames", KILL), ("trace", INT), ("advice", INT), ("proof", INT)]
LATE += [("again", KILL), ("verdicts", KILL)]
SHORT = ("statements", "plans", "trace", "verdicts")
"""Stages that end before another process has noticed that they have begun: there the run sends itself the signal."""
BY_ITSELF = """
import os, sys
from contextlib import contextmanager
from dbperf.cli.main import main
from dbperf.lab.stages import Stages

whole = Stages.stage

@contextmanager
def stage(stages, name, *more):
    with whole(stages, name, *more) as running:
        if name == {stage!r}:
            os.kill(os.getpid(), {how:d})
        yield running

Stages.stage = stage
main()
"""


@pytest.fixture
def cold_cache() -> Iterator[dict[str, str]]:
    """An empty cache folder, for `environment`. The server's account can enter it, or what is made there would stay."""
    folder = Path(tempfile.mkdtemp(prefix="dbperf-cache-"))
    folder.chmod(0o755)
    yield {"XDG_CACHE_HOME": str(folder)}
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "how"), [*EARLY, *LATE])
def test_killed_in_any_stage_it_leaves_a_readable_partial_run_and_no_process(
    stage: str, how: signal.Signals, tmp_path: Path, cold_cache: dict[str, str]
) -> None:
    env = environment(tmp_path / "home", **(cold_cache if stage == "database" else warm_cache()))
    path = tmp_path / "r"
    (tmp_path / "s.toml").write_text(suite(whole=(stage, how) in EARLY))
    program = ("-c", BY_ITSELF.format(stage=stage, how=how)) if stage in SHORT else ("-m", "dbperf")
    with started(*QUICK, "--out", path, env=env, cwd=tmp_path, program=program) as process:
        if stage not in SHORT:
            wait_for_stage(path, stage, process)
            process.send_signal(how)
        _, stderr = process.communicate(timeout=300)
    run = RunDirectory.open(path)
    assert run.manifest.status == "partial"
    assert {s for s, _ in (*EARLY, *LATE)} == set(STAGES)
    # A stage may end between the look at run.json and the signal: then a later one was interrupted.
    reached = [s for s in run.manifest.stages if s.status in ("interrupted", "done")]
    assert STAGES.index(reached[-1].name) >= STAGES.index(stage)
    assert all(s.status == "done" for s in run.manifest.stages[: STAGES.index(stage)])
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in stderr
        assert (path / "report.html").is_file()
    if any(s.name == "load" and s.status == "done" for s in run.manifest.stages):
        assert run.read(Load).complete
    assert not left_behind(env)


def suite(*, whole: bool) -> str:
    """The reference suite without its ramp. Not whole: its first endpoint alone, which has little to plan and draw, but
    needs an index that is kept, so that all stages come."""
    text = (ROOT / "loadtests" / "suites" / "phase3.toml").read_text(encoding="utf-8")
    assert 'ramp = "2s"\n' in text
    text = text.replace('ramp = "2s"\n', "")
    head, first, *_ = text.split("[[endpoints]]\n")
    assert "/reflection/analyze" in first
    return text if whole else f"{head}[[endpoints]]\n{first}"


def wait_for_stage(path: Path, stage: str, process: subprocess.Popen[str]) -> None:
    deadline, seen = time.monotonic() + 120, 0
    while time.monotonic() < deadline:
        if (path / "run.json").is_file() and (written := (path / "run.json").stat().st_mtime_ns) != seen:
            seen = written
            stages = json.loads((path / "run.json").read_bytes())["stages"]
            if any(s["name"] == stage and s["status"] == "running" for s in stages):
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"stage {stage} never began")
