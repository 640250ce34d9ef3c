"""Real loads: Locust in its child process against a real HTTP server with known faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from dbperf.errors import ConfigError, DbperfError, TargetError, UsageError
from dbperf.load import derive_suite, read_load, run_load
from dbperf.load.data import resolve_data
from dbperf.load.imports import read_foreign
from dbperf.load.plan import Fleet, Place
from dbperf.load.progress import LoadEvent
from dbperf.load.runner import run_worker
from dbperf.load.suite_file import parse_suite
from dbperf.postgres.connect import connected
from dbperf.processes import free_port
from dbperf.records.base import parse_document
from dbperf.records.load import EndpointLoad, Load, StageLoad
from dbperf.stats.hdr import Latencies
from tests.conftest import Database
from tests.support.httpserver import FaultyServer, known_quantile_ms
from tests.support.waiting import eventually, gone

HEAD = """
name = "faults"
timeout = "400ms"
drain = "1s"
[[stages]]
users = 4
duration = "2s"
[think_time]
min = "5ms"
max = "15ms"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def endpoints(*paths: str) -> str:
    return HEAD + "".join(f'[[endpoints]]\npath = "{p}"\n' for p in paths)


def arriving(rate: float, *paths: str) -> str:
    """Requests that are due at fixed times: how many there are does not depend on how fast anything is."""
    text = endpoints(*paths).replace("users = 4", f'arrival_rate = {rate}\narrivals = "uniform"')
    return text.replace('drain = "1s"', 'drain = "30s"')


def window_s(stage: StageLoad) -> float:
    return (stage.ended_at - stage.started_at).total_seconds()


def by_name(load: Load) -> dict[str, EndpointLoad]:
    return {e.name: e for e in load.stages[0].endpoints}


def driver_pids() -> list[int]:
    return [p.pid for p in psutil.Process().children() if "loadtests/main.py" in " ".join(p.cmdline())]


async def test_every_kind_of_answer_is_measured_and_counted(server: FaultyServer, tmp_path: Path) -> None:
    text = arriving(80, "/ok", "/delay?ms=50", "/status/500", "/reset", "/nothere").replace('"400ms"', '"30s"')
    text += '[[endpoints]]\npath = "/hang"\ntimeout = "400ms"\n[[endpoints]]\npath = "/big?mb=20"\nweight = 0.15\n'
    load = await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=1)
    assert load.complete
    found = by_name(load)
    assert found["GET /ok"].errors == 0
    assert found["GET /ok"].latency.count == found["GET /ok"].requests > 5
    assert (found["GET /delay"].min_ms or 0) >= 49
    for name, kind, status in (
        ("GET /status/500", "http 500", 500),
        ("GET /nothere", "http 404", 404),
        ("GET /reset", "connection reset", None),
        ("GET /hang", "timeout", None),
    ):
        e = found[name]
        assert [(x.kind, x.status, x.count) for x in e.errors_by_kind] == [(kind, status, e.requests)], name
    # A request given up after 400 ms took at least that long; a quick 500 says nothing about the latency.
    assert Latencies.decode(found["GET /hang"].latency).at_rank_ms(1) >= 399
    assert found["GET /status/500"].latency.count == 0
    failed = found["GET /status/500"].failed_latency
    assert failed is not None
    assert failed.count == found["GET /status/500"].requests
    assert found["GET /big"].response_bytes == found["GET /big"].requests * (20 << 20)
    assert any("GET /nothere was answered 404 every time" in note for note in load.notes)
    assert load.stages[0].requests == sum(e.requests for e in found.values())
    assert window_s(load.stages[0]) >= 0.99
    assert load.seconds
    assert parse_document(Load, load.to_json(), source="x") == load
    assert (tmp_path / "load_test_results.html").stat().st_size > 10_000
    assert "/status/500" in (tmp_path / "load_test_failures.csv").read_text()
    as_csv = {e.name: e for e in read_foreign(tmp_path / "load_test_stats.csv").endpoints}
    as_json = {e.name: e for e in read_foreign(tmp_path / "load_test_results.json").endpoints}
    assert {name: e.requests for name, e in as_csv.items()} == {name: e.requests for name, e in as_json.items()}
    # Locust's own counts have the ramp and the warm-up, too.
    assert all((as_csv[f"GET {name}"].requests or 0) >= e.requests for name, e in found.items())


