"""`python -m dbperf.cli.reference`: docs/cli.md, from the commands themselves. `make docs` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dbperf.cli.commands import COMMANDS
from dbperf.cli.generated import write_pages
from dbperf.cli.main import app as main_app
from dbperf.cli.main import command_named

WIDTH = 100
_HEAD = """\
# Commands

Written by `make docs` from the commands' own `--help`; a test fails when it drifts.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 a regression or a missed service level,
2 usage or configuration, 3 environment or data, 130 interrupted. `dbperf --install-completion` sets up the shell's
completion.
"""


def commands() -> tuple[tuple[str, Any], ...]:
    """Every command and subcommand with its words, such as ``dbperf flame diff``, in the order of `dbperf --help`."""
    return tuple(found for name in COMMANDS for found in _with_children(f"dbperf {name}", command_named(name)))


def _with_children(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _with_children(f"{path} {name}", child)


def reference() -> str:
    """docs/cli.md: each command's help, at a fixed width."""
    parts = [_HEAD, _section("dbperf", typer.main.get_command(main_app))]
    parts += [_section(path, command) for path, command in commands()]
    return "\n".join(parts)


def _section(path: str, command: Any) -> str:
    context = typer.Context(
        command,
        info_name=path,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        color=False,
        help_option_names=["-h", "--help"],
    )
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    return "\n".join([f"{'#' * (1 + len(path.split()))} `{path}`", "", "```text", *lines, "```", ""])


if __name__ == "__main__":
    page = Path("docs/cli.md")
    page.write_text(reference(), encoding="utf-8")
    for written in (page, *write_pages(Path())):
        print(written, file=sys.stderr)  # noqa: T201 - a script of the repository, not the library
