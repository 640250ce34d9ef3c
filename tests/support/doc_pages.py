"""The pages of the documentation: their commands, the output that they show, and their links.

A fenced block of the language `console` shows commands behind `$ ` and what they print. In front of a block whose
output is checked stands `<!-- output: REGEX -->`: figures differ from run to run, so the shape is what is compared.
Indented blocks and blocks without a language may hold commands as well, a line that begins with `dbperf`.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dbperf.cli.reference import commands

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(p for p in (ROOT / "docs").glob("*.md") if p.name != "cli.md"), *ROOT.glob("README*.md")])
_FENCE = re.compile(
    r"(?:^<!-- output: (?P<shape>.*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)
_INDENTED = re.compile(r"^(?:    |\$ )(dbperf .*)$", re.MULTILINE)
_COMMENT = re.compile(r"\s{2,}#.*$|\s+#\s.*$")


class Step(NamedTuple):
    command: str
    output: str
    shape: str | None


def console(text: str) -> list[Step]:
    """The commands of a page's `console` blocks, each with the output below it. The shape is the block's last one's."""
    return [step for m in _FENCE.finditer(text) if m["language"] == "console" for step in _steps(m)]


def _steps(block: re.Match[str]) -> list[Step]:
    steps: list[Step] = []
    for part in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        steps.append(Step(_COMMENT.sub("", command).strip(), output.rstrip("\n"), None))
    if block["shape"]:
        steps[-1] = steps[-1]._replace(shape=block["shape"])
    return steps


def all_commands(text: str) -> list[Step]:
    """A page's commands in the order of the page: those of `console` blocks, and the `dbperf` lines of other ones."""
    found: list[Step] = []

    def lines(part: str) -> None:
        found.extend(Step(_COMMENT.sub("", m[1]).strip(), "", None) for m in _INDENTED.finditer(part))

    end = 0
    for m in _FENCE.finditer(text):
        lines(text[end : m.start()])
        end = m.end()
        if m["language"] == "console":
            found.extend(_steps(m))
        elif not m["language"]:
            lines("\n".join(f"    {line}" for line in m["body"].splitlines()))
    lines(text[end:])
    return found


def dbperf_commands(text: str) -> list[str]:
    """Every line of a page that calls dbperf, without its comment."""
    return [step.command for step in all_commands(text) if step.command.startswith("dbperf ")]


def blocks(text: str, language: str) -> list[str]:
    """The bodies of a page's fenced blocks of a language."""
    return [m["body"] for m in _FENCE.finditer(text) if m["language"] == language]


@cache
def known_commands() -> dict[str, Any]:
    """Every command by its words, to be read: making them takes 0.1 s."""
    return dict(commands())


def parse(line: str) -> None:
    """Reads a command line with the program's own parser, and runs nothing.

    Raises:
        Exception: whatever the command itself would say of a wrong option, value or argument.
    """
    words = shlex.split(line)
    for cut in ("|", ">", ">>", "&&"):
        words = words[: words.index(cut)] if cut in words else words
    known = known_commands()
    length = max(n for n in range(2, len(words) + 1) if " ".join(words[:n]) in known)
    name = " ".join(words[:length])
    with known[name].make_context(name, words[length:]):
        pass
