"""`python -m dbperf.phase3`: serves the reference target. `launch` starts it, with the settings in the environment."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvicorn

from dbperf.errors import DbperfError, TargetError
from dbperf.phase3.settings import Settings
from dbperf.postgres.connect import connected


async def check(settings: Settings) -> None:
    """Finds out before anybody listens whether there is anything to serve.

    Raises:
        ConnectError: no connection.
        TargetError: the tables are missing.
    """
    async with connected(settings.dsn, application_name=settings.application_name) as connection:
        if await connection.fetchval("SELECT to_regclass('case_bank')") is None:
            raise TargetError("the database has no table case_bank", hint="seed it with dbperf target up")


def main() -> int:
    """Serves until SIGINT or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dbperf.phase3")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    try:
        asyncio.run(check(Settings.from_environment()))
    except DbperfError as e:
        sys.stderr.write(f"{e.message}\n")
        return e.exit_code
    uvicorn.run(
        "dbperf.phase3.app:application",
        factory=True,
        host="127.0.0.1",
        port=options.port,
        workers=options.workers,
        access_log=False,
        log_level="warning",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
