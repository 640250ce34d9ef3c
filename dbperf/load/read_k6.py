"""Reads a k6 summary: `--summary-export FILE`, or the `data` that handleSummary() receives.

Both are summaries: percentiles without samples. In `http_req_failed`, "passes" counts the requests that failed (the
metric's condition held), so the rate is used, not these names (grafana.com/docs/k6, metrics reference).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dbperf.errors import RecordError
from dbperf.records.comparison import CustomFigure
from dbperf.records.foreign import ForeignEndpoint, ForeignLoad
from dbperf.records.load import Quantile
from dbperf.records.locate import place_of
from dbperf.records.reading import count, number

_TRENDS = {"med": 0.5, "p(50)": 0.5, "p(90)": 0.9, "p(95)": 0.95, "p(99)": 0.99, "p(99.9)": 0.999}
_TAGGED = re.compile(r"(?P<metric>[A-Za-z_0-9]+)\{(?P<tags>.*)\}")
_OWN = re.compile(r"(http_|data_|iteration|vus|checks|group_duration|dropped_iterations|ws_|grpc_|browser_)")
ALL = "all requests"


def read_k6(path: Path, data: bytes, content: dict[str, Any]) -> ForeignLoad:
    """What a k6 summary tells, already decoded.

    Raises:
        RecordError: fields are missing or impossible.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for name, metric in content["metrics"].items():
        values = metric.get("values", metric) if isinstance(metric, dict) else None
        if not isinstance(values, dict):
            raise RecordError(f"{path}, {place_of(data, ('metrics', name))}: metric {name!r} is no table")
        metrics[name] = values
    reader = _Reader(path, data, metrics)
    state = content.get("state")
    run_ms = state.get("testRunDurationMs") if isinstance(state, dict) else None
    where = f"{path}, {place_of(data, ('state', 'testRunDurationMs'))}, field state.testRunDurationMs"
    duration_s = number(run_ms, where) / 1e3 if run_ms is not None else None
    if duration_s is None and (rate := reader.maybe("http_reqs", "rate")):
        duration_s = reader.value("http_reqs", "count") / rate
    users = reader.maybe("vus_max", "max", "value")
    custom = [c for name, values in metrics.items() if (c := reader.custom(name, values)) is not None]
    return ForeignLoad(
        kind="k6",
        duration_s=duration_s or None,
        users=int(users) if users is not None else None,
        endpoints=[reader.whole(), *reader.tagged()],
        custom=custom,
    )


class _Reader:
    def __init__(self, path: Path, data: bytes, metrics: dict[str, dict[str, Any]]) -> None:
        self.path, self.data, self.metrics = path, data, metrics
        # handleSummary() nests the values, --summary-export does not.
        self.nested = place_of(data, ("metrics", next(iter(metrics), ""), "values")) != place_of(
            data, ("metrics", next(iter(metrics), ""))
        )

    def whole(self) -> ForeignEndpoint:
        requests = count(self.value("http_reqs", "count"), lambda: f"{self.path}, {self._place('http_reqs', 'count')}")
        failed = self.maybe("http_req_failed", "rate", "value") or 0.0
        received = self.maybe("data_received", "count")
        return ForeignEndpoint(
            method="*",
            path="*",
            name=ALL,
            requests=requests,
            errors=round(failed * requests),
            requests_per_s=self.maybe("http_reqs", "rate"),
            response_bytes=None if received is None else round(received),
            quantiles=self._quantiles("http_req_duration"),
            mean_ms=self.maybe("http_req_duration", "avg"),
            min_ms=self.maybe("http_req_duration", "min"),
            max_ms=self.maybe("http_req_duration", "max"),
        )

    def tagged(self) -> list[ForeignEndpoint]:
        """Sub-metrics of http_req_duration: `{name:login}` and the like, which exist where a threshold names them."""
        found = []
        for name in self.metrics:
            m = _TAGGED.fullmatch(name)
            if m and m["metric"] == "http_req_duration" and m["tags"] != "expected_response:true":
                tag = m["tags"].removeprefix("name:")
                found.append(ForeignEndpoint(method="*", path=tag, name=tag, quantiles=self._quantiles(name)))
        return found

    def _quantiles(self, name: str) -> list[Quantile]:
        values = self.metrics.get(name)
        if values is None:
            raise RecordError(f"{self.path}: metric {name!r} is missing", hint="did the script send HTTP requests?")
        found = {q: self._number(name, key) for key, q in _TRENDS.items() if key in values}
        return [Quantile(q=q, value_ms=v) for q, v in sorted(found.items())]

    def custom(self, name: str, values: dict[str, Any]) -> CustomFigure | None:
        """A metric that the script itself declares; None for k6's own."""
        if _OWN.match(name) or "{" in name:
            return None
        for key, unit in (("rate", "share"), ("value", "count"), ("p(95)", "ms"), ("count", "count")):
            # A counter has a rate too, which is per second; its count is the figure.
            if key in values and not (key == "rate" and "count" in values):
                return CustomFigure(name=name, value=self._number(name, key), unit=unit)  # type: ignore[arg-type]  # one of the literals above
        return None

    def value(self, name: str, *keys: str) -> float:
        found = self.maybe(name, *keys)
        if found is None:
            raise RecordError(f"{self.path}: metric {name!r} with {' or '.join(keys)!r} is missing")
        return found

    def maybe(self, name: str, *keys: str) -> float | None:
        values = self.metrics.get(name, {})
        return next((self._number(name, k) for k in keys if k in values), None)

    def _number(self, name: str, key: str) -> float:
        return number(self.metrics[name][key], lambda: f"{self.path}, {self._place(name, key)}")

    def _place(self, name: str, key: str) -> str:
        at = ("metrics", name, "values", key) if self.nested else ("metrics", name, key)
        return f"{place_of(self.data, at)}, field {'.'.join(at)}"
