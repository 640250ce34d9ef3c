"""From the driver's lines to a Load: the same way for a finished load, an interrupted one and a killed one.

The lines are read while they come: what an interruption leaves to be done is then the same after an hour as after
ten seconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dbperf.errors import RecordError
from dbperf.load.assemble import Window, notes_on, stage_of, utc
from dbperf.load.generator import Health
from dbperf.load.heat import Heat
from dbperf.records.load import LeftOut, Load, LoadSecond
from dbperf.records.suite import Suite
from dbperf.records.tail import Tail
from dbperf.stats.hdr import Latencies

FILE_NAME = "load.jsonl"


def read_load(path: Path, suite: Suite, url: str, *, left_out: list[LeftOut] | None = None) -> Load:
    """The load that a driver's file describes; `complete` is False where its end is missing.

    A last line that was cut off (the process was killed while writing it) is passed over.

    Raises:
        RecordError: the file is missing, or broken in the middle.
    """
    reader = LoadReader(path, suite, url, left_out=left_out)
    reader.catch_up()
    return reader.load()


class LoadReader:
    """Sums up a driver's file as it grows."""

    def __init__(self, path: Path, suite: Suite, url: str, *, left_out: list[LeftOut] | None = None) -> None:
        self._path, self._suite, self._url = path, suite, url
        self._tail = Tail(path)
        self._left_out = left_out or []
        self._windows = [Window() for _ in suite.stages]
        self._seconds: list[LoadSecond] = []
        self._together: list[LoadSecond] = []
        self._health, self._heat = Health(), Heat()
        self._began: float | None = None
        self._ended: float | None = None
        self._complete, self._engine, self._processes = False, "locust", 1
        self._notes: list[str] = []

    def catch_up(self) -> None:
        """Takes in the lines that were written since the last call, as far as they are whole.

        Raises:
            RecordError: the file is missing, or a line is broken.
        """
        more = True
        while more:
            try:
                first, lines = self._tail.lines()
            except FileNotFoundError as e:
                raise RecordError(f"{self._path} can't be read: {e.strerror}") from e
            for number, line in enumerate(lines, first):
                try:
                    found = json.loads(line)
                except ValueError as e:
                    where = f"{self._path}, line {number}"
                    raise RecordError(f"{where}: not JSON", hint="the file was edited") from e
                self._add(found)
            more = bool(lines)

    def load(self) -> Load:
        """The load as far as it has been read.

        Raises:
            RecordError: nothing has been.
        """
        if self._began is None or self._ended is None:
            raise RecordError(f"{self._path} holds no load")
        opened = [(i, w) for i, w in enumerate(self._windows) if w.opened is not None and w.seconds >= 0.5]
        stages = [stage_of(self._suite, i, w) for i, w in opened]
        return Load(
            suite=self._suite.name,
            url=self._url,
            started_at=utc(self._began),
            ended_at=utc(self._ended),
            complete=self._complete,
            stages=stages,
            seconds=list(self._seconds),
            seconds_all=list(self._together),
            stretches=self._heat.stretches(),
            generator=self._health.record(self._engine, self._processes),
            left_out=self._left_out,
            notes=[*self._notes, *notes_on(stages)],
        )

    def _add(self, line: dict[str, Any]) -> None:
        at = float(line["at"])
        self._began, self._ended = self._began if self._began is not None else at, at
        if "second" in line:
            self._add_second(line)
            return
        event = line["event"]
        if event == "started":
            self._engine, self._began = line["engine"], line["began"]
        elif event == "measuring":
            self._windows[line["stage"]].opened = line["window"]
        elif event == "measured":
            self._windows[line["stage"]].closed = line["window"]
        elif event == "waiting":
            self._processes = line["workers"]
        elif event == "lost":
            where = f" ({line['region']})" if line["region"] else ""
            self._notes.append(f"worker {line['worker']}{where} was lost: what it did until then is counted")
        elif event == "ended":
            self._complete = line["complete"]
            for stage, method, name, n in [*line["unfinished"], *line["not_started"]]:
                self._windows[stage].endpoint((method, name)).unfinished += n
            for stage, _, _, n in line["not_started"]:
                self._windows[stage].not_started += n
            if line["reason"]:
                self._notes.append(f"the load ended early: {line['reason']}")

    def _add_second(self, line: dict[str, Any]) -> None:
        measured = line["phase"] == "measured"
        health = self._health
        health.late_starts = line["late_starts"]
        health.requests += sum(row["requests"] for row in line["series"] if row["stage"] >= 0)
        health.add(line["cpu_share"], line["lag_ms"], measured=measured)
        window = self._windows[line["stage"]]
        tick: int | None = None
        if measured:
            if window.last_seen is not None:
                tick = len(window.tick_seconds)
                window.tick_seconds.append(line["at"] - window.last_seen)
            window.last_seen = line["at"]
        by_endpoint: dict[tuple[str, str], tuple[Latencies, int, int]] = {}
        for row in line["series"]:
            key = (row["method"], row["name"])
            latency = Latencies.decode(row["latency"]) if row["latency"] else Latencies()
            # Together, and by region where there are regions.
            for region in {None, row.get("region") or None}:
                if row["stage"] >= 0:
                    self._windows[row["stage"]].endpoint(key, region).add(row, latency)
                if tick is not None:
                    ended = window.endpoint(key, region).ended_by_tick
                    ended[tick] = ended.get(tick, 0) + row["requests"]
            shown, requests, errors = by_endpoint.get(key, (Latencies(), 0, 0))
            shown.add(latency)
            by_endpoint[key] = (shown, requests + row["requests"], errors + row["errors"])
        total = Latencies()
        for (_, name), (latency, requests, errors) in by_endpoint.items():
            total.add(latency)
            self._seconds.append(_second(line, self._suite, name, latency, requests, errors))
            self._heat.add(int(line["second"]), self._suite.stages[line["stage"]].name, name, latency)
        requests = sum(x[1] for x in by_endpoint.values())
        errors = sum(x[2] for x in by_endpoint.values())
        self._together.append(_second(line, self._suite, "all", total, requests, errors))


def _second(
    line: dict[str, Any], suite: Suite, name: str, latency: Latencies, requests: int, errors: int
) -> LoadSecond:
    extent = latency.range_ms()
    return LoadSecond(
        at_s=float(line["second"]),
        stage=suite.stages[line["stage"]].name,
        phase=line["phase"],
        endpoint=name,
        users=line["users"],
        requests=requests,
        errors=errors,
        p50_ms=_quick(latency, 0.5),
        p95_ms=_quick(latency, 0.95),
        p99_ms=_quick(latency, 0.99),
        max_ms=extent[1] if extent else None,
    )


def _quick(latency: Latencies, q: float) -> float | None:
    """A percentile of a second's few requests, for a picture: no interval."""
    n = latency.count
    return latency.at_rank_ms(max(1, -int(-q * n // 1))) if n else None
