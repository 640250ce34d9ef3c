"""Where and with what a run was made: machine, versions, git revision, the command with its secrets masked."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import psutil

from dbperf.masking import mask_secrets
from dbperf.postgres.dsn import mask_dsn
from dbperf.processes import usable_cpus
from dbperf.records.run import Host

_SECRET_OPTION = re.compile(r"^--(api-key|header|token|password)$")
_SECRET_ASSIGNMENT = re.compile(r"^(--(?:api-key|header|token|password))=.*", re.DOTALL)


def host() -> Host:
    """The machine and the share of it that this process may use."""
    uname = platform.uname()
    return Host(
        hostname=uname.node,
        system=f"{uname.system} {uname.release} {uname.machine}",
        python_version=platform.python_version(),
        cpu_model=_cpu_model(),
        cpu_count=usable_cpus(),
        memory_bytes=_memory_bytes(),
    )


def _memory_bytes() -> int:
    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: platform knows something there
    return platform.processor() or None


def git_revision(folder: Path) -> str | None:
    """HEAD of the repository around `folder`, "-dirty" appended where tracked files changed; None outside one."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", folder, *args], capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if (head := git("rev-parse", "HEAD")) is None:
        return None
    return head + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")


def masked_command(argv: list[str]) -> list[str]:
    """argv without passwords, keys and header values.

    >>> masked_command(["dbperf", "run", "--api-key", "k", "--dsn=postgresql://u:secret@h/d"])
    ['dbperf', 'run', '--api-key', '***', '--dsn=postgresql://u:***@h/d']
    >>> masked_command(["dbperf", "profile", "--while", "PGPASSWORD=secret psql -h h"])
    ['dbperf', 'profile', '--while', 'PGPASSWORD=*** psql -h h']
    """
    masked: list[str] = []
    hide_next = False
    for arg in argv:
        if hide_next:
            masked.append("***")
            hide_next = False
        elif _SECRET_OPTION.match(arg):
            masked.append(arg)
            hide_next = True
        elif m := _SECRET_ASSIGNMENT.match(arg):
            masked.append(f"{m[1]}=***")
        else:
            option, equals, value = arg.partition("=") if arg.startswith("--dsn=") else ("", "", arg)
            is_dsn = re.match(r"[A-Za-z][\w+.-]*://", value) or "password=" in value
            # A DSN's password may hold anything; elsewhere (--while 'PGPASSWORD=… psql …') there is a command around.
            masked.append(option + equals + mask_secrets(mask_dsn(value) if is_dsn else value))
    if masked:
        name = Path(masked[0]).name
        masked[0] = "dbperf" if name == "__main__.py" else name
    return masked
