"""What makes the load: users and arrivals in this process, or a fleet of workers behind Locust's master.

The driver paces the stages and knows only `Generator`. Workers keep their own clocks: a window opens and closes on
each when the master's message arrives, and each second of a worker's is added to the master's next one.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gevent
from locust import FastHttpUser, User, argument_parser, events
from locust.env import Environment
from locust.util.load_locustfile import load_locustfile

from loadtests.arrivals import Arrivals
from loadtests.health import Health
from loadtests.recorder import Left, Recorder
from loadtests.scenario import Scenario, SuiteUser


class Generator(Protocol):
    environment: Environment

    def users_to(self, users: int, per_s: float) -> None:
        """Starts or stops users of the closed model."""

    def rate_to(self, rate: float, ramp_s: float, arrivals: str) -> None:
        """Changes the arrival rate of the open model."""

    def user_count(self) -> int:
        """Users of the closed model that run."""

    def open_window(self, stage: int) -> float:
        """Requests that start from now on belong to a stage."""

    def close_window(self) -> float:
        """Requests that start from now on belong to none."""

    def busy(self) -> bool:
        """Whether measured requests are still under way, or due."""

    def left_over(self) -> tuple[list[Left], list[Left]]:
        """Measured requests that have not ended, and those that have not started."""

    def take(self) -> dict[str, Any]:
        """What has ended since the last call, and the generator's health."""

    def problem(self) -> str | None:
        """Why the load can't go on, if it can't."""

    def stop(self) -> dict[str, Any] | None:
        """Ends everything within two seconds; returns what ended meanwhile."""


def suite_user(plan: dict[str, Any], recorder: Recorder) -> type[SuiteUser]:
    """The plan's user class, ready to start."""
    SuiteUser.insecure = not plan["verify_tls"]
    SuiteUser.host = plan["url"]
    SuiteUser.scenario = Scenario(plan, recorder)
    user: type[SuiteUser] = type("Suite", (SuiteUser,), {"abstract": False})
    return user


class LocustfileError(Exception):
    """The user's locustfile can't be used; the message says why and where."""


def locustfile_environment(plan: dict[str, Any]) -> Environment:
    """The users of somebody's own locustfile, with the events and options that such files expect.

    Args:
        plan: a worker's holds no more than the file's path; URL and headers come from the master.

    Raises:
        LocustfileError: it raises on import, or defines no user.
    """
    path = Path(plan["locustfile"])
    # `loadtests` is imported already; the file may bring a package of that name along.
    for name in [m for m in sys.modules if m == "loadtests" or m.startswith("loadtests.")]:
        del sys.modules[name]
    sys.path.pop(0)
    try:
        users, _ = load_locustfile(str(path.resolve()))
    except (Exception, SystemExit) as e:
        frames = [f for f in traceback.extract_tb(e.__traceback__) if Path(f.filename).name == path.name]
        where = f"{path}, line {e.lineno if isinstance(e, SyntaxError) else frames[-1].lineno if frames else '?'}"
        raise LocustfileError(f"{where}: {type(e).__name__}: {e}") from e
    if not users:
        raise LocustfileError(f"{path} defines no user class")
    give_headers(list(users.values()), plan.get("headers", {}))
    parser = argument_parser.get_empty_argument_parser()
    argument_parser.setup_parser_arguments(parser)  # type: ignore[no-untyped-call]  # locust
    events.init_command_line_parser.fire(parser=parser)  # type: ignore[no-untyped-call]  # locust
    return Environment(
        user_classes=list(users.values()),
        events=events,
        host=plan.get("url"),
        stop_timeout=plan.get("drain_s"),
        parsed_options=parser.parse(args=[]),
    )


def give_headers(users: Sequence[type[User]], headers: Mapping[str, str]) -> None:
    """Sends headers with each request of the FastHttpUsers among them; what a user sets itself stays."""
    for user in users:
        if issubclass(user, FastHttpUser):
            user.default_headers = {**headers, **(user.default_headers or {})}


def fire_init(environment: Environment) -> None:
    """What Locust's own command line does once the runner is there: locustfiles set themselves up by it."""
    told = {"environment": environment, "runner": environment.runner, "web_ui": None}
    environment.events.init.fire(**told)  # type: ignore[no-untyped-call]  # locust


