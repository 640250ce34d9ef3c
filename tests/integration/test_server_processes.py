"""Children end with dbperf: asked, by Ctrl-C, by a crash, by SIGKILL."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dbperf.errors import ServerError
from dbperf.processes import PIPE, Child, free_port
from tests.support.waiting import eventually, gone


def test_output_is_read_or_logged_and_the_exit_code_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Child.start(["sh", "-c", "echo out; echo err >&2; exit 3"], stdout=PIPE, log=log) as child:
        assert child.stdout is not None
        assert child.stdout.read() == b"out\n"
        assert child.wait(60) == 3
    assert child.log_tail() == "err"
    with Child.start(["sh", "-c", "echo one; echo two >&2"], log=log) as child:
        assert child.wait(60) == 0
    assert child.log_tail(2) == "one\ntwo"


def test_the_program_gets_no_input_its_own_session_and_no_stray_descriptor() -> None:
    script = "import os,sys; print(sys.stdin.read() == '', os.getsid(0) == os.getpid(), sorted(os.listdir('/dev/fd')))"
    with Child.start([sys.executable, "-c", script], stdout=PIPE) as child:
        assert child.stdout is not None
        # 3 is the listing itself.
        assert child.stdout.read().split(b" ", 2) == [b"True", b"True", b"['0', '1', '2', '3']\n"]


def test_stop_asks_then_kills_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = f"trap '' TERM; sleep 600 & echo $! $$ >{pids}; wait; sleep 600"
    child = Child.start(["sh", "-c", stubborn])
    assert eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    assert child.poll() is None
    assert child.stop(grace_s=0.2) == -signal.SIGKILL
    assert all(eventually(lambda p=int(p): gone(p)) for p in pids.read_text().split())  # type: ignore[misc]


def test_what_a_child_leaves_in_its_group_is_ended(tmp_path: Path) -> None:
    with Child.start(["sh", "-c", f"sleep 600 & echo $! >{tmp_path / 'pid'}"]) as child:
        assert child.wait(60) == 0
    assert eventually(lambda: gone(int((tmp_path / "pid").read_text())))


def test_stop_signals_are_sent_in_order(tmp_path: Path) -> None:
    script = "trap 'echo int' INT; trap 'exit 7' QUIT; sleep 600 & echo ready; while :; do wait; done"
    log = tmp_path / "log"
    child = Child.start(["sh", "-c", script], log=log, stop_signals=(signal.SIGINT, signal.SIGQUIT))
    assert eventually(lambda: log.exists() and "ready" in log.read_text())
    assert child.stop(grace_s=0.5) == 7
    assert log.read_text() == "ready\nint\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_child_dies_with_dbperf_and_its_folder_goes(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "throw away; it's"
    folder.mkdir()
    script = (
        "import sys, time; from pathlib import Path; from dbperf.processes import Child\n"
        "child = Child.start(['sh', '-c', 'sleep 600 & sleep 600'], remove=Path(sys.argv[1]))\n"
        "print(child.pid, child._guard.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    pid, guard = map(int, parent.stdout.readline().split())
    assert eventually(lambda: len(psutil.Process(pid).children()) == 2)
    sleepers = [p.pid for p in psutil.Process(pid).children()]
    parent.send_signal(how)
    parent.wait(60)
    parent.stdout.close()
    assert all(eventually(lambda p=p: gone(p)) for p in [pid, guard, *sleepers])  # type: ignore[misc]
    assert not folder.exists()


def test_a_missing_program_is_an_error_before_anything_starts() -> None:
    before = set(Path("/dev/fd").iterdir())
    with pytest.raises(ServerError, match="no program /nowhere/at-all"):
        Child.start(["/nowhere/at-all"])
    with pytest.raises(ServerError, match="helper can't be started"):
        Child.start(["true"], cwd="/nowhere", name="helper")
    assert set(Path("/dev/fd").iterdir()) == before


def test_no_descriptor_is_left_after_the_end() -> None:
    before = set(Path("/dev/fd").iterdir())
    with Child.start(["true"], stdout=PIPE):
        pass
    assert set(Path("/dev/fd").iterdir()) == before


def test_root_may_hand_the_program_to_another_account() -> None:
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    with Child.start(["id", "-un"], user=user if os.geteuid() == 0 else None, stdout=PIPE, cwd="/") as child:
        assert child.stdout is not None
        assert child.stdout.read().decode().strip() == user


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
