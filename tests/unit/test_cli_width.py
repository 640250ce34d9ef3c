"""Long texts in a terminal of 80 columns break at words; in a file or a pipe they stay whole lines."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest


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
    "arguments", [("load", "--list"), ("advise", "--dsn", "postgresql://x", "--workload", "nowhere")], ids=" ".join
)
def test_what_is_long_breaks_at_words(arguments: tuple[str, ...]) -> None:
    lines = shown(*arguments).splitlines()
    assert max(map(len, lines)) <= 80
    piped = subprocess.run([sys.executable, "-m", "dbperf", *arguments], capture_output=True, text=True, check=False)
    whole = (piped.stdout + piped.stderr).splitlines()
    assert max(map(len, whole)) > 80
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(whole).split()), "the same words"


def test_a_path_stays_whole(tmp_path: Path) -> None:
    path = str(tmp_path / ("long" * 30))
    assert path in shown("report", path)