class Local:
    """Users and arrivals in this process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        own = plan["locustfile"] is None
        self.recorder = Recorder(own_names=own)
        self.health = Health()
        user = suite_user(plan, self.recorder)
        self.environment = (
            Environment(user_classes=[user], host=plan["url"], stop_timeout=plan["drain_s"])
            if own
            else locustfile_environment(plan)
        )
        self.environment.events.request.add_listener(self.recorder.on_request)  # type: ignore[no-untyped-call]  # locust
        self.runner = self.environment.create_local_runner()
        self.arrivals = Arrivals(SuiteUser.scenario, self.environment, user, plan["max_in_flight"])
        gevent.spawn(self.health.watch)
        if not own:
            fire_init(self.environment)

    def users_to(self, users: int, per_s: float) -> None:
        if users:
            self.runner.start(users, per_s)
        elif self.runner.user_count:
            self.runner.stop()

    def rate_to(self, rate: float, ramp_s: float, arrivals: str) -> None:
        self.arrivals.ramp(rate, ramp_s, arrivals)

    def user_count(self) -> int:
        return int(self.runner.user_count)

    def open_window(self, stage: int) -> float:
        return self.recorder.open_window(stage)

    def close_window(self) -> float:
        return self.recorder.close_window()

    def busy(self) -> bool:
        return bool(self.recorder.measured_active() or self.arrivals.not_started())

    def left_over(self) -> tuple[list[Left], list[Left]]:
        return self.recorder.measured_active(), self.arrivals.not_started()

    def take(self) -> dict[str, Any]:
        return taken(self.recorder, self.health, self.arrivals, self.user_count())

    def problem(self) -> str | None:
        return None

    def stop(self) -> dict[str, Any] | None:
        self.arrivals.stop()
        self.environment.stop_timeout = 0
        with gevent.Timeout(2, False):
            self.runner.stop()
        return None


def taken(recorder: Recorder, health: Health, arrivals: Arrivals, users: int) -> dict[str, Any]:
    """One process's second."""
    cpu_share, lag_ms = health.take()
    return {
        "users": users + arrivals.in_flight,
        "late_starts": arrivals.late_starts,
        "waiting": len(arrivals.waiting),
        "cpu_share": cpu_share,
        "lag_ms": lag_ms,
        "series": recorder.take(),
    }


class _Member:
    """What the master knows of a worker."""

    def __init__(self) -> None:
        self.region: str | None = None
        self.ready = False
        self.finished = False
        self.second: dict[str, Any] = {}
        self.unfinished: list[Left] = []
        self.not_started: list[Left] = []
        self.reported_at = 0.0