async def test_an_api_that_answers_500_on_everything_is_measured(server: FaultyServer, tmp_path: Path) -> None:
    load = await run_load(
        parse_suite(endpoints("/status/500"), "x"), server.url, out_dir=tmp_path, duration_s=1, locust_files=False
    )
    (e,) = load.stages[0].endpoints
    assert e.errors == e.requests > 0
    assert [q.reason for q in e.quantiles] == ["no request succeeded"] * 5
    assert not list(tmp_path.glob("load_test*"))


async def test_bodies_and_paths_are_filled_from_data_and_headers_are_sent(server: FaultyServer, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
    [[endpoints]]
    method = "POST"
    path = "/echo"
    json = { id = "{n}", text = "\\"{n}\\" é" }
    [[endpoints]]
    path = "/items/{n}"
    name = "item"
    [[endpoints]]
    path = "/secret"
    [[data]]
    name = "n"
    values = [7, 8]
    """
    )
    text = text.replace("users = 4", 'arrival_rate = 100\narrivals = "uniform"')
    load = await run_load(
        parse_suite(text, "x"), server.url, out_dir=tmp_path, headers={"X-API-Key": "k3y"}, duration_s=1
    )
    found = by_name(load)
    assert set(found) == {"POST /echo", "item", "GET /secret"}
    assert found["GET /secret"].errors == 0
    body = json.dumps({"id": 7, "text": '"7" é'})  # the placeholder alone keeps its type, inside a text it is text
    assert found["POST /echo"].response_bytes == len(body) * found["POST /echo"].requests
    counts = json.load(urllib.request.urlopen(f"{server.url}/counts"))
    assert counts["GET /items/7"] > 0
    assert counts["GET /items/8"] > 0
    for path in tmp_path.iterdir():
        assert b"k3y" not in path.read_bytes(), path


async def test_the_measured_window_is_told_and_holds_no_warm_up(server: FaultyServer, tmp_path: Path) -> None:
    text = endpoints("/ok").replace('duration = "2s"', 'duration = "500ms"\nramp = "500ms"\nwarm_up = "500ms"')
    edges: list[tuple[str, str, float]] = []
    events: list[LoadEvent] = []

    async def opens(stage: str) -> None:
        edges.append(("opens", stage, time.time()))
        await asyncio.sleep(0.3)  # a slow snapshot: the window waits for it

    async def closed(stage: str) -> None:
        edges.append(("closed", stage, time.time()))

    load = await run_load(
        parse_suite(text, "x"), server.url, out_dir=tmp_path, locust_files=False, on_event=events.append,
        on_measuring=opens, on_measured=closed,
    )  # fmt: skip
    assert [(kind, stage) for kind, stage, _ in edges] == [("opens", "4 users"), ("closed", "4 users")]
    stage = load.stages[0]
    assert edges[0][2] + 0.29 <= stage.started_at.timestamp()
    assert stage.ended_at.timestamp() <= edges[1][2]
    assert [e.kind for e in events if e.kind != "second"] == ["ramp", "warm-up", "measuring", "measured", "ended"]
    before = sum(s.requests for s in load.seconds) - stage.requests
    assert before > 0  # ramp and warm-up are in the timeline, not in the stage


async def test_requests_that_never_end_are_counted_as_unfinished(server: FaultyServer, tmp_path: Path) -> None:
    text = endpoints("/hang").replace('"400ms"', '"60s"').replace('drain = "1s"', 'drain = "200ms"')
    text = text.replace('duration = "2s"', 'duration = "2s"\nwarm_up = "500ms"')
    load = await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=1, locust_files=False)
    # The four users started in the warm-up and hang since: nothing started inside the window, nothing is claimed.
    assert load.complete
    assert load.stages[0].requests == 0
    text = arriving(40, "/hang", "/ok").replace('"400ms"', '"60s"').replace('drain = "30s"', 'drain = "1s"')
    load = await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=1, locust_files=False)
    unfinished, answered = by_name(load)["GET /hang"].unfinished, by_name(load)["GET /ok"].requests
    assert 1 <= unfinished <= 39
    assert unfinished + answered + by_name(load)["GET /ok"].unfinished == pytest.approx(
        40 * window_s(load.stages[0]), abs=2
    )
    assert any("had not finished" in note for note in load.notes)


async def test_stopping_ends_at_once_with_what_there_is(server: FaultyServer, tmp_path: Path) -> None:
    text = endpoints("/ok", "/hang").replace('"400ms"', '"900s"').replace('/hang"', '/hang"\nweight = 0.005')
    stop = asyncio.Event()

    def watch(event: LoadEvent) -> None:
        if event.kind == "second" and event.phase == "measured":
            stop.set()

    # Neither the ten minutes of the load nor the fifteen of a request that hangs are waited for.
    async with asyncio.timeout(300):
        load = await run_load(
            parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=600, stop=stop, on_event=watch
        )
    assert not load.complete
    assert load.stages[0].requests > 0
    assert "the load ended early: stopped" in load.notes
    assert not driver_pids()


async def test_a_cancelled_load_leaves_its_seconds_and_no_process(server: FaultyServer, tmp_path: Path) -> None:
    suite = parse_suite(endpoints("/ok"), "x")
    measured = asyncio.Event()

    def watch(event: LoadEvent) -> None:
        if event.kind == "second" and event.phase == "measured":
            measured.set()

    partial: list[Load] = []
    task = asyncio.create_task(
        run_load(suite, server.url, out_dir=tmp_path, duration_s=600, on_event=watch, on_partial=partial.append)
    )
    await asyncio.wait_for(measured.wait(), 300)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    load = read_load(tmp_path / "load.jsonl", suite, server.url)
    assert partial == [load]
    assert not load.complete
    assert load.stages[0].requests > 0
    assert sum(sum(s.counts) for s in load.stretches) == sum(s.requests for s in load.seconds)
    assert not driver_pids()


async def test_a_killed_driver_leaves_everything_up_to_the_last_second(server: FaultyServer, tmp_path: Path) -> None:
    suite = parse_suite(endpoints("/ok"), "x")
    seconds = 0

    def watch(event: LoadEvent) -> None:
        nonlocal seconds
        seconds += event.kind == "second" and event.phase == "measured"
        if seconds == 2:
            for pid in driver_pids():
                os.kill(pid, signal.SIGKILL)

    load = await run_load(suite, server.url, out_dir=tmp_path, duration_s=60, on_event=watch)
    assert not load.complete
    assert load.stages[0].requests == by_name(load)["GET /ok"].latency.count > 0
    # A line that was being written when the process died is passed over; one broken in the middle is not.
    file = tmp_path / "load.jsonl"
    file.write_bytes(file.read_bytes() + b'{"second": 99, "at": 17')
    assert read_load(file, suite, server.url).stages == load.stages


async def test_an_error_in_a_callback_ends_the_load(server: FaultyServer, tmp_path: Path) -> None:
    async def fails(stage: str) -> None:
        raise RuntimeError("the snapshot failed")

    with pytest.raises(RuntimeError, match="the snapshot failed"):
        await run_load(parse_suite(endpoints("/ok"), "x"), server.url, out_dir=tmp_path, on_measuring=fails)
    assert not driver_pids()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("http://no-such-host.invalid", TargetError, "the host 'no-such-host.invalid' of"),
        ("http://127.0.0.1:1", TargetError, "127.0.0.1:1 refuses connections"),
        ("ftp://127.0.0.1", UsageError, "is not a URL of an API"),
        ("http://127.0.0.1:99999", UsageError, "is not a URL"),
    ],
)
async def test_a_target_that_is_not_there_is_named(
    url: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        await run_load(parse_suite(endpoints("/ok"), "x"), url, out_dir=tmp_path)


async def test_https_at_an_http_port_is_named(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no TLS connection"):
        await run_load(parse_suite(endpoints("/ok"), "x"), f"https://127.0.0.1:{server.port}", out_dir=tmp_path)


async def test_a_suite_is_derived_from_an_openapi_document(server: FaultyServer, tmp_path: Path) -> None:
    suite, left_out = await asyncio.to_thread(derive_suite, server.url, users=2, duration_s=1)
    assert [e.name for e in suite.endpoints] == ["GET /delay", "GET /ok"]
    assert {x.endpoint: x.reason for x in left_out} == {
        "GET /items/{id}": "it needs id",
        "POST /echo": "not a GET: it may change data, and needs a body that dbperf doesn't know",
    }
    (stage,) = suite.stages
    suite = msgspec.structs.replace(suite, stages=[msgspec.structs.replace(stage, ramp_s=0)])
    load = await run_load(suite, server.url, out_dir=tmp_path, warm_up_s=0, locust_files=False)
    assert load.stages[0].requests > 0
    with pytest.raises(TargetError, match="answers 404"):
        await asyncio.to_thread(derive_suite, f"{server.url}/status/404")


async def test_a_suite_whose_endpoints_all_write_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    text = HEAD + '[[endpoints]]\nmethod = "POST"\npath = "/echo"\nwrites = true\n'
    with pytest.raises(ConfigError, match="no endpoint that may be called"):
        await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path)
    load = await run_load(
        parse_suite(text, "x"), server.url, out_dir=tmp_path, allow_writes=True, duration_s=1, locust_files=False
    )
    assert load.stages[0].requests > 0


async def test_a_driver_dies_with_dbperf(server: FaultyServer, tmp_path: Path) -> None:
    """dbperf is killed outright; its driver notices the end of its standard input."""
    (tmp_path / "s.toml").write_text(endpoints("/ok"))
    code = f"""
import asyncio
from pathlib import Path
from dbperf.load import load_suite, run_load
folder = Path({str(tmp_path)!r})
asyncio.run(run_load(load_suite(folder / "s.toml"), {server.url!r}, out_dir=folder, duration_s=60))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    log = tmp_path / "load.jsonl"
    assert await asyncio.to_thread(eventually, lambda: log.is_file() and log.stat().st_size > 0)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("loadtests/main.py" in " ".join(child.cmdline()) for child in children)
    process.kill()
    await process.wait()
    assert all([await asyncio.to_thread(eventually, lambda pid=child.pid: gone(pid)) for child in children])


async def test_arrivals_come_at_their_rate_however_slow_the_answers_are(server: FaultyServer, tmp_path: Path) -> None:
    text = arriving(40, "/delay?ms=300").replace("[think_time]", 'warm_up = "500ms"\n[think_time]')
    load = await run_load(
        parse_suite(text.replace('"400ms"', '"5s"'), "x"), server.url, out_dir=tmp_path, duration_s=1,
        locust_files=False,
    )  # fmt: skip
    stage = load.stages[0]
    assert (stage.model, stage.arrival_rate_per_s, stage.not_started) == ("open", 40, 0)
    # Four users who wait for their answers would manage 13 a second.
    assert stage.requests == pytest.approx(40 * window_s(stage), abs=2)


async def test_arrivals_that_find_no_client_are_counted_and_felt(server: FaultyServer, tmp_path: Path) -> None:
    text = "max_in_flight = 2\n" + endpoints("/delay?ms=300").replace("users = 4", "arrival_rate = 80")
    load = await run_load(
        parse_suite(text.replace('"400ms"', '"5s"'), "x"), server.url, out_dir=tmp_path, duration_s=1,
        locust_files=False,
    )  # fmt: skip
    stage = load.stages[0]
    (e,) = stage.endpoints
    assert stage.not_started > 30
    assert 0 <= e.unfinished - stage.not_started <= 2
    assert any("were due and never started" in note for note in load.notes)
    # Waiting for a client is part of the latency: two clients at 300 ms serve 7 a second, so the queue only grows.
    assert (e.max_ms or 0) > 600


async def test_stages_of_users_and_of_arrivals_follow_each_other(server: FaultyServer, tmp_path: Path) -> None:
    text = endpoints("/ok").replace(
        "[think_time]",
        '[[stages]]\narrival_rate = 50\nduration = "1s"\n[[stages]]\nusers = 2\nduration = "1s"\n[think_time]',
    )
    load = await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=0.5, locust_files=False)
    assert [(s.name, s.model, s.requests > 0) for s in load.stages] == [
        ("4 users", "closed", True),
        ("50/s", "open", True),
        ("2 users", "closed", True),
    ]


