"""The suite file's own words (TOML), and how they become a Suite."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from dbperf.errors import ConfigError, DbperfError, did_you_mean
from dbperf.load.gate_language import parse_gate
from dbperf.load.toml_lines import line_of
from dbperf.records.suite import CiVariant, DataSource, Endpoint, Stage, Suite, ThinkTime
from dbperf.records.verdicts import ServiceLevel
from dbperf.units import parse_duration_s

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:\.([A-Za-z_][A-Za-z0-9_]*))?\}")
Duration = str | float | int
T = TypeVar("T")


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _Stage(_Table, kw_only=True):
    name: str | None = None
    users: int | None = None
    arrival_rate: float | None = None
    arrivals: Literal["poisson", "uniform"] = "poisson"
    duration: Duration
    ramp: Duration = 0
    warm_up: Duration = 0


class _Endpoint(_Table, kw_only=True):
    method: str = "GET"
    path: str
    weight: float = 1.0
    json: Any = None
    headers: dict[str, str] = {}
    name: str | None = None
    writes: bool = False
    expect: list[int] = []
    timeout: Duration | None = None


class _ThinkTime(_Table, kw_only=True):
    min: Duration | None = None
    max: Duration | None = None
    mean: Duration | None = None


class _Data(_Table, kw_only=True):
    name: str
    values: list[Any] | None = None
    file: str | None = None
    sql: str | None = None
    distribution: Literal["uniform", "zipf"] = "uniform"
    skew: float = 1.0


class _ServiceLevel(_Table, kw_only=True):
    endpoint: str
    p50: Duration | None = None
    p95: Duration | None = None
    p99: Duration | None = None
    errors: str | float | None = None
    requests_per_s: float | None = None


class _Ci(_Table, kw_only=True):
    duration: Duration
    ramp: Duration = "5s"
    warm_up: Duration = "5s"
    set: bool = True


class _Suite(_Table, kw_only=True):
    name: str
    extends: str | None = None
    only: list[str] = []
    description: str = ""
    seed: int = 1
    timeout: Duration = "60s"
    drain: Duration = "15s"
    max_in_flight: int = 1000
    gates: list[str] = []
    abort_on_fail: bool = False
    grace: Duration = "30s"
    ci: _Ci | None = None
    stages: list[_Stage] = []
    endpoints: list[_Endpoint] = []
    think_time: _ThinkTime = msgspec.field(default_factory=_ThinkTime)
    data: list[_Data] = []
    service_levels: list[_ServiceLevel] = []


_TABLES: dict[str, type[_Table]] = {
    "stages": _Stage,
    "endpoints": _Endpoint,
    "think_time": _ThinkTime,
    "data": _Data,
    "ci": _Ci,
    "service_levels": _ServiceLevel,
}


def parse_suite(text: str, source: str, base: Callable[[str], Suite] | None = None) -> Suite:
    """A suite from TOML text; `source` names the file in errors, `base` finds the suite that it extends.

    Raises:
        ConfigError: no TOML, an unknown key (with the nearest valid one), a value that does not fit. The message
            names source and line.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{source}: {e}", hint="a suite is a TOML file; see loadtests/suites/ for examples") from None
    try:
        given = msgspec.convert(raw, _Suite)
    except msgspec.ValidationError as e:
        raise _explained(str(e), text, source) from None
    return _Reader(text, source, base).suite(given)


