"""A folder in memory for what the tests write.

They make a hundred thousand files: each database is 300, each cluster 1,000. Where a file system is slow to make one
(ext4 without a journal looks for an inode that was not freed lately: 0.3 ms), that is a quarter of the suite's
processor time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

SHARED = Path("/dev/shm")
ROOM = 6 << 30
"""Bytes that must be free, as files and as memory: a run of the suite needs less than half of it."""
_NAME = f"dbpt{os.geteuid()}-"
"""Short, as sockets' paths may have 107 bytes."""


def use_memory() -> Path | None:
    """Temporary files of this process and its children go into a new folder in memory, which is returned.

    None, and nothing is done, where TMPDIR says where they shall go, as it does in a test process's children; where
    there is too little memory, or programs can't be started from it.
    """
    if os.environ.get("TMPDIR") or not _fits(SHARED):
        return None
    for left in SHARED.glob(f"{_NAME}[0-9]*"):  # of runs that failed or were killed
        if not psutil.pid_exists(int(left.name.removeprefix(_NAME))):
            shutil.rmtree(left, ignore_errors=True)
    folder = SHARED / f"{_NAME}{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)  # servers run as another user, whatever the umask
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def _fits(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    free = found.f_bavail * found.f_frsize
    return not found.f_flag & os.ST_NOEXEC and min(free, psutil.virtual_memory().available) >= ROOM
