"""The command line as a process: what it imports, and what becomes of its output."""

from __future__ import annotations

import os
import subprocess
import sys

from dbperf.cli.commands import COMMANDS


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\nfrom dbperf.cli.main import main\n"
        "try: main()\nfinally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.module not in done.stderr.split()
    for heavy in ("numpy", "asyncpg", "sqlalchemy", "altair", "fastapi"):
        assert heavy not in done.stderr.split()


def test_a_reader_that_goes_away_is_no_missed_service_level() -> None:
    """`dbperf run --help | head -0`: exit code 1 would say that a level was missed."""
    for command in (("--help",), ("run", "--help")):
        reads, writes = os.pipe()
        os.close(reads)
        args = [sys.executable, "-m", "dbperf", *command]
        done = subprocess.run(args, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writes)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
