"""dbperf.toml: what it may say, and one clear line for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbperf.config import load_config
from dbperf.errors import ConfigError


def write(folder: Path, text: str, name: str = "dbperf.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    write(
        tmp_path,
        """
        dsn = "postgresql://a@h/d"
        api_key = "env:KEY"
        duration = "1m30s"
        users = 20
        headers = {Authorization = "env:KEY"}
        [safety]
        production = ["db.internal"]
        [[service_levels]]
        endpoint = "POST /orders"
        p95 = "300ms"
        errors = "1%"
        requests_per_s = 50
        """,
    )
    config = load_config(None, folder=tmp_path)
    assert config.source == "dbperf.toml"
    assert (config.dsn, config.api_key, config.duration_s, config.users) == ("postgresql://a@h/d", "s3cret", 90, 20)
    assert config.headers == {"Authorization": "s3cret"}
    assert config.safety.production == ["db.internal"]
    [level] = config.service_levels
    assert (level.p95_ms, level.error_rate, level.requests_per_s, level.p50_ms) == (300, 0.01, 50, None)


def test_pyproject_is_the_second_choice(tmp_path: Path) -> None:
    write(tmp_path, "[tool.dbperf]\nusers = 3\n", "pyproject.toml")
    assert load_config(None, folder=tmp_path).users == 3
    write(tmp_path, "users = 4\n")
    assert load_config(None, folder=tmp_path).users == 4
    assert load_config(tmp_path / "pyproject.toml").users == 3


def test_no_file_is_an_empty_configuration(tmp_path: Path) -> None:
    assert load_config(None, folder=tmp_path).source is None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("durration = '5s'", "unknown key 'durration'", "did you mean 'duration'?"),
        ("users = 'many'", "users must be a whole number", None),
        ("users = 0", "users must be at least 1", None),
        ("users = true", "users must be a whole number", None),
        ("duration = '5 parsecs'", "duration: '5 parsecs' is not a duration", '"30s"'),
        ("dsn = 5", "dsn must be a text", None),
        ("api_key = 'env:NOT_SET_ANYWHERE'", r"\$NOT_SET_ANYWHERE, which is not set", "export"),
        ("[safety]\nprodution = ['x']", "unknown key 'safety.prodution'", "did you mean 'production'?"),
        ("[safety]\nproduction = 'x'", "must be a list of hosts", None),
        ("[[service_levels]]\np95 = '1s'", "service_levels #1 needs endpoint", None),
        ("[[service_levels]]\nendpoint = 'GET /'", "sets no limit", "p95"),
        ("[[service_levels]]\nendpoint = 'GET /'\np96 = '1s'", "unknown key 'p96'", "did you mean"),
        ("[[service_levels]]\nendpoint = 'GET /'\nerrors = '200%'", "between 0 and 100 %", None),
        ("[[service_levels]]\nendpoint = 'GET /'\nerrors = 'few'", "must be a share", None),
        ("a = \n", "line 1, column", "TOML"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as e:
        load_config(None, folder=tmp_path)
    assert "dbperf.toml" in e.value.message
    assert "\n" not in e.value.message
    if hint:
        assert hint in (e.value.hint or "")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "no.toml")
    write(tmp_path, "[tool.other]\n", "pyproject.toml")
    with pytest.raises(ConfigError, match=r"no \[tool.dbperf\]"):
        load_config(tmp_path / "pyproject.toml")


def test_services_have_tolerances_and_metrics_of_their_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        [services.api_gateway]
        endpoints = ["GET /*"]
        p95 = "+50%, max 2s"
        errors = "+0.5 points"
        requests_per_s = "-30%"
        [services.mcp_server.metrics.sandbox_violations]
        tolerance = "max 0"
        [services.rag_service.metrics.vector_store_timeouts]
        unit = "share"
        tolerance = "+0.1 points"
        """,
    )
    gateway, tools, rag = load_config(None, folder=tmp_path).services
    assert gateway.endpoints == ["GET /*"]
    p95, errors, rate = (gateway.tolerances[k] for k in ("p95", "errors", "requests_per_s"))
    assert (p95.relative, p95.limit, errors.absolute, rate.relative) == (0.5, 2000, 0.005, 0.3)
    assert tools.custom["sandbox_violations"].tolerance.limit == 0
    assert rag.custom["vector_store_timeouts"].unit == "share"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("services = 3", "services must be a table", None),
        ("[services]\na = 3", "services.a must be a table", None),
        ("[services.a]\np96 = '+5%'", "unknown key 'p96'", "did you mean"),
        ("[services.a]\np95 = 'lots'", "services.a: p95: 'lots' is not a tolerance", "+50%"),
        ("[services.a]\np95 = '+0%'", "tolerates nothing", "hard limit"),
        ("[services.a]\np95 = '+5%, +6%'", "sets the relative tolerance twice", None),
        ("[services.a]\nendpoints = 'GET /'", "endpoints must be a list", "GET"),
        ("[services.a.metrics]\nx = 0", "services.a.metrics.x must be a table", "max 0"),
        ("[services.a.metrics.x]\nunit = 'ms'", "sets no tolerance", "max 0"),
        ("[services.a.metrics.x]\nunit = 'furlong'\ntolerance = 'max 0'", "Invalid enum value 'furlong'", "units: ms"),
        ("[services.a.metrics.x]\ntolerence = 'max 0'", "unknown key 'tolerence'", "did you mean 'tolerance'?"),
    ],
)
def test_services_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as e:
        load_config(None, folder=tmp_path)
    assert hint is None or hint in (e.value.hint or "")
