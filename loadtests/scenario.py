"""The user that a suite describes: picks endpoints by weight, fills in data, thinks, asks again."""

from __future__ import annotations

import bisect
import itertools
import json
import random
import re
import time
from typing import Any
from urllib.parse import quote

import gevent
from locust import FastHttpUser, task

from loadtests.failures import StatusError, TotalTimeout
from loadtests.recorder import Recorder

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:\.([A-Za-z_][A-Za-z0-9_]*))?\}")
_CHUNK = 1 << 16
_numbers = itertools.count()


class Source:
    """Values for a placeholder, uniform or Zipf: the k-th of them is drawn in proportion to 1/k**skew."""

    def __init__(self, spec: dict[str, Any], rng: random.Random) -> None:
        self._values: list[Any] = spec["values"]
        self._rng = rng
        self._cumulative: list[float] | None = None
        if spec["distribution"] == "zipf":
            weights = (1 / k ** spec["skew"] for k in range(1, len(self._values) + 1))
            self._cumulative = list(itertools.accumulate(weights))

    def draw(self) -> Any:
        if self._cumulative is None:
            return self._values[int(self._rng.random() * len(self._values))]
        at = bisect.bisect_left(self._cumulative, self._rng.random() * self._cumulative[-1])
        return self._values[min(at, len(self._values) - 1)]


class Template:
    """Text with placeholders, taken apart once."""

    def __init__(self, text: str) -> None:
        parts = _PLACEHOLDER.split(text)
        self.literals = parts[0::3]
        self.fields = list(zip(parts[1::3], parts[2::3], strict=True))

    def fill(self, row: dict[str, Any], encode: Any) -> str:
        if not self.fields:
            return self.literals[0]
        out = [self.literals[0]]
        for (name, column), literal in zip(self.fields, self.literals[1:], strict=True):
            value = row[name]
            out += (encode(value[column] if column else value), literal)
        return "".join(out)


def _in_path(value: Any) -> str:
    return quote(str(value), safe="")


def _in_string(value: Any) -> str:
    return json.dumps(str(value))[1:-1]


class Body:
    """A JSON body. A string that is nothing but a placeholder becomes the value with its type."""

    def __init__(self, body: Any) -> None:
        text = json.dumps(body)
        parts: list[tuple[Template, Any]] = []
        end = 0
        for m in re.finditer(r'"\{[A-Za-z_][A-Za-z0-9_.]*\}"', text):
            parts += [(Template(text[end : m.start()]), _in_string), (Template(m[0][1:-1]), json.dumps)]
            end = m.end()
        parts.append((Template(text[end:]), _in_string))
        self._parts = parts
        self._constant = None if any(t.fields for t, _ in parts) else text.encode()

    def fill(self, row: dict[str, Any]) -> bytes:
        if self._constant is not None:
            return self._constant
        return "".join(template.fill(row, encode) for template, encode in self._parts).encode()


class Endpoint:
    def __init__(self, spec: dict[str, Any], headers: dict[str, str]) -> None:
        self.method: str = spec["method"]
        self.path = Template(spec["path"])
        self.name: str = spec["name"]
        self.body = Body(spec["json"]) if spec["json"] is not None else None
        # As few headers as Locust's own client sends: each costs the generator time.
        self.headers = {"Accept-Encoding": "gzip, deflate, br", **headers, **spec["headers"]}
        if self.body is not None:
            for name in ("Content-Type", "Accept"):
                if name.casefold() not in {given.casefold() for given in self.headers}:
                    self.headers[name] = "application/json"
        self.expect = frozenset(spec["expect"])
        self.timeout_s: float = spec["timeout_s"]
        self.gave_up = f"no complete answer within {self.timeout_s:g} s"
        used = json.dumps([spec["path"], spec["json"]])
        self.sources = sorted({m[1] for m in _PLACEHOLDER.finditer(used)})