class _Reader:
    def __init__(self, text: str, source: str, base: Callable[[str], Suite] | None = None) -> None:
        self.base = base
        self.text = text
        self.source = source

    def error(self, path: Sequence[str | int], message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.source}, line {line_of(self.text, path)}: {message}", hint=hint)

    def at(self, path: Sequence[str | int], read: Callable[[], T]) -> T:
        """Runs a conversion and says where its input is written if it fails."""
        try:
            return read()
        except DbperfError as e:
            raise self.error(path, e.message, e.hint) from None

    def seconds(self, value: Duration, *path: str | int) -> float:
        return self.at(path, lambda: parse_duration_s(value))

    def suite(self, given: _Suite) -> Suite:
        if not given.stages:
            raise self.error((), "a suite needs at least one [[stages]]")
        base = self.extended(given)
        if not given.endpoints and base is None:
            raise self.error((), "a suite needs at least one [[endpoints]]", 'or extends = "phase3"')
        timeout_s = self.seconds(given.timeout, "timeout")
        endpoints = [self.endpoint(e, i, timeout_s) for i, e in enumerate(given.endpoints)]
        data = [self.data(d, i) for i, d in enumerate(given.data)]
        think_time = self.think_time(given.think_time)
        if base is not None:
            endpoints = [*self.selected(base, given.only), *endpoints]
            data += [d for d in base.data if d.name not in {own.name for own in data}]
            think_time = base.think_time if given.think_time == _ThinkTime() else think_time
        self.gates(given.gates)
        self.check_placeholders(endpoints, data)
        stages = [self.stage(s, i) for i, s in enumerate(given.stages)]
        for group, names in (("stages", [s.name for s in stages]), ("endpoints", [e.name for e in endpoints])):
            for i, name in enumerate(names):
                if name in names[:i]:
                    raise self.error((group, i), f"two {group} are called {name!r}", "give one another name")
        return Suite(
            name=given.name,
            description=given.description,
            source=self.source,
            seed=given.seed,
            drain_s=self.seconds(given.drain, "drain"),
            max_in_flight=given.max_in_flight,
            stages=stages,
            endpoints=endpoints,
            think_time=think_time,
            data=data,
            service_levels=[self.level(x, i) for i, x in enumerate(given.service_levels)],
            gates=given.gates,
            abort_on_fail=given.abort_on_fail,
            grace_s=self.seconds(given.grace, "grace"),
            ci=self.ci(given.ci) if given.ci else None,
        )

    def extended(self, given: _Suite) -> Suite | None:
        if given.extends is None:
            if given.only:
                raise self.error(("only",), "only selects endpoints of the suite that this one extends")
            return None
        if self.base is None:
            raise self.error(("extends",), "this suite can't extend another: it is extended itself")
        name = given.extends
        base = self.base
        return self.at(("extends",), lambda: base(name))

    def selected(self, base: Suite, only: list[str]) -> list[Endpoint]:
        """The base's endpoints, or those of them that are wanted."""
        names = [e.name for e in base.endpoints]
        for name in only:
            if name not in names:
                message = f"suite {base.name!r} has no endpoint {name!r}"
                raise self.error(("only",), message, did_you_mean(name, names))
        return [e for e in base.endpoints if not only or e.name in only]

    def gates(self, gates: list[str]) -> None:
        for gate in gates:
            parse_gate(gate, f"{self.source}, line {line_of(self.text, ('gates',))}")

    def ci(self, ci: _Ci) -> CiVariant:
        return CiVariant(
            duration_s=self.seconds(ci.duration, "ci", "duration"),
            ramp_s=self.seconds(ci.ramp, "ci", "ramp"),
            warm_up_s=self.seconds(ci.warm_up, "ci", "warm_up"),
            in_set=ci.set,
        )

    def stage(self, s: _Stage, i: int) -> Stage:
        if (s.users is None) == (s.arrival_rate is None):
            raise self.error(("stages", i), "a stage has either users or arrival_rate")
        if s.users is not None and s.users < 1:
            raise self.error(("stages", i, "users"), f"a stage has at least one user, not {s.users}")
        if s.arrival_rate is not None and not 0 < s.arrival_rate < float("inf"):
            raise self.error(("stages", i, "arrival_rate"), f"{s.arrival_rate:g} is not a rate per second")
        duration_s = self.seconds(s.duration, "stages", i, "duration")
        if duration_s == 0:
            raise self.error(("stages", i, "duration"), "a stage of 0 s measures nothing", 'for example "30s"')
        default = f"{s.users} user{'s' if s.users != 1 else ''}" if s.users is not None else f"{s.arrival_rate:g}/s"
        return Stage(
            name=s.name or default,
            users=s.users,
            arrival_rate_per_s=s.arrival_rate,
            arrivals=s.arrivals,
            duration_s=duration_s,
            ramp_s=self.seconds(s.ramp, "stages", i, "ramp"),
            warm_up_s=self.seconds(s.warm_up, "stages", i, "warm_up"),
        )

    def endpoint(self, e: _Endpoint, i: int, timeout_s: float) -> Endpoint:
        method = e.method.upper()
        if method not in METHODS:
            raise self.error(
                ("endpoints", i, "method"), f"{e.method!r} is no HTTP method", did_you_mean(method, METHODS)
            )
        if not e.path.startswith("/"):
            raise self.error(("endpoints", i, "path"), f"the path {e.path!r} does not start with /")
        if not 0 < e.weight < float("inf"):
            raise self.error(("endpoints", i, "weight"), f"the weight {e.weight:g} is not above 0")
        if e.timeout is not None:
            timeout_s = self.seconds(e.timeout, "endpoints", i, "timeout")
        if timeout_s <= 0:
            raise self.error(("endpoints", i, "timeout"), "a timeout of 0 s lets no request finish")
        return Endpoint(
            name=e.name or f"{method} {e.path.partition('?')[0]}",
            method=method,
            path=e.path,
            weight=e.weight,
            json=e.json,
            headers=e.headers,
            writes=e.writes,
            expect=e.expect,
            timeout_s=timeout_s,
        )

    def data(self, d: _Data, i: int) -> DataSource:
        if sum(x is not None for x in (d.values, d.file, d.sql)) != 1:
            raise self.error(("data", i), f"data {d.name!r} has one of values, file and sql")
        if d.values == []:
            raise self.error(("data", i, "values"), f"data {d.name!r} holds no values")
        file = d.file
        if file is not None and not Path(file).is_absolute() and Path(self.source).suffix:
            file = str(Path(self.source).resolve().parent / file)
        return DataSource(
            name=d.name, values=d.values, file=file, sql=d.sql, distribution=d.distribution, skew=d.skew
        )  # fmt: skip

    def check_placeholders(self, endpoints: list[Endpoint], data: list[DataSource]) -> None:
        known = [d.name for d in data]
        for i, e in enumerate(endpoints):
            for name in placeholders(e):
                if name not in known:
                    hint = did_you_mean(name, known) or f'add [[data]] with name = "{name}"'
                    raise self.error(("endpoints", i, "path"), f"{{{name}}} in {e.name} has no [[data]]", hint)

    def think_time(self, t: _ThinkTime) -> ThinkTime:
        if t.mean is not None:
            if t.min is not None or t.max is not None:
                raise self.error(("think_time", "mean"), "think_time has either mean, or min and max")
            return ThinkTime(mean_s=self.seconds(t.mean, "think_time", "mean") or None)
        low = self.seconds(t.min if t.min is not None else 0, "think_time", "min")
        high = self.seconds(t.max, "think_time", "max") if t.max is not None else low
        if high < low:
            raise self.error(("think_time", "max"), "think_time's max is below its min")
        return ThinkTime(min_s=low, max_s=high)

    def level(self, x: _ServiceLevel, i: int) -> ServiceLevel:
        def ms(value: Duration | None, key: str) -> float | None:
            return None if value is None else self.seconds(value, "service_levels", i, key) * 1e3

        return ServiceLevel(
            endpoint=x.endpoint,
            p50_ms=ms(x.p50, "p50"),
            p95_ms=ms(x.p95, "p95"),
            p99_ms=ms(x.p99, "p99"),
            error_rate=None if x.errors is None else self.share(x.errors, ("service_levels", i, "errors")),
            requests_per_s=x.requests_per_s,
        )

    def share(self, value: str | float, path: Sequence[str | int]) -> float:
        if isinstance(value, str):
            m = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
            if m is None:
                raise self.error(path, f"{value!r} is not a share", 'write it as "1%" or 0.01')
            value = float(m[1]) / 100
        if not 0 <= value <= 1:
            raise self.error(path, f"{value!r} is not a share", 'write it as "1%" or 0.01')
        return value


