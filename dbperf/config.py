"""`dbperf.toml`, or `[tool.dbperf]` in pyproject.toml: defaults for the command line's options.

dsn = "postgresql://app@db.internal/app"     # an option given on the command line wins
url = "http://127.0.0.1:8000"
api_key = "env:API_KEY"                      # read from the environment, so that no secret stands in the file
suite = "loadtests/checkout.toml"
duration = "60s"
users = 10
gates = ["p95 < 500ms", "errors < 1%"]       # for every load, beside the suite's own

[safety]
production = ["db.internal"]                 # hosts, DSNs or URLs that dbperf refuses to load
known = ["staging.internal"]                 # not local, and fine to load

[[service_levels]]
endpoint = "POST /orders"
p95 = "300ms"
errors = "1%"

[services.gateway]                           # tolerances of `dbperf compare`, by endpoint
endpoints = ["GET /*", "POST /orders"]
p95 = "+50%"
errors = "+0.5 points"
requests_per_s = "-30%"

[services.tools.metrics.sandbox_violations]  # a metric of your own
unit = "count"
tolerance = "max 0"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import ConfigError, UsageError, did_you_mean
from dbperf.records.base import Record
from dbperf.records.comparison import CustomMetric, Service, Tolerance
from dbperf.records.verdicts import ServiceLevel
from dbperf.units import parse_duration_s, parse_tolerance

FILE_NAME = "dbperf.toml"


class Safety(Record, frozen=True, kw_only=True):
    """What may be loaded."""

    production: list[str] = []
    known: list[str] = []


class Config(Record, frozen=True, kw_only=True):
    """The file's content; None: not set there."""

    source: str | None = None
    """The file, for error messages; None where there is none."""
    dsn: str | None = None
    url: str | None = None
    api_key: str | None = None
    headers: dict[str, str] = {}
    suite: str | None = None
    scale: str | None = None
    duration_s: float | None = None
    warm_up_s: float | None = None
    users: int | None = None
    out: str | None = None
    top: int | None = None
    service_levels: list[ServiceLevel] = []
    gates: list[str] = []
    """Beside a suite's own."""
    safety: Safety = Safety()
    services: list[Service] = []


_TEXTS = {"dsn", "url", "api_key", "suite", "scale", "out"}
_DURATIONS = {"duration": "duration_s", "warm_up": "warm_up_s"}
_COUNTS = {"users", "top"}
_TABLES = {"headers", "service_levels", "safety", "services"}
_LISTS = {"gates"}
KEYS = _TEXTS | set(_DURATIONS) | _COUNTS | _TABLES | _LISTS
_TOLERANCE_KEYS = {"p50", "p90", "p95", "p99", "mean", "errors", "requests_per_s"}
_SERVICE_KEYS = {"endpoints", "metrics"} | _TOLERANCE_KEYS
_CUSTOM_KEYS = {"unit", "direction", "tolerance"}
_LEVEL_KEYS = {"endpoint", "p50", "p95", "p99", "errors", "requests_per_s"}


def load_config(path: Path | None, *, folder: Path | None = None) -> Config:
    """The configuration in `path`, else in `folder`'s dbperf.toml, else in its pyproject.toml, else an empty one.

    Raises:
        ConfigError: the file named by `path` does not exist, is no TOML (line and column are named), or holds a key or
            value that dbperf does not understand (the nearest valid key is named).
    """
    found = _found(path, folder)
    return _parse(*found) if found is not None else Config()


def configured_dsn(path: Path | None) -> str | None:
    """`dsn` of the file that `load_config` reads, and nothing else of it: a command that only looks at a database need
    not have what other keys take from the environment.

    Raises:
        ConfigError: as `load_config`, for the file and this key.
    """
    found = _found(path, None)
    if found is None or "dsn" not in found[0]:
        return None
    return _secret(_of(found[0]["dsn"], str, "dsn", found[1]), "dsn", found[1])


def _found(path: Path | None, folder: Path | None) -> tuple[Mapping[str, Any], str] | None:
    """The file's content and its name in messages."""
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"{path} does not exist", hint="--config names a TOML file")
        return _table(path), str(path)
    folder = folder or Path.cwd()
    if (own := folder / FILE_NAME).is_file():
        return _toml(own), FILE_NAME
    if (project := folder / "pyproject.toml").is_file():
        table = _toml(project).get("tool", {}).get("dbperf")
        if table is not None:
            return table, "pyproject.toml [tool.dbperf]"
    return None


def _table(path: Path) -> dict[str, Any]:
    content = _toml(path)
    if path.name == "pyproject.toml":
        table = content.get("tool", {}).get("dbperf")
        if table is None:
            raise ConfigError(f"{path} has no [tool.dbperf]", hint="add that table, or name a dbperf.toml")
        content = table
    return content


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: {e}", hint="it must be TOML (https://toml.io)") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not UTF-8", hint="save it as UTF-8") from e
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}") from e


def _parse(table: Mapping[str, Any], source: str) -> Config:
    values: dict[str, Any] = {"source": source}
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigError(f"{source}: unknown key {key!r}", hint=did_you_mean(key, KEYS))
        if key in _TEXTS:
            values[key] = _secret(_of(value, str, key, source), key, source)
        elif key in _DURATIONS:
            values[_DURATIONS[key]] = _duration_s(value, key, source)
        elif key in _COUNTS:
            values[key] = _of(value, int, key, source)
            if values[key] < 1:
                raise ConfigError(f"{source}: {key} must be at least 1, not {value}")
        elif key in _LISTS:
            values[key] = [_of(v, str, key, source) for v in _of(value, list, key, source)]
        elif key == "headers":
            headers = _of(value, dict, key, source)
            values[key] = {k: _secret(_of(v, str, f"headers.{k}", source), k, source) for k, v in headers.items()}
        elif key == "safety":
            values[key] = _safety(_of(value, dict, key, source), source)
        elif key == "services":
            tables = _of(value, dict, key, source)
            values[key] = [_service(name, table, f"{source}: services.{name}") for name, table in tables.items()]
        else:
            values[key] = service_levels(_of(value, list, key, source), source)
    return msgspec.convert(values, Config)


