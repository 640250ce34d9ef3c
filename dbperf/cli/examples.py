"""Examples below `--help` in a narrow terminal: what does not fit is broken where a shell allows it."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Any

_PARTS = re.compile(r"^( *)(\S.*?)(?: {3,}(\S.*))?$")
"""Indentation, a command, and what it does, set apart by three spaces or more."""
_INDENT = 2
"""That the help formatter puts before each line."""


def fit(command: Any, width: int) -> None:
    """Breaks the examples of a command and of those below it, in place, for so many characters."""
    if command.epilog:
        command.epilog = fitted(command.epilog, width - _INDENT)
    for child in getattr(command, "commands", {}).values():
        fit(child, width)


def fitted(epilog: str, width: int) -> str:
    r"""The lines, none longer than `width` where that is possible: an explanation goes below its command, a command
    goes on behind a backslash.

    >>> print(fitted("  dbperf up --port 8000     a quiet place", 30))
      dbperf up --port 8000
          a quiet place
    >>> print(fitted("  dbperf verify --dsn D --workload queries/", 32))
      dbperf verify --dsn D \
          --workload queries/
    """
    lines: list[str] = []
    for line in epilog.splitlines():
        parts = _PARTS.match(line)
        if len(line) <= width or parts is None:
            lines.append(line)
            continue
        indent, command, meaning = parts[1], parts[2], parts[3]
        if not command.lstrip().startswith(("dbperf ", "curl ")):
            # An explanation of the line above, or a sentence.
            inner = indent if len(indent) < width // 2 else " " * 6
            lines += [inner + part for part in wrap(command, width - len(inner))]
            continue
        lines += _command(indent, command, width)
        if meaning:
            lines += [indent + " " * 4 + part for part in wrap(meaning, width - len(indent) - 4)]
    return "\n".join(lines)


def _command(indent: str, command: str, width: int) -> list[str]:
    """A command over several lines, broken before options."""
    lines, now = [], indent + command
    while len(now) > width:
        at = now.rfind(" -", 0, width - 1)
        if at <= len(indent) + 4:
            break
        lines.append(f"{now[:at]} \\")
        now = indent + " " * 4 + now[at + 1 :]
    return [*lines, now]
