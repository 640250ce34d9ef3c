"""Several load processes: on one machine, and on three as far as the network can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import dbperf
from tests.support.httpserver import FaultyServer

SUITE = """
name = "fleet"
[[stages]]
users = 6
ramp = "1s"
duration = "{duration}"
[[endpoints]]
path = "/delay?ms=20"
[think_time]
min = "30ms"
"""
ROOT = Path(__file__).parents[2]


def test_processes_share_the_users_and_regions_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(SUITE.format(duration="2s"))
    with FaultyServer() as server:
        done = dbperf(
            "load", "fleet.toml", "--url", server.url, "--out", "run", "--format", "json", "--processes", "2",
            "--region", "near", "--region", "far=80ms", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["generator"]["processes"] == 2
    load = json.loads((tmp_path / "run" / "load.json").read_text())
    (stage,) = load["stages"]
    regions = {r["region"]: r for r in stage["regions"]}
    assert sum(r["requests"] for r in regions.values()) == stage["requests"] > 0
    # What the target and the way to it take at least: a busy machine adds to it.
    least_ms = {name: r["endpoints"][0]["min_ms"] for name, r in regions.items()}
    assert least_ms["far"] >= 99
    assert 19 <= least_ms["near"] < least_ms["far"]


@pytest.mark.slow
def test_a_worker_on_another_machine_is_lost_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(SUITE.format(duration="10s"))
    own = [] if os.geteuid() == 0 else ["-U", "-r"]
    done = subprocess.run(
        ["unshare", *own, "-n", "-m", "bash", "tests/support/fleet.sh", sys.executable, str(tmp_path),
         str(tmp_path / "fleet.toml")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    said = "".join(p.read_text() for p in tmp_path.glob("*.txt"))
    assert done.returncode == 0, done.stderr + said
    found = json.loads((tmp_path / "master.json").read_text())
    assert found["complete"]
    assert any("(far) was lost" in note for note in found["notes"])
    load = json.loads((tmp_path / "run" / "load.json").read_text())
    (stage,) = load["stages"]
    near, far = sorted(stage["regions"], key=lambda r: r["requests"], reverse=True)
    assert (near["region"], far["region"]) == ("near", "far")
    # What it had finished before it died is kept.
    assert 0 < far["requests"] < near["requests"]
    assert near["requests"] + far["requests"] == stage["requests"]