async def test_a_load_ends_when_a_gate_has_failed_beyond_doubt(server: FaultyServer, tmp_path: Path) -> None:
    text = 'abort_on_fail = true\ngrace = "1s"\ngates = ["errors < 1%"]\n' + endpoints("/status/500")
    load = await run_load(parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=600, locust_files=False)
    assert not load.complete
    assert load.notes[0].startswith("the load ended early: gate 'errors < 1%' failed: 100 %")


async def test_a_stall_is_felt_by_every_request_that_was_due_in_it(server: FaultyServer, tmp_path: Path) -> None:
    """No coordinated omission: no percentile from the intended start is below that of the known distribution.

    A busy machine answers later than that; on an idle one the two agree (benchmarks/bench_load_latency.py).
    """
    text = arriving(80, "/known").replace("400ms", "30s")

    async def stall(_: str) -> None:
        urllib.request.urlopen(f"{server.url}/stall?s=0").close()
        asyncio.get_running_loop().call_later(
            0.5, lambda: asyncio.create_task(asyncio.to_thread(urllib.request.urlopen, f"{server.url}/stall?s=1"))
        )

    load = await run_load(
        parse_suite(text, "x"), server.url, out_dir=tmp_path, duration_s=2.5, locust_files=False, on_measuring=stall
    )
    (e,) = load.stages[0].endpoints
    assert (e.unfinished, e.errors) == (0, 0)
    latencies = Latencies.decode(e.latency)
    for q in (0.5, 0.8, 0.9, 0.95):
        truth = known_quantile_ms(q, window_s=window_s(load.stages[0]), stall_s=1)
        assert latencies.at_rank_ms(round(q * latencies.count)) >= 0.95 * truth, q


