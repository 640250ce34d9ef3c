"""The program that dbperf starts for a load: Locust as a library, stages, recorder.

Reads a plan (one JSON line, see dbperf/load/plan.py) from standard input; then lines with commands: "go" answers the
event "ready", "stop" ends the load. The end of standard input means that dbperf has gone: the load ends. Writes
events as JSON lines to standard output and, with the histograms, to the plan's file. Messages go to standard error.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.os
import locust  # patches the standard library: everything that opens sockets comes after it
from locust.html import get_html_report
from locust.stats import StatsCSVFileWriter, save_stats_json, stats_history

from loadtests.generator import Fleet, Generator, Local, LocustfileError
from loadtests.health import settle
from loadtests.recorder import LineFile
from loadtests.worker import work

PERCENTILES = [0.5, 0.9, 0.95, 0.99, 0.999]
STEP_S = 1.0


class Driver:
    def __init__(self, plan: dict[str, Any], leftover: bytes) -> None:
        self.plan = plan
        self.leftover = leftover
        self.stopped = gevent.event.Event()
        self.go = gevent.event.Event()
        self.reason: str | None = None
        self.lines = LineFile(Path(plan["file"]))
        self.stage = 0
        self.phase = "ramp"
        self.began = time.time()
        self.seconds = 0

    # -- talking to dbperf

    def tell(self, event: str, **fields: Any) -> None:
        """An event for dbperf, also kept in the file."""
        line = {"event": event, "at": time.time(), "stage": self.stage, **fields}
        self.lines.write(line)
        self.say(line)

    def say(self, line: dict[str, Any]) -> None:
        try:
            os.write(1, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except BrokenPipeError:
            self.stop("dbperf has gone")

    def listen(self) -> None:
        """Commands from dbperf; the end of the input is the end of dbperf."""
        os.set_blocking(0, False)
        pending = self.leftover
        while True:
            *commands, pending = pending.split(b"\n")
            for command in commands:
                if command == b"go":
                    self.go.set()
                elif command.startswith(b"stop"):
                    self.stop(command[5:].decode() or "stopped")
            data = gevent.os.nb_read(0, 4096)
            if not data:
                self.stop("dbperf has gone")
                return
            pending += data

    def stop(self, reason: str) -> None:
        if not self.stopped.is_set():
            self.reason = reason
            self.stopped.set()

    # -- once a second

    def tick(self) -> None:
        due = self.began
        while True:
            due += STEP_S
            gevent.sleep(max(0.0, due - time.time()))
            self.flush()

    def flush(self, taken: dict[str, Any] | None = None) -> None:
        """Writes the second that has just ended, and tells dbperf of it."""
        taken = taken or self.generator.take()
        if not self.stopped.is_set() and (problem := self.generator.problem()):
            self.stop(problem)
        self.seconds += 1
        line = {"second": self.seconds, "at": time.time(), "stage": self.stage, "phase": self.phase, **taken}
        self.lines.write(line)
        self.say({"event": "second", **line})

    def lost(self, worker: str, region: str | None) -> None:
        self.tell("lost", worker=worker, region=region)

    # -- the load

    def prepare(self) -> str | None:
        """Makes the generator; returns what went wrong."""
        plan = self.plan
        if not plan["workers"]:
            try:
                self.generator: Generator = Local(plan)
            except LocustfileError as e:
                return str(e)
            return None
        fleet = Fleet(plan, self.lost)
        self.generator = fleet
        self.tell("waiting", workers=plan["workers"], port=plan["master_port"])
        return fleet.wait_for_workers(self.stopped, plan["connect_s"])

    def run(self) -> None:
        plan = self.plan
        gevent.spawn(self.listen)
        if problem := self.prepare():
            self.tell("failed", reason=problem)
            if plan["workers"]:
                self.generator.stop()
            return
        settle()
        environment = self.generator.environment
        gevent.spawn(stats_history, environment.runner)
        if plan["locust_prefix"]:
            self.writer = StatsCSVFileWriter(environment, PERCENTILES, plan["locust_prefix"], False)
            self.csv = gevent.spawn(self.writer.stats_writer)
        self.began = time.time()
        self.tell("started", engine=f"locust {locust.__version__}", pid=os.getpid(), began=self.began)
        ticking = gevent.spawn(self.tick)
        for self.stage, stage in enumerate(plan["stages"]):
            self.run_stage(stage)
            if self.stopped.is_set():
                break
        complete = not self.stopped.is_set()
        self.drain(limit_s=plan["drain_s"] if complete else 0.0)
        unfinished, not_started = self.generator.left_over()
        ticking.kill()
        self.flush(self.generator.stop())
        self.tell("ended", complete=complete, reason=self.reason, unfinished=unfinished, not_started=not_started)
        self.locust_files()

    def wait(self, seconds: float) -> bool:
        """Sleeps; True where the load was stopped meanwhile."""
        return bool(self.stopped.wait(max(0.0, seconds)))

    def run_stage(self, stage: dict[str, Any]) -> None:
        """Ramp, warm-up and measured window of a stage."""
        users, rate, ramp_s = stage["users"], stage["arrival_rate_per_s"], stage["ramp_s"]
        self.phase = "ramp"
        self.tell("ramp", name=stage["name"], users=users, rate=rate)
        self.generator.rate_to(rate or 0.0, ramp_s if rate else 0.0, stage["arrivals"])
        change = abs((users or 0) - self.generator.user_count())
        if change:
            self.generator.users_to(users or 0, change / ramp_s if ramp_s and users else float(change))
        if self.wait(ramp_s):
            return
        deadline = time.monotonic() + 10
        while users and self.generator.user_count() < users and time.monotonic() < deadline:
            if self.wait(0.05):
                return
        self.phase = "warm-up"
        self.tell("warm-up", name=stage["name"], users=users, rate=rate)
        if self.wait(stage["warm_up_s"]):
            return
        self.measure(stage)

    def measure(self, stage: dict[str, Any]) -> None:
        """The measured window; dbperf answers "go" once it has taken its own snapshot at the window's edge."""
        if self.plan["handshake"]:
            self.go.clear()
            self.tell("ready", name=stage["name"])
            while not self.go.wait(0.05):
                if self.stopped.is_set():
                    return
        self.phase = "measured"
        opened = self.generator.open_window(self.stage)
        self.tell("measuring", name=stage["name"], window=opened)
        try:
            self.wait(stage["duration_s"])
        finally:
            closed = self.generator.close_window()
            self.phase = "drain"
            self.tell("measured", name=stage["name"], window=closed)

    def drain(self, limit_s: float) -> None:
        """Keeps the load up until the measured requests have ended, so that the slow ones are not lost."""
        deadline = time.monotonic() + limit_s
        while self.generator.busy() and time.monotonic() < deadline:
            if self.wait(0.02):
                return

    def locust_files(self) -> None:
        """Locust's own results, beside dbperf's."""
        if not (prefix := self.plan["locust_prefix"]):
            return
        self.csv.kill()  # it writes once a second, until now
        for handle, write in (
            (self.writer.requests_csv_filehandle, self.writer.requests_csv),
            (self.writer.failures_csv_filehandle, self.writer.failures_csv),
            (self.writer.exceptions_csv_filehandle, self.writer.exceptions_csv),
        ):
            handle.seek(0)
            write(csv.writer(handle))
            handle.truncate()
        self.writer._stats_history_data_rows(self.writer.stats_history_csv_writer, time.time())
        self.writer.close_files()
        page = get_html_report(self.generator.environment, show_download_link=False)  # type: ignore[no-untyped-call]  # locust
        Path(f"{prefix}_results.html").write_text(page, encoding="utf-8")
        save_stats_json(self.generator.environment.stats, f"{prefix}_results")  # the last: it clears them


def read_plan() -> tuple[dict[str, Any], bytes]:
    data = b""
    while b"\n" not in data:
        more = os.read(0, 1 << 20)
        if not more:
            sys.exit("no plan")
        data += more
    line, _, rest = data.partition(b"\n")
    return json.loads(line), rest


def main() -> None:
    plan, leftover = read_plan()
    if plan["role"] == "worker":
        work(plan)
        os._exit(0)
    driver = Driver(plan, leftover)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, driver.stop, "interrupted")
    driver.run()
    os._exit(0)  # users that hang in a request must not keep the process
