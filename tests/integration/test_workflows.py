"""The repository's own workflows: their schema, zizmor's audits, and that what they call exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dbperf.load.suites import list_suites
from tests.support.doc_pages import known_commands

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / ".github" / "actions" / "dbperf" / "action.yml"
BIN = Path(sys.executable).parent


def test_they_fit_the_schemas_of_workflows_and_actions() -> None:
    assert [w.stem for w in WORKFLOWS] == ["ci", "load", "performance"]
    _passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    _passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-actions", ACTION)


def test_zizmor_finds_nothing() -> None:
    _passes(BIN / "zizmor", "--offline", "--no-progress", "--strict-collection", *WORKFLOWS, ACTION)


def test_what_a_workflow_gives_the_action_are_its_inputs() -> None:
    inputs = set(re.findall(r"^  ([\w-]+):\n    description", ACTION.read_text(encoding="utf-8"), re.MULTILINE))
    used = 0
    for workflow in WORKFLOWS:
        for block in re.findall(r"actions/dbperf\n +with:\n((?: {10}.*\n)+)", workflow.read_text(encoding="utf-8")):
            given = set(re.findall(r"^ {10}([\w-]+):", block, re.MULTILINE))
            assert given <= inputs
            assert {"before", "after"} <= given or "against" in given
            used += 1
    assert used


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.stem)
def test_the_options_that_they_give_exist(workflow: Path) -> None:
    known = {path: {o for p in command.params for o in p.opts} for path, command in known_commands().items()}
    text = workflow.read_text(encoding="utf-8")
    calls = re.findall(r"bin/(dbperf \w+)([^\n]*)", text)
    for options in re.findall(r"against: .*\n +options: (.*)", text):
        calls.append(("dbperf bench", f" {options}"))
    calls += [("dbperf run", arguments) for arguments in re.findall(r'ARGS="([^"]*)"', text)]
    for command, arguments in calls:
        given = set(re.findall(r"(?<= )--[\w-]+", " " + arguments.split(">>")[0]))
        assert given <= known[command], f"{command}: {given - known[command]}"
    uses_action = "actions/dbperf\n" in text
    if workflow.stem == "ci":
        assert ".ci/run" in text
        assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    else:
        assert calls or uses_action


def test_the_schedule_runs_the_whole_set_of_load_cases() -> None:
    text = (ROOT / ".github" / "workflows" / "load.yml").read_text(encoding="utf-8")
    assert re.findall(r"LOAD-\d+", text) == sorted(s.name for s in list_suites() if s.name.startswith("LOAD-"))


def _passes(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
