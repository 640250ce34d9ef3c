"""What dbperf starts: ``python loadtests/main.py``. See driver.py."""

from __future__ import annotations

import sys
from pathlib import Path


def start() -> None:
    # This folder's parent takes the script's place on the path, before the working directory can offer a package of
    # the same name; the imports that depend on it come after.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from loadtests.driver import main

    main()


if __name__ == "__main__":
    start()