def placeholders(endpoint: Endpoint) -> list[str]:
    """The names of the data that an endpoint's path and body use."""
    body = msgspec.json.encode(endpoint.json).decode() if endpoint.json is not None else ""
    return sorted({m[1] for m in PLACEHOLDER.finditer(endpoint.path + "\n" + body)})


def _explained(message: str, text: str, source: str) -> ConfigError:
    """msgspec's "Object contains unknown field `x` - at `$.stages[0]`" as a line and a hint."""
    detail, _, where = message.partition(" - at `")
    path: list[str | int] = [
        int(p) if p.isdigit() else p for p in re.findall(r"[A-Za-z_]\w*|\d+", where.rstrip("`").removeprefix("$"))
    ]
    table: type[_Table] = _TABLES.get(str(path[0]), _Suite) if path else _Suite
    valid = table.__struct_fields__
    if m := re.search(r"unknown field `(.+)`", detail):
        if not path and m[1] in ("duration", "users", "arrival_rate", "ramp", "warm_up"):
            hint: str | None = f"{m[1]} belongs into [[stages]]"
        else:
            hint = did_you_mean(m[1], valid)
        return ConfigError(f"{source}, line {line_of(text, [*path, m[1]])}: unknown key {m[1]!r}", hint=hint)
    if m := re.search(r"missing required field `(.+)`", detail):
        place = f"[{'[' if len(path) > 1 else ''}{path[0]}{']' if len(path) > 1 else ''}]" if path else "the suite"
        return ConfigError(f"{source}, line {line_of(text, path)}: {place} lacks {m[1]!r}")
    key = next((str(p) for p in reversed(path) if isinstance(p, str)), "")
    return ConfigError(f"{source}, line {line_of(text, path)}: {key}: {detail[:1].lower()}{detail[1:]}")
