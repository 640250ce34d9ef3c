"""monitor/compose.yaml: its schema, that what it mounts exists, and that what it starts can be started."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dbperf.config import load_config
from dbperf.lab.safety import check_target, url_host
from dbperf.load.suites import load_suite
from dbperf.phase3.settings import Settings
from dbperf.postgres.dsn import resolve
from dbperf.trace.asgi import load as load_application
from tests.support.doc_pages import known_commands

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitor"
FILE = FOLDER / "compose.yaml"
BIN = Path(sys.executable).parent
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(FILE.read_text())["services"]


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_fits_the_compose_specification() -> None:
    passes(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)
    assert {"postgres", "target", "locust-master", "locust-worker", "prometheus", "grafana"} <= SERVICES.keys()
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        passes(docker, "compose", "-f", FILE, "--profile", "load", "config", "--quiet")


def test_what_it_mounts_and_depends_on_is_there() -> None:
    volumes = YAML(typ="safe").load(FILE.read_text())["volumes"].keys()
    used = set()
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), f"{name}: {source}"
            else:
                used.add(source)
        assert set(service.get("depends_on", [])) <= SERVICES.keys(), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "only this machine"
    assert used == volumes
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    dockerfile = (FOLDER / "compose" / "Dockerfile").read_text()
    for source in ("dbperf", "sql", "loadtests", "pyproject.toml", "README.md", "LICENSE"):
        assert f"!{source}" in ignored, "what the package is built from"
    assert all((ROOT / path).exists() for path in re.findall(r"^COPY (\S+)", dockerfile, re.MULTILINE))


@pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if s.get("command", [""])[0] == "dbperf"])
def test_its_command_lines_are_dbperfs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
    known = known_commands()
    words = service["command"]
    length = 3 if words[1] == "target" else 2
    command = known[" ".join(words[:length])]
    context = command.make_context(words[1], [str(w) for w in words[length:]])  # raises for what does not fit
    if suite := context.params.get("suite"):
        load_suite(suite)
    if (config := context.params.get("config")) and context.params.get("master"):
        mounted = next(v for v in service["volumes"] if f":{config}:" in v).split(":")[0]
        safety = load_config(FOLDER / mounted).safety
        url, dsn = service["environment"]["DBPERF_URL"], service["environment"]["DBPERF_DSN"]
        check_target(url, url_host(url), safety, not_production=False)
        (host,) = resolve(dsn).hosts
        check_target("the database", host, safety, not_production=False)
        assert context.params["workers"] == SERVICES["locust-worker"]["deploy"]["replicas"]
    if context.params.get("worker"):
        assert context.params["master_host"] in SERVICES


def test_the_target_is_served_with_these_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES["target"]
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, value)
    assert Settings.from_environment().implementation == "naive"
    words = service["command"]
    assert words[:2] == ["uvicorn", "--factory"]
    module, _, name = words[2].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    assert callable(load_application(service["environment"]["DBPERF_TRACE_APP"]))
    keys = {
        s["environment"]["DBPERF_API_KEY"] for s in SERVICES.values() if "DBPERF_API_KEY" in s.get("environment", {})
    }
    assert keys == {service["environment"]["DBPERF_PHASE3_API_KEY"]}


def test_prometheus_and_grafana_find_what_they_are_given(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "prometheus" / "rules.yml", tmp_path)
    shutil.copy(FOLDER / "compose" / "prometheus.yml", tmp_path)
    passes("promtool", "check", "config", tmp_path / "prometheus.yml")
    yaml = YAML(typ="safe")
    (job,) = yaml.load((FOLDER / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert f"127.0.0.1:{port}:{port}" in SERVICES[host]["ports"]
    (source,) = yaml.load((FOLDER / "compose" / "grafana-datasources.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.load((FOLDER / "compose" / "grafana-dashboards.yml").read_text())["providers"]
    folder = provider["options"]["path"]
    assert f"./grafana:{folder}:ro" in SERVICES["grafana"]["volumes"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(folder)
    board = json.loads((FOLDER / "grafana" / home.name).read_text())
    assert {v["query"] for v in board["templating"]["list"] if v["type"] == "datasource"} == {source["type"]}
