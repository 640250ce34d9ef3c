"""`make tutorial`: runs the tutorial's commands, and writes what they print into both its pages. Takes some minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.doc_pages import ROOT, console

PAGES = (ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial.ko.md")
MOST_LINES = 8


def environment() -> dict[str, str]:
    """Where `dbperf` is this checkout's, on a terminal of 80 columns without colours."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    author = {"GITHUB_ACTOR": "Kim", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", **author}


def printed(command: str, folder: Path, *, timeout_s: float = 240) -> str:
    """What a command line writes to stdout, without the last newline."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command}: {done.stderr}"
    return done.stdout.rstrip("\n")


def shortened(output: str) -> str:
    """The output, its middle left out where it is long."""
    lines = output.splitlines()
    return "\n".join([*lines[: MOST_LINES - 2], "…", lines[-1]] if len(lines) > MOST_LINES else lines)


def with_output(text: str, command: str, output: str) -> str:
    """A page with the output below a command replaced."""
    pattern = re.compile(rf"(^\$ {re.escape(command)}\n).*?(?=^```|^\$ )", re.MULTILINE | re.DOTALL)
    return pattern.sub(lambda m: f"{m[1]}{output}\n", text)


def main(folder: Path) -> None:
    """Runs everything; `folder` may hold runs already, which are then not measured again."""
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for step in console(pages[PAGES[0]]):
        kept = re.search(r"^dbperf run .*--out (\S+)", step.command)
        if kept and (folder / kept[1]).is_dir() and (folder / f"{Path(kept[1]).name}.txt").is_file():
            output = (folder / f"{Path(kept[1]).name}.txt").read_text().rstrip("\n")
        else:
            output = printed(step.command, folder, timeout_s=1800)
        sys.stderr.write(f"$ {step.command}\n{output}\n\n")
        pages = {page: with_output(text, step.command, shortened(output)) for page, text in pages.items()}
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