class Scenario:
    """What all users of a process share."""

    def __init__(self, plan: dict[str, Any], recorder: Recorder) -> None:
        self.rng = random.Random(plan["seed"])
        self.url: str = plan["url"].rstrip("/")
        self.endpoints = [Endpoint(e, plan["headers"]) for e in plan["endpoints"]]
        self.cumulative = list(itertools.accumulate(e["weight"] for e in plan["endpoints"]))
        self.sources = {name: Source(spec, self.rng) for name, spec in plan["data"].items()}
        self.think: dict[str, float] = plan["think_time"]
        self.recorder = recorder

    def pick(self) -> Endpoint:
        at = bisect.bisect_right(self.cumulative, self.rng.random() * self.cumulative[-1])
        return self.endpoints[min(at, len(self.endpoints) - 1)]

    def think_s(self) -> float:
        if mean := self.think.get("mean_s"):
            return self.rng.expovariate(1 / mean)
        return self.rng.uniform(self.think["min_s"], self.think["max_s"])


class SuiteUser(FastHttpUser):
    """Set `scenario` before the first user starts."""

    abstract = True
    scenario: Scenario
    connection_timeout = 10.0
    # The endpoint's own timeout, over the whole request, is the one that counts: one timer instead of one per read.
    network_timeout: float | None = None  # type: ignore[assignment]  # gevent's sockets take None
    max_redirects = 10
    added_latency_s = 0.0
    """A round trip that is added to each request: a region far away, rehearsed on one machine."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        # Every status is an answer here; the suite says which ones are errors. (Locust would raise, and read the
        # whole body into its exception.)
        self.client.client.__dict__["valid_response_codes"] = frozenset(range(100, 600))
        self.number = next(_numbers)
        # A gevent.Timeout per request costs 2 µs, 3 % of the whole; a timer that is started again costs 0.1 µs.
        self.timers: dict[float, Any] = {}

    def wait_time(self) -> float:
        return self.scenario.think_s()

    @task
    def step(self) -> None:
        self.ask(self.scenario.pick())

    def ask(self, endpoint: Endpoint, intended: float | None = None) -> None:
        """One request. `intended`: when it should have started (open model), in seconds since the epoch."""
        scenario = self.scenario
        row = {name: scenario.sources[name].draw() for name in endpoint.sources}
        url = scenario.url + endpoint.path.fill(row, _in_path)
        payload = endpoint.body.fill(row) if endpoint.body is not None else None
        error: BaseException | None = None
        response: Any = None
        size = 0
        send = self.client.client.urlopen
        start = time.time()
        due = start if intended is None else intended
        scenario.recorder.active[self.number] = (due, endpoint.method, endpoint.name)
        began = time.perf_counter()
        timer = self.timers.get(endpoint.timeout_s)
        if timer is None:
            timer = self.timers[endpoint.timeout_s] = gevent.get_hub().loop.timer(
                endpoint.timeout_s, endpoint.timeout_s
            )
        if self.added_latency_s:
            gevent.sleep(self.added_latency_s)
        timer.again(gevent.getcurrent().throw, TotalTimeout, endpoint.gave_up, update=True)
        try:
            response = send(url, method=endpoint.method, headers=endpoint.headers, payload=payload)
            # In pieces that are thrown away, so that a response of 100 MB takes no memory.
            while chunk := response.read(_CHUNK):
                size += len(chunk)
            response.release()
        except gevent.GreenletExit:
            raise
        except Exception as e:  # noqa: BLE001 - whatever a request can raise is a failed request
            error = e
        finally:
            timer.stop()
        elapsed_ms = (time.perf_counter() - began) * 1e3
        if error is None and not _expected(response.status_code, endpoint.expect):
            error = StatusError(response.status_code)
        scenario.recorder.active.pop(self.number, None)
        self.environment.events.request.fire(
            request_type=endpoint.method,
            name=endpoint.name,
            response_time=elapsed_ms,
            response_length=size,
            response=response,
            context={} if intended is None else {"intended": intended},
            exception=error,
            start_time=start,
            url=url,
        )


def _expected(status: int, expect: frozenset[int]) -> bool:
    return status in expect if expect else status < 400
