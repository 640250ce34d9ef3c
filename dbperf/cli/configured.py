"""`dsn` of dbperf.toml is what `--dsn` says where neither the command line nor $DBPERF_DSN does, in every command that
looks at a database.

`run` and `load` read the whole file themselves. `bench` and `target` are left out: their `--dsn` changes what they do
with the reference target, which they would otherwise bring along, and `target up` creates tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbperf.errors import UsageError

OWN_WAY = frozenset({"run", "load", "bench", "target"})


def configure(command: Any) -> None:
    """Lets `--dsn` of a command, and of those below it, default to the file's; in place."""
    for param in getattr(command, "params", ()):
        if param.name == "dsn":
            needed, param.required = param.required, False
            param.callback = _needed_dsn if needed else _dsn
    for child in getattr(command, "commands", {}).values():
        configure(child)


def _dsn(context: Any, _: Any, given: str | None) -> str | None:
    # A file that was named goes before a database that nobody named. Options on the command line are read before this.
    if given is not None or any(context.params.get(file) is not None for file in ("plan", "shadow")):
        return given
    from dbperf.config import configured_dsn

    config = context.params.get("config")
    return configured_dsn(Path(config) if config is not None else None)


def _needed_dsn(context: Any, param: Any, given: str | None) -> str:
    dsn = _dsn(context, param, given)
    if dsn is None:
        raise UsageError(
            f"{context.command_path} needs a database",
            hint="give one with --dsn or $DBPERF_DSN, or write dsn into dbperf.toml",
        )
    return dsn