LOCUSTFILE = """
from locust import FastHttpUser, HttpUser, constant, events, task

@events.init.add_listener
def ready(environment, **_):
    assert environment.parsed_options is not None

class Fast(FastHttpUser):
    wait_time = constant(0.02)

    @task
    def fine(self):
        self.client.get("/ok", name="front")

    @task
    def wrong(self):
        with self.client.get("/ok", catch_response=True, name="checked") as response:
            response.failure("not what I wanted")

class Slow(HttpUser):
    wait_time = constant(0.02)

    @task
    def broken(self):
        self.client.post("/status/503")
"""


async def test_somebody_s_own_locustfile_is_measured_in_the_suite_s_stages(
    server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    load = await run_load(
        parse_suite(endpoints("/ok"), "x"), server.url, out_dir=tmp_path, locustfile=tmp_path / "locustfile.py",
        duration_s=1,
    )  # fmt: skip
    found = {name: [(x.kind, x.status) for x in e.errors_by_kind] for name, e in by_name(load).items()}
    assert found == {
        "GET front": [],
        "GET checked": [("check failed", 200)],
        "POST /status/503": [("http 503", 503)],
    }


async def test_a_locustfile_s_users_are_spread_over_processes(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    fleet = Fleet(workers=2, port=free_port(), local=(Place(region="near"), Place(region="far")))
    load = await run_load(
        parse_suite(endpoints("/ok"), "x"), server.url, out_dir=tmp_path, locustfile=tmp_path / "locustfile.py",
        fleet=fleet, headers={"X-Asked": "yes"}, duration_s=1,
    )  # fmt: skip
    assert load.complete
    assert load.generator.processes == 2
    assert {"GET front", "GET checked", "POST /status/503"} == by_name(load).keys()
    regions = {r.region: r.requests for r in load.stages[0].regions}
    assert regions.keys() == {"near", "far"}
    assert all(regions.values())
    assert sum(regions.values()) == load.stages[0].requests
    assert not driver_pids()


async def test_a_worker_and_its_master_need_the_same_locustfile(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    far = Place(region="far", added_latency_s=0.1)
    with pytest.raises(UsageError, match="no time can be added to the requests of a locustfile"):
        await run_worker("127.0.0.1", 1, far, tmp_path / "log", locustfile=tmp_path / "locustfile.py")
    with pytest.raises(UsageError, match="there is no locustfile"):
        await run_worker("127.0.0.1", 1, None, tmp_path / "log", locustfile=tmp_path / "none.py")
    fleet = Fleet(workers=1, port=free_port())
    stop = asyncio.Event()
    master = asyncio.create_task(
        run_load(
            parse_suite(endpoints("/ok"), "x"), server.url, out_dir=tmp_path, locustfile=tmp_path / "locustfile.py",
            fleet=fleet, stop=stop,
        )
    )  # fmt: skip
    try:
        async with asyncio.timeout(300):
            code = await run_worker("127.0.0.1", fleet.port, None, tmp_path / "worker.log")
    finally:
        stop.set()
        with contextlib.suppress(DbperfError):
            await master
    assert code == 1
    assert "this worker needs the same one with --locustfile" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import locust\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "line 1: SyntaxError"),
        ("import locust\n", "defines no user class"),
    ],
)
async def test_a_locustfile_that_can_not_be_used_is_one_clear_message(
    text: str, message: str, server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(text)
    suite = parse_suite(endpoints("/ok"), "x")
    with pytest.raises(DbperfError) as caught:
        await run_load(suite, server.url, out_dir=tmp_path, locustfile=tmp_path / "bad.py")
    assert message in caught.value.message
    with pytest.raises(UsageError, match="there is no locustfile"):
        await run_load(suite, server.url, out_dir=tmp_path, locustfile=tmp_path / "none.py")


async def test_data_whose_sql_the_database_refuses_is_an_error_of_the_suite(db_18: Database) -> None:
    suite = parse_suite(
        HEAD + '[[endpoints]]\npath = "/ok?id={id}"\n[[data]]\nname = "id"\nsql = "SELECT id FROM gone"\n',
        "faults.toml",
    )
    async with connected(db_18.dsn) as connection:
        with pytest.raises(ConfigError, match=r"data 'id' of suite 'faults': relation \"gone\" does not exist"):
            await resolve_data(suite, connection.fetch)
