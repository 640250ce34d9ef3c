"""A git repository of its own that holds dbperf as it is, to be changed by a test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANALYZE = (
    "    found = await state.implementation.analyze(body.case_id, body.limit)\n    if found is None:\n        raise"
)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """dbperf with its SQL in a repository with one commit; the working tree is clean."""
    shutil.copytree(ROOT / "dbperf", folder / "dbperf")
    shutil.copytree(ROOT / "sql", folder / "sql")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".gitignore").write_text("__pycache__/\nreports/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "base")
    return folder


def slow_down_analyze(folder: Path, seconds: float) -> None:
    """Makes POST /reflection/analyze sleep before it answers; the change is not committed."""
    app = folder / "dbperf" / "phase3" / "app.py"
    text = app.read_text()
    assert text.count(ANALYZE) == 1
    app.write_text(text.replace(ANALYZE, f"    await asyncio.sleep({seconds})\n{ANALYZE}"))
