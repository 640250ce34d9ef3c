"""`dbperf run` ended early: what was measured is kept, and nothing goes on running.

A module of its own, so that another process can run the complete one meanwhile.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from tests.support.cli import STAGES, environment, left_behind, started, warm_cache

# A short load is enough to be interrupted in.
QUICK = ("run", "--quick", "--duration", "2s", "--warm-up", "0s")


EARLY = [(s, how) for s in ("database", "seed", "target", "load", "plans") for how in (signal.SIGINT, signal.SIGKILL)]
# Each is half a minute behind the start: with one of the two signals.
LATE = [("flames", signal.SIGKILL), ("proof", signal.SIGINT), ("again", signal.SIGKILL)]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "how"), [*EARLY, *LATE])
def test_killed_in_any_stage_it_leaves_a_readable_partial_run_and_no_process(
    stage: str, how: signal.Signals, tmp_path: Path
) -> None:
    env = environment(tmp_path / "home", **({} if stage == "database" else warm_cache()))
    path = tmp_path / "r"
    with started(*QUICK, "--out", path, env=env, cwd=tmp_path) as process:
        wait_for_stage(path, stage, process)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=300)
    run = RunDirectory.open(path)
    assert run.manifest.status == "partial"
    # A short stage may end between the look at run.json and the signal: then a later one was interrupted.
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


def wait_for_stage(path: Path, stage: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (path / "run.json").is_file():
            stages = json.loads((path / "run.json").read_bytes())["stages"]
            if any(s["name"] == stage and s["status"] == "running" for s in stages):
                return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"stage {stage} never began")
