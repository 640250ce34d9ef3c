"""The errors that dbperf raises on purpose. The command line turns each into one line, a hint and an exit code.

    DbperfError                  3  environment or data
    ├── UsageError               2  an option or argument that does not fit
    │   └── ConfigError          2  dbperf.toml, a suite file
    ├── RecordError              3  a file that dbperf wrote, or should have, and that can't be read
    ├── OutputError              3  a folder or file that can't be written
    ├── ServerError              3  a PostgreSQL server that can't be started, stopped or used
    │   ├── ConnectError         3  no connection: host, port, password, database
    │   │   └── DsnError         2  a connection string that can't be understood
    │   └── CapabilityError      3  an extension, privilege or setting is missing
    ├── PlanError                3  an EXPLAIN output that can't be read
    ├── StatementError           3  a statement that can't be planned, or may not be executed
    ├── TargetError              3  the HTTP API does not answer, or not as it should
    ├── GitHubError              3  GitHub does not answer, or refuses
    └── Interrupted            130  Ctrl-C or SIGTERM; what was measured is kept

Exit codes: 0 fine, 1 a regression or a missed service level (a result, not an error), 2 usage or configuration,
3 environment or data, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_MISSED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130


class DbperfError(Exception):
    """Something went wrong that a person can act on.

    Args:
        message: what happened, to which object; one line, no password or literal in it.
        hint: what to do about it; None where nothing helps.
        exit_code: overrides the class's own.
    """

    exit_code: int = EXIT_ENVIRONMENT

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(DbperfError):
    """An option or argument does not fit."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """dbperf.toml or a suite file says something that dbperf does not understand."""


class RecordError(DbperfError):
    """A run directory or one of its files can't be read."""


class OutputError(DbperfError):
    """A folder or file can't be written."""


class ServerError(DbperfError):
    """A PostgreSQL server can't be started, stopped or used."""


class ConnectError(ServerError):
    """No connection to PostgreSQL."""


class DsnError(ConnectError):
    """A connection string that can't be understood: a slip in an option or a setting, not in a server."""

    exit_code = EXIT_USAGE


class CapabilityError(ServerError):
    """The server lacks an extension, privilege or setting that the work needs."""


class PlanError(DbperfError):
    """A text or document is no EXPLAIN output that can be read."""


class StatementError(DbperfError):
    """A statement can't be planned, or is not proven to be read-only."""


class TargetError(DbperfError):
    """The HTTP API does not answer, or not as it should."""


class GitHubError(DbperfError):
    """GitHub does not answer, or refuses."""


class Interrupted(DbperfError):
    """The user (Ctrl-C) or the system (SIGTERM) ended the work."""

    exit_code = EXIT_INTERRUPTED


def did_you_mean(given: str, valid: Iterable[str]) -> str | None:
    """A hint naming the valid word nearest to `given`, or all valid ones where none is near.

    >>> did_you_mean("durration", ["duration", "users"])
    "did you mean 'duration'?"
    >>> did_you_mean("x", ["b", "a"])
    'valid: a, b'
    """
    words = sorted(valid)
    if near := get_close_matches(given, words, n=1):
        return f"did you mean {near[0]!r}?"
    return f"valid: {', '.join(words)}" if words else None
