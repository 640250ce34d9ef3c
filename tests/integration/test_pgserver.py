"""The servers of the tests end with the test process, however that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.pgserver import bindir_15
from tests.support.waiting import eventually, gone

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from tests.support.pgserver import PgServer
server = PgServer(Path(sys.argv[1]))
print(server.process.pid, server.folder, flush=True)
sys.stdin.read()
"""


def test_a_server_goes_with_the_process_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, bindir_15()], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        pid, folder = holder.stdout.readline().split()
        assert (Path(folder) / "data" / "postmaster.pid").read_text().startswith(pid)
        holder.kill()
    assert eventually(lambda: gone(int(pid)))
    assert eventually(lambda: not Path(folder).exists())