def service_levels(tables: list[Any], source: str) -> list[ServiceLevel]:
    """Service levels from `[[service_levels]]` tables.

    Raises:
        ConfigError: a key is unknown, missing, or its value does not fit.
    """
    levels = []
    for number, table in enumerate(tables, 1):
        where = f"{source}: service_levels #{number}"
        if not isinstance(table, dict) or not isinstance(table.get("endpoint"), str):
            raise ConfigError(
                f'{where} needs endpoint = "METHOD /path"', hint='a pattern such as "GET */health" fits too'
            )
        for key in table:
            if key not in _LEVEL_KEYS:
                raise ConfigError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _LEVEL_KEYS))
        limits = {f"{p}_ms": _duration_s(table[p], p, where) * 1000 for p in ("p50", "p95", "p99") if p in table}
        if "errors" in table:
            limits["error_rate"] = _rate(table["errors"], where)
        if "requests_per_s" in table:
            limits["requests_per_s"] = float(_of(table["requests_per_s"], (int, float), "requests_per_s", where))
        if not limits:
            raise ConfigError(f"{where} sets no limit", hint='add for example p95 = "300ms"')
        levels.append(ServiceLevel(endpoint=table["endpoint"], **limits))
    return levels


def _service(name: str, table: object, where: str) -> Service:
    """A `[services.NAME]` table.

    Raises:
        ConfigError: a key is unknown, or its value does not fit.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, not {table!r}")
    for key in table:
        if key not in _SERVICE_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _SERVICE_KEYS))
    endpoints = table.get("endpoints", [])
    if not isinstance(endpoints, list) or not all(isinstance(e, str) for e in endpoints):
        raise ConfigError(f"{where}: endpoints must be a list of patterns", hint='["GET /orders*"]')
    custom = {}
    for metric, rule in _of(table.get("metrics", {}), dict, "metrics", where).items():
        custom[metric] = _custom_metric(rule, f"{where}.metrics.{metric}")
    return Service(
        name=name,
        endpoints=endpoints,
        tolerances={key: tolerance(table[key], f"{where}: {key}") for key in table if key in _TOLERANCE_KEYS},
        custom=custom,
    )


def _custom_metric(rule: object, where: str) -> CustomMetric:
    if not isinstance(rule, dict):
        raise ConfigError(f"{where} must be a table", hint='{unit = "count", tolerance = "max 0"}')
    for key in rule:
        if key not in _CUSTOM_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _CUSTOM_KEYS))
    if "tolerance" not in rule:
        raise ConfigError(f"{where} sets no tolerance", hint='add for example tolerance = "max 0"')
    values = {**rule, "tolerance": tolerance(rule["tolerance"], f"{where}: tolerance")}
    try:
        return msgspec.convert(values, CustomMetric)
    except msgspec.ValidationError as e:
        raise ConfigError(
            f"{where}: {e}", hint="units: ms, share, per_s, bytes, count; directions: lower, higher"
        ) from e


def tolerance(value: object, where: str) -> Tolerance:
    """A tolerance as `parse_tolerance` reads it.

    Raises:
        ConfigError: it is none; `where` names the key or option.
    """
    try:
        return Tolerance(**parse_tolerance(_of(value, (str, int, float), "tolerance", where)))
    except UsageError as e:
        raise ConfigError(e.message if e.message.startswith(where) else f"{where}: {e.message}", hint=e.hint) from e


def _safety(table: dict[str, Any], source: str) -> Safety:
    for key, value in table.items():
        if key not in Safety.__struct_fields__:
            raise ConfigError(f"{source}: unknown key 'safety.{key}'", hint=did_you_mean(key, Safety.__struct_fields__))
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{source}: safety.{key} must be a list of hosts", hint='["db.internal"]')
    return Safety(**table)


def _secret(text: str, key: str, source: str) -> str:
    """The text itself, or with "env:NAME" the content of that environment variable."""
    if not text.startswith("env:"):
        return text
    name = text.removeprefix("env:")
    if name not in os.environ:
        raise ConfigError(f"{source}: {key} is read from ${name}, which is not set", hint=f"export {name}=…")
    return os.environ[name]


def _duration_s(value: object, key: str, source: str) -> float:
    try:
        return parse_duration_s(_of(value, (str, int, float), key, source))
    except UsageError as e:
        raise ConfigError(f"{source}: {key}: {e.message}", hint=e.hint) from e


def _rate(value: object, where: str) -> float:
    """0.01 from 0.01 or "1%"."""
    try:
        if isinstance(value, str) and value.strip().endswith("%"):
            rate = float(value.strip().removesuffix("%")) / 100
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rate = float(value)
        else:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{where}: errors must be a share, not {value!r}", hint='"1%" or 0.01') from None
    if not 0 <= rate <= 1:
        raise ConfigError(f"{where}: errors must lie between 0 and 100 %, not {value!r}")
    return rate


def _of(value: object, kind: Any, key: str, source: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {str: "a text", int: "a whole number", list: "a list of tables", dict: "a table"}
        raise ConfigError(f"{source}: {key} must be {names.get(kind, 'a number or text')}, not {value!r}")
    return value
