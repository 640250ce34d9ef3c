"""Real profilers on programs whose answer is known, and everything that can't be profiled."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from dbperf.errors import DbperfError, UsageError
from dbperf.flame import pyspy
from dbperf.flame.launched import profile_command
from dbperf.flame.ops import costs, total
from dbperf.flame.readers import read_profile
from dbperf.records.stacks import Stacks
from tests.conftest import Database
from tests.support import traced_app
from tests.support.cli import dbperf, dbperf_here, environment
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/known_profiles.py"


flame = partial(dbperf, "flame", cwd=ROOT)


def inclusive(s: Stacks) -> dict[str, float]:
    found: dict[str, float] = {}
    for f, c in costs(s).items():
        short = f.name.rpartition(".")[2]
        found[short] = found.get(short, 0.0) + c.total_value
    return found


@pytest.fixture
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, PROGRAM, "forever"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    yield child
    child.stdout.close()
    child.kill()
    child.wait()


@pytest.mark.parametrize("kind", ["threads", "asyncio", "gevent"])
@pytest.mark.parametrize("engine", ["py-spy", "sampler"])
def test_known_answers(kind: str, engine: str, tmp_path: Path) -> None:
    s, code = profile_command([sys.executable, str(PROGRAM), kind], engine=engine, folder=tmp_path)
    assert code == 0
    v = inclusive(s)
    share = v["heavy"] / (v["heavy"] + v["light"])
    if engine == "sampler":  # it weighs by CPU time, whose use is known
        assert share == pytest.approx(0.75, abs=0.12)
        assert v["heavy"] + v["light"] == pytest.approx(1200, rel=0.15)
    else:
        # py-spy's samples are of wall time: others who use this machine lengthen either. benchmarks/bench_flame.py
        # tells how near it comes.
        assert 0.4 < share < 0.98


def test_cprofile_does_not_charge_waiting(tmp_path: Path) -> None:
    s, _ = profile_command([sys.executable, str(PROGRAM), "asyncio"], engine="cprofile", folder=tmp_path)
    v = inclusive(s)
    assert v["heavy"] == pytest.approx(900, rel=0.2)
    assert v["light"] == pytest.approx(300, rel=0.2)
    waits = sum(x for name, x in v.items() if "poll" in name or "select" in name)
    assert waits < 0.1 * total(s)


def test_attach_for_seconds(spinning: subprocess.Popen[bytes]) -> None:
    s = pyspy.record(spinning.pid, 1.5)
    v = inclusive(s)
    assert v["heavy"] > v.get("light", 0.0)  # ten times as long
    assert s.unit == "ms"
    assert any(len(k.by_block) > 4 for k in s.stacks)
    assert spinning.poll() is None


def test_a_slow_health_check_ends_the_sampling(spinning: subprocess.Popen[bytes]) -> None:
    asked = 0

    def health() -> float:
        nonlocal asked
        asked += 1
        return 2.0 if asked <= 5 else 500.0

    s = pyspy.record(spinning.pid, 100, health=health)
    assert total(s) < 90_000
    assert any("health check" in n for n in s.notes)
    assert total(s) > 0


@pytest.fixture
def deep() -> Iterator[tuple[int, Callable[[], float]]]:
    """A process whose stacks py-spy can't read ten times a second, and what asks for its health, in ms."""
    child = subprocess.Popen([sys.executable, PROGRAM, "deep", "80"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with socket.create_connection(("127.0.0.1", int(child.stdout.readline()))) as connection:

        def ask() -> float:
            start = time.perf_counter()
            connection.sendall(b"?")
            connection.recv(1)
            return (time.perf_counter() - start) * 1e3

        yield child.pid, ask
    child.stdout.close()
    child.kill()
    child.wait()


@pytest.mark.slow
def test_a_sampler_that_falls_behind_is_slowed_and_ended(deep: tuple[int, Callable[[], float]]) -> None:
    s = pyspy.record(deep[0], 300, rate=2 * pyspy.MIN_RATE, wall=True)
    assert [n for n in s.notes if "behind" in n] == [
        "py-spy fell behind at 20 samples/s: the rate was halved",
        "sampling was ended: py-spy fell behind even at 10 samples/s, and slows the process",
    ]
    assert s.rate_per_s == pyspy.MIN_RATE
    assert inclusive(s)["down"] > 0


@pytest.mark.slow
def test_a_target_that_sampling_slows_down_is_left_alone(deep: tuple[int, Callable[[], float]]) -> None:
    """Which of the two is noticed first, py-spy's delay or the target's, is for the machine to say."""
    pid, ask = deep
    slowest = 0.0

    def health() -> float:
        nonlocal slowest
        took_ms = ask()
        slowest = max(slowest, took_ms)
        return took_ms

    s = pyspy.record(pid, 300, rate=pyspy.MIN_RATE, health=health, wall=True)
    assert any(n.startswith("sampling was ended: ") for n in s.notes)
    assert slowest > pyspy._HEALTH_FLOOR_MS
    assert min(ask() for _ in range(5)) < slowest


def test_a_process_that_ends_in_the_middle(
    spinning: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where py-spy's words are found

    def end() -> None:
        eventually(lambda: any("Sampling process" in log.read_text() for log in tmp_path.glob("*/*.log")))
        time.sleep(0.5)
        spinning.kill()
        spinning.wait()

    ending = threading.Thread(target=end)
    ending.start()
    s = pyspy.record(spinning.pid, 60)
    ending.join()
    assert total(s) > 0
    assert any("ended while it was sampled" in n for n in s.notes)


def test_what_cant_be_sampled() -> None:
    with pytest.raises(DbperfError, match="no process 4999999"):
        pyspy.record(4_999_999, 1)
    other = subprocess.Popen(["sleep", "30"])
    try:
        with pytest.raises(DbperfError, match="not a Python program"):
            pyspy.record(other.pid, 1)
    finally:
        other.kill()
        other.wait()


def test_without_permission_the_fix_is_named(spinning: subprocess.Popen[bytes], tmp_path: Path) -> None:
    as_other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    program = Path(tempfile.mkdtemp(dir="/tmp")) / "py-spy"
    try:
        program.parent.chmod(0o755)
        shutil.copy2(pyspy.program(), program)
        done = subprocess.run(
            [*as_other, program, "dump", "--pid", str(spinning.pid if as_other else 1)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(program.parent)
    assert done.returncode
    run = object.__new__(pyspy._Run)  # what py-spy says to another user, and what is made of it
    run.pid, run.out, run.log = spinning.pid, tmp_path / "none", tmp_path / "log"
    run.log.write_text(done.stderr)
    with pytest.raises(pyspy.PtraceError, match="no permission") as caught:
        run.result()
    assert caught.value.hint
    assert "SYS_PTRACE" in caught.value.hint


def test_the_sampler_stands_in_where_py_spy_may_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbperf.flame.launched.may_trace", lambda: False)
    s, _ = profile_command([sys.executable, str(PROGRAM), "asyncio"], engine=None, folder=tmp_path)
    assert s.source == "sampler"
    assert "SYS_PTRACE" in s.notes[0]


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no program"):
        profile_command(["/nowhere/python"], engine=None, folder=tmp_path)


def test_command_line(tmp_path: Path) -> None:
    done = flame(
        "--out", str(tmp_path), "--format", "html,svg,speedscope,collapsed,json", "--engine", "sampler",
        "--", sys.executable, str(PROGRAM), "asyncio",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = [Path(p) for p in done.stdout.split()]
    assert {p.name for p in written} == {
        "flame.html", "flame.svg", "flame.speedscope.json", "flame.collapsed.txt", "flame.stacks.json",
    }  # fmt: skip
    for path in written[2:]:
        assert inclusive(read_profile(path))["heavy"] == pytest.approx(900, rel=0.2)
    out = tmp_path / "diff.html"
    compared = flame("diff", str(written[4]), str(written[2]), "--out", str(out))
    assert compared.returncode == 0, compared.stderr
    assert "heavy" in compared.stdout
    assert out.read_text().startswith("<!doctype html>")


def test_cprofile_of_a_function_and_of_an_endpoint(tmp_path: Path) -> None:
    done = flame("--cprofile", "tests.support.known_profiles:in_tasks", "--out", str(tmp_path), "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "spin" in done.stderr
    assert (tmp_path / "profile.pstats").exists()
    assert inclusive(read_profile(tmp_path / "profile.pstats"))["heavy"] == pytest.approx(900, rel=0.2)
    requests = tmp_path / "requests"
    requests.write_text("GET /\n")
    done = flame(
        "--cprofile", "tests.support.known_profiles:app", "--requests", str(requests), "--rounds", "5",
        "--out", str(tmp_path), "--format", "json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    v = inclusive(read_profile(tmp_path / "flame.stacks.json"))
    assert v["heavy"] == pytest.approx(150, rel=0.25)
    assert v["light"] == pytest.approx(50, rel=0.25)


@pytest.mark.pg("== 18")
def test_an_endpoint_on_greenlets_is_sampled(db: Database, tmp_path: Path) -> None:
    db.psql(traced_app.SCHEMA)
    requests = tmp_path / "requests"
    requests.write_text('{"path": "/compute", "repeat": 3}\n')
    done = flame(
        "--cprofile", "tests.support.traced_app:from_environment()", "--requests", requests, "--out", tmp_path,
        "--format", "json", env={**os.environ, "TRACED_APP_DSN": db.dsn},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "greenlets switched" in done.stderr
    s = read_profile(tmp_path / "flame.stacks.json")
    assert inclusive(s)["spin"] > 0.7 * total(s)


def test_a_failing_command_keeps_its_profile(tmp_path: Path) -> None:
    program = "import sys, time; e = time.thread_time() + 0.5\nwhile time.thread_time() < e: pass\nsys.exit(3)"
    done = flame(
        "--engine", "sampler", "--out", str(tmp_path), "--format", "collapsed", "--", sys.executable, "-c", program
    )
    assert done.returncode == 0
    assert "exit code 3" in done.stderr


def test_memory_at_the_peak(tmp_path: Path) -> None:
    program = tmp_path / "grow.py"
    program.write_text("def hold():\n    return bytearray(30_000_000)\n\ndef pass_by():\n    bytearray(9_000_000)\n\n"
                       "pass_by()\nkept = hold()\n")  # fmt: skip
    done = flame(
        "--engine", "memray", "--out", str(tmp_path), "--format", "json,html", "--", sys.executable, str(program)
    )
    assert done.returncode == 0, done.stderr
    s = read_profile(tmp_path / "flame.stacks.json")
    assert s.unit == "bytes"
    held = inclusive(s)
    assert held["hold"] == pytest.approx(30_000_000, rel=0.02)
    assert "pass_by" not in held
    refused = flame("--engine", "memray", "--out", str(tmp_path), "--", "sleep", "1")
    assert refused.returncode == 2


ALLOCATING_APP = """
kept = []

def grow():
    kept.append(bytearray(20_000_000))

def pass_by():
    bytearray(5_000_000)

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/grow":
        kept.clear()
        grow()
    pass_by()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

def once():
    return bytearray(30_000_000)
"""


def test_memory_of_an_endpoint_and_of_a_function(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(ALLOCATING_APP)
    (tmp_path / "requests").write_text("GET /grow\n")

    def memory(*args: str) -> Stacks:
        done = dbperf("flame", "--out", "out", "--format", "json", "--memory", *args, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return read_profile(tmp_path / "out" / "flame.stacks.json")

    endpoint = memory("shop:app", "--requests", "requests")
    assert endpoint.unit == "bytes"
    assert inclusive(endpoint)["grow"] == pytest.approx(20_000_000, rel=0.02)
    assert "once" not in inclusive(endpoint)
    assert inclusive(memory("shop:once"))["once"] == pytest.approx(30_000_000, rel=0.02)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "say what to profile"),
        (["--pid", "5", "--read", "x"], 2, "don't go together"),
        (["--format", "png", "--pid", "5"], 2, "no format 'png'"),
        (["--cprofile", "nowhere:f"], 2, "no module 'nowhere'"),
        (["--cprofile", "json:dumps"], 3, "json:dumps raised TypeError"),
        (["--cprofile", "time:nothing"], 2, "has no 'nothing'"),
        (["--cprofile", "sys:path"], 2, "can't be called"),
        (["--cprofile", "tests.support.known_profiles:app"], 2, "is an ASGI application"),
        (["--memory", "tests.support.known_profiles:app"], 2, "is an ASGI application"),
        (["--read", "/nowhere"], 3, "does not exist"),
        (["diff", "/nowhere", "/nowhere"], 3, "does not exist"),
        (["--engine", "magic", "--", "python3"], 2, "no engine 'magic'"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, args: list[str], code: int, message: str) -> None:
    out = ["--out", str(tmp_path / "o")] if "diff" not in args else []
    done = dbperf_here("flame", *out, *args, env=environment(tmp_path), cwd=ROOT)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
