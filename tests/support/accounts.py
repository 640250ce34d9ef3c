"""Running dbperf as root and as an ordinary user, whichever of them runs the tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def ordinary_user(args: list[str], home: Path) -> list[str]:
    """The command line that runs Python as an account without privileges, with `home` as its home folder.

    Where the tests run as root, the interpreter itself may lie in a folder that other accounts can't enter, so the
    account is given leave to read (and nothing else); it can't write where `nobody` can't.
    """
    env = ["env", "-u", "XDG_CACHE_HOME", f"HOME={home}", sys.executable, "-P", *args]
    if os.geteuid() != 0:
        return env
    shutil.chown(home, "nobody", "nogroup")
    may_read = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *may_read, *env]
