"""The dashboards and the page about monitoring are what the code writes; the rules do what their tests say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dbperf.monitor.metrics import METRICS
from dbperf.monitor.reference import FILE, with_tables

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitor" / "prometheus" / "rules.yml"
TESTS = ("rules_test.yml", "rules_long_test.yml")
NAMES = re.compile(r"\bdbperf_\w+")


def exported() -> set[str]:
    """Names as Prometheus stores them."""
    parts = {n: ("_bucket", "_sum", "_count") for n, m in METRICS.items() if m.kind == "histogram"}
    return {n for n in METRICS if n not in parts} | {n + part for n, ends in parts.items() for part in ends}


def test_the_dashboards_are_those_that_the_code_makes() -> None:
    from monitor.dashboards import DASHBOARDS, FOLDER, as_json

    assert {p.stem for p in FOLDER.glob("*.json")} == set(DASHBOARDS)
    for name in DASHBOARDS:
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == as_json(name), "make dashboards"


def test_rules_and_dashboards_name_only_metrics_that_exist() -> None:
    for path in (RULES, *(ROOT / "monitor" / "grafana").glob("*.json")):
        assert set(NAMES.findall(path.read_text(encoding="utf-8"))) <= exported(), path


def test_the_page_lists_every_metric() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == with_tables(text), "make docs"


def test_the_page_and_the_rules_tests_name_every_alert() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert len(alerts) >= 13
    tests = "".join((RULES.parent / name).read_text() for name in TESTS)
    assert set(re.findall(r"^ +- alertname: (\w+)", tests, re.MULTILINE)) == set(alerts), "each fires in a test"
    page = FILE.read_text(encoding="utf-8")
    assert [a for a in alerts if f"`{a}`" not in page] == []


@pytest.mark.parametrize("command", [("check", "rules", "rules.yml"), ("test", "rules", *TESTS)])
def test_promtool_accepts_the_rules(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
