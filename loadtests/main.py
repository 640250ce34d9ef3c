"""What dbperf starts: ``python loadtests/main.py``. See driver.py."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from pathlib import Path


def import_locust() -> None:
    """Imports Locust in half the time.

    Its import has gevent patch the standard library, and gevent asks 25 times who wants to hear of that: each time by
    reading what every installed distribution says of itself. Here all is read once.
    """
    read = metadata.entry_points
    metadata.entry_points = read().select
    try:
        import_module("locust")
    finally:
        metadata.entry_points = read


def start() -> None:
    # This folder's parent takes the script's place on the path, before the working directory can offer a package of
    # the same name; the imports that depend on it come after.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import_locust()
    from loadtests.driver import main

    main()


if __name__ == "__main__":
    start()
