"""A worker: gets the plan from the master, makes its part of the load, and sends home each second what it recorded."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import gevent
import gevent.event
import gevent.os
from locust.env import Environment

from loadtests.arrivals import Arrivals
from loadtests.generator import (
    LocustfileError,
    fire_init,
    give_headers,
    locustfile_environment,
    suite_user,
    taken,
)
from loadtests.health import Health, settle
from loadtests.recorder import Recorder
from loadtests.scenario import SuiteUser

STEP_S = 1.0
HELLO_S = 0.5


class Worker:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.region: str | None = plan["region"]
        self.added_latency_s: float = plan["added_latency_s"]
        self.ended = gevent.event.Event()
        own = plan["locustfile"] is None
        self.recorder = Recorder(own_names=own)
        self.health = Health()
        self.arrivals: Arrivals | None = None
        self.finished = False
        self.own = own
        self.refused: str | None = None
        # Locust names users by their class: it has to exist before the plan is here.
        self.user: type[SuiteUser] = type("Suite", (SuiteUser,), {"abstract": False, "host": "http://unknown"})
        self.environment = Environment(user_classes=[self.user]) if own else locustfile_environment(plan)
        self.environment.events.request.add_listener(self.recorder.on_request)  # type: ignore[no-untyped-call]  # locust
        self.runner = self.environment.create_worker_runner(plan["master_host"], plan["master_port"])
        if not own:
            fire_init(self.environment)
        for name, listener in (
            ("dbperf_plan", self._plan),
            ("dbperf_rate", self._rate),
            ("dbperf_window", self._window),
            ("dbperf_finish", self._finish),
        ):
            self.runner.register_message(name, listener)

    def _plan(self, msg: Any, **_: Any) -> None:
        plan = msg.data
        if (plan["locustfile"] is None) is not self.own:
            self.refused = (
                "this worker has a locustfile, its master has none"
                if self.own is False
                else "its master has a locustfile: this worker needs the same one with --locustfile"
            )
            self.ended.set()
        elif self.arrivals is None:
            suite_user(plan, self.recorder)  # sets what all users share, on the base class
            self.user.host = plan["url"]
            SuiteUser.added_latency_s = self.added_latency_s
            # Not the same choices as the other workers.
            SuiteUser.scenario.rng.seed(f"{plan['seed']} {self.runner.client_id}")
            self.environment.host = plan["url"]
            self.environment.stop_timeout = plan["drain_s"]
            give_headers([u for u in self.environment.user_classes if u is not self.user], plan["headers"])
            self.arrivals = Arrivals(SuiteUser.scenario, self.environment, self.user, plan["max_in_flight"])

    def _rate(self, msg: Any, **_: Any) -> None:
        assert self.arrivals is not None
        self.arrivals.ramp(msg.data["rate"], msg.data["ramp_s"], msg.data["arrivals"])

    def _window(self, msg: Any, **_: Any) -> None:
        if msg.data["stage"] is None:
            self.recorder.close_window()
        else:
            self.recorder.open_window(msg.data["stage"])

    def _finish(self, **_: Any) -> None:
        """No more load; what has ended until now goes home, then the master says quit."""
        assert self.arrivals is not None
        self.finished = True
        self.send_second()
        self.arrivals.stop()

    def send_second(self) -> None:
        assert self.arrivals is not None
        users = int(self.runner.user_count)
        second = {**taken(self.recorder, self.health, self.arrivals, users), "closed_users": users}
        self.runner.send_message(
            "dbperf_second",
            {
                "second": second,
                "unfinished": self.recorder.measured_active(),
                "not_started": self.arrivals.not_started(),
                "finished": self.finished,
            },
        )

    def hello(self) -> None:
        self.runner.send_message("dbperf_hello", {"region": self.region, "has_plan": self.arrivals is not None})

    def work(self) -> None:
        while self.arrivals is None:  # messages may be lost while the connection is made: ask until it is here
            self.hello()
            gevent.sleep(HELLO_S)
        settle()
        self.hello()
        gevent.spawn(self.health.watch)
        due = time.time()
        while not self.finished:
            due += STEP_S
            gevent.sleep(max(0.0, due - time.time()))
            if not self.finished:
                self.send_second()

    def watch_input(self) -> None:
        """The end of standard input is the end of the dbperf that started this worker."""
        os.set_blocking(0, False)
        while gevent.os.nb_read(0, 4096):
            pass
        self.ended.set()

    def run(self) -> None:
        gevent.spawn(self.watch_input)
        gevent.spawn(self.work)
        waiting = gevent.spawn(self.runner.greenlet.join)  # ends when the master says quit, or has gone
        waiting.link(lambda _: self.ended.set())
        self.ended.wait()


def work(plan: dict[str, Any]) -> None:
    try:
        worker = Worker(plan)
    except LocustfileError as e:
        sys.exit(str(e))
    except (SystemExit, OSError) as e:
        sys.exit(f"no connection to the master at {plan['master_host']}:{plan['master_port']}: {e}")
    worker.run()
    if worker.refused:
        sys.exit(worker.refused)
