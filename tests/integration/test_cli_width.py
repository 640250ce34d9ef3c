"""Long texts in a terminal of 80 columns break at words; in a file or a pipe they stay whole lines."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dbperf.cli.examples import fitted
from tests.support.cli import dbperf_here, environment
from tests.support.doc_pages import known_commands


def shown(*arguments: str, columns: int = 80) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dbperf", *arguments], stdin=its, stdout=its, stderr=its,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(its)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # Linux's way to say that nobody writes any more
        pass
    process.wait(60)
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "arguments",
    [("load", "--list"), ("report", "no such run " * 8), ("verify", "--help")],
    ids=lambda a: a[0],
)
def test_what_is_long_breaks_at_words(arguments: tuple[str, ...], tmp_path: Path) -> None:
    lines = shown(*arguments).splitlines()
    assert max(map(len, lines)) <= 80
    piped = dbperf_here(*arguments, env=environment(tmp_path), cwd=tmp_path)
    whole = (piped.stdout + piped.stderr).splitlines()
    assert max(map(len, whole)) > 80
    assert " ".join(lines).replace(" \\ ", " ").split() == " ".join(whole).split(), "the same words"


EPILOGS = [c.epilog for c in known_commands().values() if c.epilog]


def test_examples_fit_and_are_still_the_same_commands() -> None:
    long = 0
    for epilog in EPILOGS:
        text = fitted(epilog, 78)
        assert max(map(len, text.splitlines())) <= 78, text
        again = re.sub(r" \\\n +", " ", text)
        for line in epilog.splitlines():
            long += len(line) > 78
            if (command := re.match(r" *(dbperf .*?)(?: {3,}|$)", line)) is not None:
                assert command[1] in again
        assert " ".join(again.split()) == " ".join(epilog.split())
    assert long > 10


def test_a_path_stays_whole(tmp_path: Path) -> None:
    path = str(tmp_path / ("long" * 30))
    assert path in shown("report", path)