class Fleet:
    """Locust's master: users are spread over the workers that have connected."""

    def __init__(self, plan: dict[str, Any], on_lost: Any) -> None:
        self.plan = plan
        self.expected: int = plan["workers"]
        self.on_lost = on_lost
        self.members: dict[str, _Member] = {}
        self.lost: set[str] = set()
        self.rows: list[dict[str, Any]] = []
        self.late_starts: dict[str, int] = {}
        user = suite_user(plan, Recorder())
        own = plan["locustfile"] is None
        self.environment = (
            Environment(user_classes=[user], host=plan["url"], stop_timeout=plan["drain_s"])
            if own
            else locustfile_environment(plan)
        )
        self.runner = self.environment.create_master_runner(plan["master_host"], plan["master_port"])
        if not own:
            fire_init(self.environment)
        self.runner.register_message("dbperf_hello", self._hello)
        self.runner.register_message("dbperf_second", self._second)
        self.health = Health()
        gevent.spawn(self.health.watch)
        self._starting: gevent.Greenlet | None = None

    # -- messages from workers

    def _hello(self, msg: Any, **_: Any) -> None:
        """A worker asks for the plan, or says that it has it."""
        member = self.members.setdefault(msg.node_id, _Member())
        member.region = msg.data["region"]
        if msg.data["has_plan"]:
            member.ready = True
            return
        kept = {k: v for k, v in self.plan.items() if k not in ("file", "locust_prefix", "stages")}
        self.runner.send_message("dbperf_plan", kept, client_id=msg.node_id)

    def _second(self, msg: Any, **_: Any) -> None:
        member = self.members.setdefault(msg.node_id, _Member())
        data = msg.data
        for row in data["second"].pop("series"):
            self.rows.append({**row, "worker": msg.node_id, "region": member.region})
        member.second = data["second"]
        member.unfinished = [tuple(x) for x in data["unfinished"]]
        member.not_started = [tuple(x) for x in data["not_started"]]
        member.finished = data["finished"]
        member.reported_at = time.time()
        self.late_starts[msg.node_id] = data["second"]["late_starts"]

    # -- the fleet

    def wait_for_workers(self, stopped: Any, limit_s: float) -> str | None:
        """Waits until all have connected and got the plan; returns what went wrong."""
        deadline = time.monotonic() + limit_s
        while sum(m.ready for m in self.members.values()) < self.expected:
            if stopped.is_set():
                return "stopped"
            if time.monotonic() > deadline:
                ready = sum(m.ready for m in self.members.values())
                return f"only {ready} of {self.expected} workers connected within {limit_s:g} s"
            gevent.sleep(0.05)
        return None

    def _alive(self) -> list[str]:
        states = {c.id: c.state for c in self.runner.clients.values()}
        return [i for i, m in self.members.items() if m.ready and states.get(i, "missing") != "missing"]

    def _check(self) -> None:
        for worker in self.members.keys() - set(self._alive()) - self.lost:
            if self.members[worker].ready:
                self.lost.add(worker)
                self.members[worker].second = {}
                self.on_lost(worker, self.members[worker].region)

    def users_to(self, users: int, per_s: float) -> None:
        if self._starting is not None:
            self._starting.kill()
        if users:
            self._starting = gevent.spawn(self.runner.start, users, per_s)  # it blocks for the whole ramp
        elif self.user_count():
            self._starting = gevent.spawn(self.runner.start, 0, 1000.0)

    def rate_to(self, rate: float, ramp_s: float, arrivals: str) -> None:
        alive = self._alive()
        share = rate / max(1, len(alive))
        self.runner.send_message("dbperf_rate", {"rate": share, "ramp_s": ramp_s, "arrivals": arrivals})

    def user_count(self) -> int:
        return sum(m.second.get("closed_users", 0) for m in self.members.values())

    def open_window(self, stage: int) -> float:
        self.runner.send_message("dbperf_window", {"stage": stage})
        return time.time()

    def close_window(self) -> float:
        self.runner.send_message("dbperf_window", {"stage": None})
        self.closed_at = time.time()
        return self.closed_at

    closed_at = 0.0

    def busy(self) -> bool:
        alive = [self.members[i] for i in self._alive()]
        return any(m.unfinished or m.not_started or m.reported_at <= self.closed_at for m in alive)

    def left_over(self) -> tuple[list[Left], list[Left]]:
        members = self.members.values()
        return [r for m in members for r in m.unfinished], [r for m in members for r in m.not_started]

    def take(self) -> dict[str, Any]:
        self._check()
        rows, self.rows = self.rows, []
        cpu_share, lag_ms = self.health.take()
        seconds = [m.second for m in self.members.values() if m.second]
        return {
            "users": sum(s["users"] for s in seconds),
            "late_starts": sum(self.late_starts.values()),
            "waiting": sum(s["waiting"] for s in seconds),
            "cpu_share": max([cpu_share, *(s["cpu_share"] for s in seconds)]),
            "lag_ms": max([lag_ms, *(s["lag_ms"] for s in seconds)]),
            "workers": len(seconds),
            "series": rows,
        }

    def problem(self) -> str | None:
        return "all workers were lost" if self.members and not self._alive() else None

    def stop(self) -> dict[str, Any] | None:
        """Asks for what has ended since the last second, then sends everybody home."""
        if self._starting is not None:
            self._starting.kill()
        alive = self._alive()
        self.runner.send_message("dbperf_finish", {})
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline and not all(self.members[i].finished for i in alive):
            gevent.sleep(0.02)
        last = self.take()
        with gevent.Timeout(1, False):
            self.runner.quit()
        return last
