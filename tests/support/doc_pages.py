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
    found: list[Step] = []
    for m in _FENCE.finditer(text):
        if m["language"] != "console":
            continue
        steps: list[Step] = []
        for part in re.split(r"^\$ ", m["body"], flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            steps.append(Step(command.strip(), output.rstrip("\n"), None))
        if m["shape"]:
            steps[-1] = steps[-1]._replace(shape=m["shape"])
        found += steps
    return found


def dbperf_commands(text: str) -> list[str]:
    """Every line of a page that calls dbperf, without its comment."""
    fenced = [
        line for m in _FENCE.finditer(text) if m["language"] in ("", "console") for line in m["body"].splitlines()
    ]
    plain = _FENCE.sub("", text)
    lines = [line.removeprefix("$ ") for line in fenced] + [m[1] for m in _INDENTED.finditer(plain)]
    return [_COMMENT.sub("", line).strip() for line in lines if line.startswith("dbperf ")]


@cache
def _known() -> dict[str, Any]:
    return dict(commands())


def parse(line: str) -> None:
    """Reads a command line with the program's own parser, and runs nothing.

    Raises:
        Exception: whatever the command itself would say of a wrong option, value or argument.
    """
    words = shlex.split(line)
    for cut in ("|", ">", ">>", "&&"):
        words = words[: words.index(cut)] if cut in words else words
    known = _known()
    length = max(n for n in range(2, len(words) + 1) if " ".join(words[:n]) in known)
    name = " ".join(words[:length])
    with known[name].make_context(name, words[length:]):
        pass
