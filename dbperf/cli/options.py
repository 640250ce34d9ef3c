"""Options that mean the same in every command, so that they are read, explained and written the same way.

Commands that print a result have ``--format`` and ``-o/--out FILE``; commands that make a run directory have
``-o/--out FOLDER`` for that.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer

Format = Annotated[Literal["text", "json", "markdown"], typer.Option("--format", help="How to print it.")]
"""What goes to stdout, or into ``--out``."""

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write it to a file instead of stdout.", metavar="FILE")]

Header = Annotated[
    list[str] | None, typer.Option("--header", help="Sent with each request; may be repeated.", metavar="'NAME: VALUE'")
]


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Characters of the terminal that will show the text; None where a file or a program takes it.

    Args:
        stream: where it goes, stdout by default.
    """
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def write_result(text: str, out: Path | None) -> None:
    """A command's result, on stdout or in a file, ending with one newline.

    Raises:
        OutputError: the file can't be written.
    """
    from dbperf.records.base import write_atomic

    text = text.rstrip("\n")
    if out is None:
        typer.echo(text)
    else:
        write_atomic(out, f"{text}\n".encode())
